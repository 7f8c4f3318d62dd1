"""The engine's tests of kernels, codec, index and command line, on every Python that this machine has.

    python tests/pythons.py                    # 3.12, 3.13 and 3.14
    python tests/pythons.py 3.14 -- -k lock    # one of them, with other arguments for pytest

An interpreter is looked for on PATH, in build/python-3.14 (tests/debian_python.py), in pyenv's folder and in
uv's, which is asked to install one where it can. The last lines are a table; a version that is not found is
skipped and told, and only a failed test or installation fails the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
VERSIONS = ("3.12", "3.13", "3.14")
# What needs no adapter's framework, no browser and no torch.
TESTS = ("kernels", "codec", "index", "cli", "test_platforms.py", "test_drafts.py", "test_caches.py")
EXTRAS = "cpu,eval,serve,client,watch,mcp,objects,dev"
# What the standard library loses where its C libraries were missing when it was built.
WANTED = (
    "import sys, bz2, ctypes, lzma, sqlite3, ssl, zlib;"
    "print('%d.%d %s' % (*sys.version_info[:2], sys.version.split()[0]))"
)


class Python(NamedTuple):
    """An interpreter that works, and its full version."""

    path: Path
    version: str


class Outcome(NamedTuple):
    """A line of the table."""

    version: str
    passed: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    told: str = ""


def candidates(version: str, environment: dict[str, str], home: Path) -> Iterable[Path]:
    """Where an interpreter of a version may lie, the likeliest first; not all of them are there."""
    name = f"python{version}"
    for folder in environment.get("PATH", "").split(os.pathsep):
        yield Path(folder or ".", name)
    yield PROJECT / "build" / f"python-{version}" / "usr/bin" / name
    pyenv = Path(environment.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(environment.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    for folder, pattern in ((pyenv / "versions", f"{version}*"), (uv, f"cpython-{version}*")):
        if folder.is_dir():
            for each in sorted(folder.glob(pattern), reverse=True):
                yield each / "bin" / name


def find(version: str, environment: dict[str, str], home: Path) -> tuple[Python | None, str]:
    """An interpreter that is whole, else why there is none."""
    problem = f"no python{version} on PATH, in build/python-{version}, or in the folders of pyenv and uv"
    for path in candidates(version, environment, home):
        if not path.is_file():
            continue
        done = subprocess.run([path, "-c", WANTED], capture_output=True, text=True)
        number, _, full = done.stdout.strip().partition(" ")
        if done.returncode == 0 and number == version:
            return Python(path, full), ""
        problem = f"{path} does not work: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    return None, problem


def installed_by_uv(version: str) -> None:
    """Ask uv for an interpreter, where uv is; what it cannot have, `find` says."""
    uv = shutil.which("uv") or PROJECT / ".venv-uv/bin/uv"
    if Path(uv).exists():
        subprocess.run([uv, "python", "install", "--quiet", version], capture_output=True, timeout=300)


def counted(report: Path, version: str, seconds: float) -> Outcome:
    """A line of the table out of pytest's report in JUnit's form."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    tests, skipped, failures, errors = (
        int(suite.get(name, "0")) for name in ("tests", "skipped", "failures", "errors")
    )
    failed = failures + errors
    return Outcome(version, tests - skipped - failed, skipped, failed, seconds)


def table(outcomes: Sequence[Outcome]) -> str:
    """The table, in Markdown, as docs/platforms.md shows it."""
    lines = ["| Python | passed | skipped | failed | seconds |", "| --- | --- | --- | --- | --- |"]
    for each in outcomes:
        cells = (
            f"{each.passed} | {each.skipped} | {each.failed} | {each.seconds:.0f}"
            if not each.told
            else f"{each.told} | | |"
        )
        lines.append(f"| {each.version} | {cells} |")
    return "\n".join(lines)


def tested(python: Python, arguments: Sequence[str]) -> Outcome:
    """Install for one interpreter and run the tests."""
    short = ".".join(python.version.split(".")[:2])
    folder = PROJECT / f".venv-python-{short}"
    ready = folder / ".ready"
    described = max(each.stat().st_mtime for each in (PROJECT / "pyproject.toml", Path(__file__)))
    if not ready.exists() or ready.stat().st_mtime < described:
        made = subprocess.run(
            [sys.executable, "tests/environments.py", "--python", python.path, folder, "-e", f".[{EXTRAS}]"],
            cwd=PROJECT,
        )
        if made.returncode != 0:
            return Outcome(python.version, failed=1, told="cannot be installed into")
        ready.touch()
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary, "report.xml")
        begin = os.times().elapsed
        places = [PROJECT / "tests/engine" / name for name in TESTS]
        subprocess.run(
            [folder / "bin/python", "-m", "pytest", *places, f"--junitxml={report}", *arguments], cwd=PROJECT
        )
        if not report.exists():
            return Outcome(python.version, failed=1, told="pytest did not come to an end")
        return counted(report, python.version, os.times().elapsed - begin)


def main(arguments: Sequence[str]) -> int:
    """Run them all; 1 if anything failed."""
    behind = arguments.index("--") if "--" in arguments else len(arguments)
    versions = arguments[:behind] or VERSIONS
    further = arguments[behind + 1 :] or ["-n", str(os.cpu_count() or 1)]
    outcomes = []
    for version in versions:
        environment, home = dict(os.environ), Path.home()
        python, problem = find(version, environment, home)
        if python is None:
            installed_by_uv(version)
            python, _ = find(version, environment, home)
        outcomes.append(
            Outcome(version, told=f"skipped: {problem}") if python is None else tested(python, further)
        )
        sys.stdout.write(table(outcomes) + "\n")
        sys.stdout.flush()
    return 1 if any(each.failed for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
