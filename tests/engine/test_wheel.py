"""What a user installs: the wheel has every file of both packages and nothing else, and stays small."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"latebolt": ROOT / "engine" / "latebolt", "latebolt_export": ROOT / "export" / "latebolt_export"}
# Code, markers of types, and data; notes for developers stay in the repository.
CODE, DATA = (
    {".py", ".typed", ".html", ".css", ".js", ".svg", ".sh"},
    {".onnx", ".json", ".safetensors", ".npy"},
)
TEXTS = {".md", ".txt"}
MOST_BYTES = 95_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("engine", "export"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    (folder / "dist").mkdir()
    build = "import setuptools.build_meta as b; b.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
    [made] = (folder / "dist").glob("*.whl")
    return made


def test_the_wheel_has_the_packages_files_and_no_others(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        described = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    assert {Path(name).suffix for name in packed} - {""} <= CODE | DATA | TEXTS
    assert {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"} <= described


def test_the_wheel_holds_both_models_and_stays_small(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        models = {name.split("/")[2] for name in archive.namelist() if name.startswith("latebolt/models/")}
    assert models == {"starter", "multilingual"} and wheel.stat().st_size < MOST_BYTES


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
