"""The layers of the engine: an import may only point down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import latebolt

ENGINE = Path(latebolt.__file__).parent

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "contract": {"errors"},
    "checks": {"errors"},
    "caches": set(),
    "drafts": {"errors"},
    "values": {"errors"},
    "onnx_runtime": {"errors"},
    "progress": set(),
    "cpus": set(),
    "threads": {"cpus"},
    "corpus": {"checks", "errors"},
    "kernels": {"caches", "errors", "threads"},
    "codec": {"kernels", "errors"},
    "rerank": {"checks", "kernels", "values", "errors"},
    "formats": {"caches", "contract", "errors"},
    "encoder": {
        "checks",
        "contract",
        "formats",
        "onnx_runtime",
        "rerank",
        "values",
        "progress",
        "threads",
        "errors",
    },
    "index": {"checks", "encoder", "codec", "kernels", "rerank", "values", "progress", "threads", "errors"},
    "evaluate": {
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
    "cost": {"codec", "index", "errors"},
    "serve": {"checks", "corpus", "encoder", "index", "rerank", "values", "threads", "errors"},
    "adapters": {"checks", "encoder", "index", "onnx_runtime", "rerank", "values", "progress", "errors"},
    "cli": {
        "caches",
        "checks",
        "drafts",
        "adapters",
        "serve",
        "encoder",
        "index",
        "rerank",
        "evaluate",
        "onnx_runtime",
        "cost",
        "corpus",
        "kernels",
        "values",
        "threads",
        "errors",
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
