"""What does latebolt take on disk, package by package, and how much of that does no search read?

Each row is an installation into an empty folder, and what its packages' own lists of files (RECORD) say,
without bytecode. "as pip installs it" is `latebolt[cpu]` with all that is required; "lean" leaves out what
only hub ids and other programs want (huggingface_hub with its transfer library, protobuf, ...), as an image
does by `pip install --no-deps`; "trimmed" is that after `latebolt trim --yes`; "one model" is that with the
starter alone.
Every installation but those of before must then index and search, in a process that sees nothing else.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, record

ROOT = Path(__file__).parents[1]
# What is imported by encoding, indexing and searching, beside latebolt itself.
LEAN = (
    "numpy",
    "onnxruntime",
    "tokenizers",
    "msgspec",
    "click",
    "tqdm",
    "filelock",
    "platformdirs",
    "pathspec",
)
BEFORE = ("numba", "llvmlite")  # required by versions up to 0.1.0
SEARCH = """
import sys, tempfile
from pathlib import Path
from latebolt.cli import run
with tempfile.TemporaryDirectory() as folder:
    notes = Path(folder) / "notes"
    notes.mkdir()
    (notes / "bread.md").write_text("Bread is baked in an oven.")
    (notes / "cat.md").write_text("A cat sleeps all day.")
    index = str(Path(folder) / "i")
    sys.exit(run(["index", index, str(notes), *sys.argv[1:]]) or run(["search", index, "baking", "-k", "1"]))
"""


def install(folder: Path, *words: str) -> None:
    """pip into a folder, without bytecode."""
    options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--target", str(folder))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *words], check=True)


def built_wheel(folder: Path, with_library: bool) -> Path:
    """Our wheel, of a copy of the tree: setuptools leaves its notes in what it builds.

    Args:
        with_library: of compiled kernels, as wheels of releases have one; made where the tree has none.
    """
    copy = folder / "source"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("engine", "export"):
        shutil.copytree(ROOT / name, copy / name, ignore=left_out)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    environment = {**os.environ, "PYTHONPATH": str(copy / "engine")}
    if with_library and not list((copy / "engine").rglob("kernels.so")):
        subprocess.run([sys.executable, "-m", "latebolt.kernels.build"], env=environment, check=True)
    if not with_library:
        environment["LATEBOLT_WHEEL"] = "any"
    build = "import setuptools.build_meta as b; b.build_wheel('dist')"
    (copy / "dist").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=copy, env=environment, check=True, capture_output=True)
    [made] = (copy / "dist").glob("*.whl")
    return made


def packages(folder: Path) -> dict[str, int]:
    """Bytes of each distribution's files that are there, without bytecode."""
    found = {}
    for each in importlib.metadata.distributions(path=[str(folder)]):
        paths = {Path(str(file.locate())) for file in each.files or () if not str(file).endswith(".pyc")}
        found[each.metadata["Name"]] = sum(path.stat().st_size for path in paths if path.is_file())
    return found


def row(kind: str, folder: Path) -> dict[str, Any]:
    """Megabytes in all and of the largest packages."""
    sizes = packages(folder)
    models = folder / "latebolt" / "models"
    of_models = sum(path.stat().st_size for path in models.rglob("*") if path.is_file())
    runtime = sum(sizes.get(name, 0) for name in ("onnxruntime", "numpy"))
    own = sizes["latebolt"] - of_models
    rest = sum(sizes.values()) - of_models - runtime - own
    parts = {"onnxruntime_numpy": runtime, "models": of_models, "latebolt": own, "others": rest}
    megabytes = {f"{name}_MB": size / 1e6 for name, size in parts.items()}
    listed = {name: round(size / 1e6, 2) for name, size in sorted(sizes.items(), key=lambda each: -each[1])}
    return {"kind": kind, "MB": sum(sizes.values()) / 1e6, **megabytes, "packages": listed}


def run_in(folder: Path, kernels: str, *words: str) -> None:
    """Python with that folder and the standard library alone; kernels: "ahead" for none compiled here."""
    own = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "LATEBOLT_KERNELS": kernels}
    environment = {**os.environ, **own}
    subprocess.run([sys.executable, "-S", *words], env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Install, measure, prove, and keep a record."""
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        wheel = built_wheel(work, with_library=not given.quick)
        jit = BEFORE if given.quick else ()  # a wheel without compiled kernels compiles them where it runs
        kernels = "" if given.quick else "ahead"
        rows = []
        if not given.quick:
            install(work / "before", f"{wheel}[cpu]", *BEFORE, "huggingface_hub")
            rows.append(row("as pip installed it, with the compiler", work / "before"))
            install(work / "whole", f"{wheel}[cpu]")
            rows.append(row("as pip installs it", work / "whole"))
        lean = work / "lean"
        install(lean, "--no-deps", str(wheel), *LEAN, *jit)
        rows.append(row("lean", lean))
        run_in(lean, kernels, "-c", SEARCH)
        run_in(lean, kernels, "-m", "latebolt", "trim", "--yes")
        rows.append(row("trimmed", lean))
        run_in(lean, kernels, "-c", SEARCH)
        shutil.rmtree(lean / "latebolt" / "models" / "multilingual")
        rows.append(row("one model", lean))
        run_in(lean, kernels, "-c", SEARCH)
    record("footprint", rows, quick=given.quick)


if __name__ == "__main__":
    main()
