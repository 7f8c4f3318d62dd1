"""What a user installs: the wheel has every file of both packages and nothing else, and stays small; one that
carries compiled kernels is of their platform and requires no compiler."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import check_wheels
from latebolt import unread
from latebolt.kernels import names, targets
from latebolt.kernels.ahead import manifest
from latebolt.kernels.build import DIMS, PLATFORMS
from quick_benchmarks import benchmark

ROOT = Path(__file__).parents[2]
PACKAGES = {"latebolt": ROOT / "engine" / "latebolt", "latebolt_export": ROOT / "export" / "latebolt_export"}
# Code, markers of types, and data; notes for developers stay in the repository.
CODE, DATA = (
    {".py", ".typed", ".html", ".css", ".js", ".svg", ".sh"},
    {".onnx", ".json", ".safetensors", ".npy"},
)
TEXTS = {".md", ".txt"}
MOST_BYTES = 95_000_000
MODELS = "latebolt/models/"
# What these take where it is there, and do without: types, and compilers that a wheel with kernels replaces.
BESIDE = ("typing_extensions", "cython_runtime", "numba", "llvmlite")
BUILT = "kernels/ahead/built"


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What an installation without dependencies names beside latebolt: what encoding, indexing and searching
    load."""
    found: tuple[str, ...] = benchmark("footprint", monkeypatch).LEAN
    return found


def copy_of_the_tree(folder: Path, *without: str) -> None:
    """What wheels are made of, without libraries of kernels that were built here."""
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "built", *without)
    for name in ("engine", "export"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)


def build(folder: Path, carried: str, what: str = "wheel") -> subprocess.CompletedProcess[str]:
    """Build in a tree, as pip does."""
    (folder / "dist").mkdir(exist_ok=True)
    code = f"import setuptools.build_meta as b; b.build_{what}('dist')"
    environment = {**os.environ, "LATEBOLT_WHEEL": carried}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy_of_the_tree(folder)
    build(folder, "any").check_returncode()
    [made] = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources without models, and a library a platform: some bytes, which nobody loads here."""
    copy_of_the_tree(tmp_path, "models", "latebolt_export")
    for name in PLATFORMS:
        folder = tmp_path / "engine" / "latebolt" / BUILT / name
        folder.mkdir(parents=True)
        code = name.encode() * 1000
        (folder / manifest.LIBRARY).write_bytes(code)
        kernels = sum(len(names.compiled_for(DIMS, isa)) for isa in targets.INSTRUCTION_SETS[PLATFORMS[name]])
        about = {
            "platform": name, "sources": manifest.sources_digest(), "size": len(code),
            "library": manifest.digest(code), "kernels": kernels,
        }  # fmt: skip
        (folder / manifest.MANIFEST).write_text(json.dumps(about))
    return tmp_path


def requirements(wheel: Path) -> set[str]:
    """Names of what a wheel requires whoever installs it."""
    with zipfile.ZipFile(wheel) as archive:
        [described] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        lines = archive.read(described).decode().splitlines()
    named = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    return {re.split(r"[^\w-]", line)[0] for line in named if "extra ==" not in line}


def test_a_wheel_carries_one_platforms_kernels_or_requires_what_compiles_them(tree, wheel):
    """Built one after the other in one tree, as `make wheels` does, and checked as there."""
    for carried in (*PLATFORMS, "any"):
        made = build(tree, carried)
        assert made.returncode == 0, made.stderr
    dist = tree / "dist"
    assert check_wheels.main(dist) == 0
    found = {path.stem.rpartition("-")[2]: path for path in dist.iterdir()}
    assert found.keys() == {
        "manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_17_aarch64.manylinux2014_aarch64", "any",
    }  # fmt: skip
    everywhere = requirements(wheel)
    assert requirements(found["any"]) == everywhere > {"numba", "llvmlite", "numpy"}
    for name in found.keys() - {"any"}:
        assert requirements(found[name]) == everywhere - {"numba", "llvmlite"}
        assert "-py3-none-" in found[name].name
    (dist / found["any"].name).rename(dist / found["any"].name.replace("any", "manylinux_2_17_x86_64"))
    assert check_wheels.main(dist) == 1


def test_a_library_of_other_sources_goes_into_no_wheel(tree):
    path = tree / "engine" / "latebolt" / BUILT / "linux-aarch64" / manifest.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "sources": "0" * 24}))
    refused = build(tree, "linux-aarch64")
    assert (
        refused.returncode
        and "made from other sources. Run `python -m latebolt.kernels.build" in refused.stderr
    )
    assert "should be linux-x86_64" in build(tree, "linux-sparc").stderr
    path.unlink()
    assert "has no library of kernels" in build(tree, "linux-aarch64").stderr


def test_the_sources_carry_no_library(tree):
    assert build(tree, "", "sdist").returncode == 0
    [packed] = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        inside = archive.getnames()
        [described] = [name for name in inside if name.count("/") == 1 and name.endswith("/PKG-INFO")]
        about = archive.extractfile(described)
        assert about is not None and re.search(rb"(?m)^Requires-Dist: numba[^;]*$", about.read())
    assert not [name for name in inside if "built" in name]
    assert {"setup.py", "pyproject.toml"} <= {name.partition("/")[2] for name in inside}


def test_the_wheel_has_the_packages_files_and_no_others(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        described = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", "built"} & set(path.parts)
    }
    assert packed == expected
    assert {Path(name).suffix for name in packed} - {""} <= CODE | DATA | TEXTS
    assert {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"} <= described


def test_the_wheel_holds_both_models_and_stays_small(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        models = {name.split("/")[2] for name in archive.namelist() if name.startswith("latebolt/models/")}
    assert models == {"starter", "multilingual"} and wheel.stat().st_size < MOST_BYTES


def test_nothing_large_is_in_the_wheel_twice_and_code_stays_small(wheel: Path):
    """Bytes on disk once it is installed: models, and all else, a library of compiled kernels included."""
    with zipfile.ZipFile(wheel) as archive:
        large = [each for each in archive.infolist() if each.file_size > 100_000]
        assert len({(each.CRC, each.file_size) for each in large}) == len(large)
        models = sum(each.file_size for each in archive.infolist() if MODELS in each.filename)
        others = sum(each.file_size for each in archive.infolist()) - models
    assert models < 88_000_000 and others < 9_000_000


def test_what_a_search_needs_takes_220_mb_at_most(wheel: Path, lean: tuple[str, ...]):
    """The packages that a lean installation has, after `latebolt trim`, and the wheel with both models."""
    gone = set(unread.find())
    files = [Path(str(file.locate())) for name in lean for file in importlib.metadata.files(name) or ()]
    kept = [path for path in files if path not in gone and path.suffix != ".pyc" and path.is_file()]
    with zipfile.ZipFile(wheel) as archive:
        own = sum(each.file_size for each in archive.infolist())
    assert own + sum(path.stat().st_size for path in kept) < 220_000_000


def test_the_page_installs_the_lean_ones(lean: tuple[str, ...]):
    page = (ROOT / "docs" / "edge.md").read_text()
    assert f"--no-deps latebolt {' '.join(lean)}\n" in page


def test_a_search_loads_no_package_but_the_lean_ones(tmp_path: Path, lean: tuple[str, ...]):
    """So an installation without the others works."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("Bread is baked in an oven.")
    code = f"""
import sys
from latebolt.cli import run
assert run(["index", {str(tmp_path / "i")!r}, {str(tmp_path / "notes")!r}]) == 0
assert run(["search", {str(tmp_path / "i")!r}, "baking"]) == 0
print(*{{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = {name for name in done.stdout.splitlines()[-1].split() if not name.startswith("_")}
    assert "tokenizers" in loaded and loaded <= {*lean, *BESIDE, "latebolt"}, loaded


def test_what_the_wheel_unpacks_runs_by_itself(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import latebolt;"
        "assert latebolt.__file__.startswith(sys.argv[1]), latebolt.__file__;"
        "encoder = latebolt.Encoder.load('starter');"
        "print(encoder.rerank('bread', ['a cat', 'fresh bread'], k=1)[0].id)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
