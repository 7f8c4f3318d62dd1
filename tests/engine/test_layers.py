"""The layers of the engine and the rooms of its largest packages: an import may only point down."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import latebolt

ENGINE = Path(latebolt.__file__).parent

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "system": set(),
    "file_lock": {"system"},
    "hits": set(),
    "client": {"checks", "hits", "errors"},
    "arrays": set(),
    "confidence": {"errors"},
    "contract": {"errors"},
    "checks": {"errors"},
    "caches": {"system"},
    "drafts": {"system", "errors"},
    "values": {"arrays", "hits", "errors"},
    "onnx_runtime": {"errors"},
    "devices": {"onnx_runtime", "errors"},
    "garbage": set(),
    "progress": set(),
    "cgroups": set(),
    "unread": set(),
    "cpus": {"cgroups", "system"},
    "memory": {"cgroups", "system"},
    "threads": {"system", "cpus"},
    "corpus": {"garbage", "system", "checks", "errors"},
    "kernels": {"arrays", "caches", "cpus", "drafts", "errors", "garbage", "progress", "system", "threads"},
    "codec": {"arrays", "kernels", "errors"},
    "gpu": {"system", "arrays", "kernels", "codec", "devices", "onnx_runtime", "errors"},
    "scoring": {"arrays", "checks", "confidence", "devices", "gpu", "hits", "kernels", "values", "errors"},
    "alignment": {"arrays", "hits", "scoring"},
    "formats": {"caches", "contract", "errors"},
    "encoder": {
        "hits",
        "arrays",
        "checks",
        "confidence",
        "contract",
        "cpus",
        "devices",
        "gpu",
        "memory",
        "formats",
        "onnx_runtime",
        "scoring",
        "values",
        "progress",
        "threads",
        "errors",
    },
    "index": {
        "file_lock",
        "system",
        "hits",
        "arrays",
        "alignment",
        "checks",
        "confidence",
        "cpus",
        "devices",
        "drafts",
        "encoder",
        "codec",
        "gpu",
        "kernels",
        "memory",
        "values",
        "progress",
        "threads",
        "errors",
    },
    "sharding": {
        "arrays",
        "checks",
        "codec",
        "confidence",
        "cpus",
        "drafts",
        "encoder",
        "errors",
        "hits",
        "index",
        "progress",
        "values",
    },
    "bundle": {"confidence", "contract", "drafts", "encoder", "formats", "progress", "errors"},
    "sync": {"checks", "corpus", "drafts", "errors", "index"},
    "evaluate": {
        "hits",
        "arrays",
        "caches",
        "checks",
        "drafts",
        "encoder",
        "index",
        "codec",
        "kernels",
        "formats",
        "values",
        "corpus",
        "progress",
        "threads",
        "errors",
    },
    "objects": {"caches", "checks", "file_lock", "index", "progress", "sharding", "system", "errors"},
    "aio": {"checks", "cpus", "encoder", "hits", "index", "values", "errors"},
    "cost": {"codec", "index", "errors"},
    "capacity": {"cost", "errors"},
    "serve": {
        "sharding",
        "file_lock",
        "system",
        "hits",
        "arrays",
        "alignment",
        "checks",
        "corpus",
        "cpus",
        "devices",
        "drafts",
        "encoder",
        "gpu",
        "index",
        "scoring",
        "values",
        "threads",
        "errors",
    },
    "adapters": {
        "serve",
        "sharding",
        "hits",
        "arrays",
        "checks",
        "encoder",
        "index",
        "onnx_runtime",
        "scoring",
        "values",
        "progress",
        "errors",
    },
    "agents": {"aio", "checks", "encoder", "hits", "index", "serve", "errors"},
    "cli": {
        "objects",
        "sharding",
        "unread",
        "system",
        "agents",
        "bundle",
        "hits",
        "client",
        "sync",
        "caches",
        "checks",
        "cpus",
        "devices",
        "drafts",
        "gpu",
        "adapters",
        "serve",
        "encoder",
        "index",
        "alignment",
        "evaluate",
        "onnx_runtime",
        "capacity",
        "cost",
        "corpus",
        "kernels",
        "memory",
        "values",
        "progress",
        "threads",
        "errors",
    },
}

# Rooms of a package: folders, and modules beside them, each with what it may import of the same package.
ROOMS: dict[str, dict[str, set[str]]] = {
    "latebolt.kernels": {
        "shapes": set(),
        "targets": set(),
        "reference": {"shapes"},
        "names": {"shapes", "targets"},
        "vector": {"targets", "shapes"},
        "programs": {"vector", "targets", "shapes"},
        "compiler": {"targets"},  # and `programs` by name, in a process that has to compile
        "compiled": {"compiler"},
        "ahead": {"compiler", "names", "targets", "shapes"},
        "host": {"ahead", "compiler", "targets"},
        "isa": {"host", "targets"},
        "native": {"ahead", "compiled", "isa", "shapes", "targets"},
        "maxsim": {"native", "isa", "names", "targets", "shapes"},
        "centroids": {"maxsim", "native", "names", "shapes"},
        "groups": {"isa", "maxsim", "native", "targets", "shapes"},
        "lists": {"maxsim", "native", "shapes"},
        "list_centroids": {"groups", "maxsim", "native", "shapes"},
        "residual": {"maxsim", "native", "shapes"},
        "build": {"ahead", "targets"},
    },
    "latebolt.corpus": {
        "open": set(),
        "gitignore": set(),
        "readers": {"open"},
        "files": {"gitignore", "readers"},
        "documents": {"files", "readers", "open"},
        "stdlib": {"documents"},
        "naming": {"documents"},
        "json_lines": set(),
    },
    "latebolt.index": {
        "format": set(),
        "documents": {"format"},
        "filters": {"documents"},
        "store": {"filters", "documents", "format"},
        "search": {"store", "filters", "documents"},
        "ingest": {"store", "filters", "documents", "format"},
        "places": {"store"},
        "index": {"places", "search", "ingest", "store", "filters", "documents", "format"},
        "reencode": {"index", "filters"},
    },
    "latebolt.sharding": {
        "placement": set(),
        "set_file": {"placement"},
        "protocol": set(),
        "part": set(),
        "service": {"part", "protocol", "set_file"},
        "local": {"protocol", "service"},
        "gather": {"protocol"},
        "merging": {"protocol"},
        "spreading": {"placement", "set_file"},
        "splitting": {"placement", "set_file", "spreading"},
        "checking": {"placement", "set_file"},
        "changing": {"gather", "placement", "protocol"},
        "searching": {"gather", "merging", "protocol"},
        "sharded_index": {
            "changing",
            "gather",
            "local",
            "merging",
            "placement",
            "protocol",
            "searching",
            "set_file",
        },
    },
    "latebolt.serve": {
        "patient_lines": set(),
        "log": {"patient_lines"},
        "settings": set(),
        "problems": set(),
        "held_bodies": set(),
        "metrics_summary": set(),
        "process_figures": set(),
        "gpu_figures": set(),
        "metrics": {"log", "process_figures", "gpu_figures"},
        "keys": {"log"},
        "engine": {"log", "metrics", "problems"},
        "state": {"engine", "held_bodies", "keys", "log", "metrics", "problems", "settings"},
        "http": {
            "state",
            "engine",
            "held_bodies",
            "keys",
            "log",
            "metrics",
            "metrics_summary",
            "problems",
            "settings",
        },
        "listening": set(),
        "hangup": set(),
        "ownership": set(),
        "workers": {"log"},
        "process": {
            "hangup",
            "http",
            "state",
            "keys",
            "listening",
            "log",
            "metrics",
            "ownership",
            "settings",
            "workers",
        },
    },
    "latebolt_export": {
        "memory": set(),
        "requirements": set(),
        "sessions": set(),
        "draft_folder": set(),
        "calibrate": {"judge"},
        "source": {"requirements"},
        "graph": {"source", "requirements", "sessions"},
        "torch": {"graph", "source", "requirements"},
        "judge": {"requirements", "sessions"},
        "variants": {"graph", "judge", "source", "memory"},
        "pipeline": {
            "variants",
            "torch",
            "graph",
            "judge",
            "source",
            "draft_folder",
            "memory",
            "requirements",
        },
        "recipe": {"pipeline", "source"},
        "starter": {"recipe", "pipeline", "source", "requirements"},
        "multilingual": {"recipe", "pipeline", "source", "requirements"},
        "fit_head": {"starter", "multilingual", "recipe"},
        "cut_vocabulary": {"multilingual", "recipe", "source"},
    },
}


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "latebolt"


def imports_of(root: Path) -> Iterator[tuple[str, str]]:
    """(module, latebolt module it imports), function bodies included, type-checking blocks too."""
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "latebolt":
                names = (
                    [f"latebolt.{a.name}" for a in node.names] if node.module == "latebolt" else [node.module]
                )
                yield from ((module, name or "") for name in names)


def test_imports_point_downward():
    tuple(TopologicalSorter(ALLOWED).static_order())  # raises CycleError
    public = {
        "latebolt.Encoder",
        "latebolt.Index",
        "latebolt.TokenVectors",
        "latebolt.Hit",
        "latebolt.maxsim",
    }
    for module, imported in imports_of(ENGINE):
        if module in ("latebolt", "latebolt.__main__") or imported == "latebolt.__version__":
            continue
        if imported in public:
            assert layer_of(module) == "cli", f"{module} must import {imported} from its home"
            continue
        layer = layer_of(module)
        assert layer_of(imported) in ALLOWED[layer] | {layer}, f"{module} must not import {imported}"


def folder_of(package: str) -> Path:
    source = "export" if package.startswith("latebolt_export") else "engine"
    return Path(__file__).parents[2].joinpath(source, *package.split("."))


def room_arrows(package: str) -> Iterator[tuple[str, str, str]]:
    """(module, its room, room it imports), within a package."""
    folder = folder_of(package)
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts == ("__init__",):  # hands the package's names on
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are written in full"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.startswith(package + "."):
                    room = name[len(package) + 1 :].split(".")[0]
                    if room != parts[0]:
                        yield ".".join((package, *parts)), parts[0], room


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_have_one_direction(package):
    tuple(TopologicalSorter(ROOMS[package]).static_order())  # raises CycleError
    rooms = {
        p.stem for p in folder_of(package).iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == ROOMS[package].keys()
    arrows = list(room_arrows(package))
    for module, room, imported in arrows:
        assert imported in ROOMS[package][room], f"{module} must not import {package}.{imported}"
    used = {(room, imported) for _, room, imported in arrows}
    allowed = {(room, to) for room, below in ROOMS[package].items() for to in below}
    assert used == allowed, "the table allows what nothing does any more"


def test_public_names():
    expected = ["Encoder", "Hit", "Index", "LateboltError", "TokenVectors", "__version__", "maxsim"]
    assert sorted(latebolt.__all__) == expected
    for name in expected:
        assert getattr(latebolt, name) is not None


def test_only_the_command_line_prints():
    for path in ENGINE.rglob("*.py"):
        if "cli" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                assert not (isinstance(node, ast.Name) and node.id == "print"), path


def test_files_of_tests_have_names_of_their_own():
    """pytest imports a file by its name alone: of two in one suite it leaves one out, with an error."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, n in names.items() if n > 1] == []
