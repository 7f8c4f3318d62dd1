"""`make test-arm`: the engine's tests and those of this folder on an emulated ARM machine.

The last line says how many tests passed, or why there is no such machine here; that is no failure.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from arm.machine import PROJECT, NoMachine, make

# With dot products of bytes (Raspberry Pi 5) and without (Raspberry Pi 4 and 3).
DOT, PLAIN = "cortex-a76", "cortex-a57"
# Widths of vectors that most of the tests below use, and benchmarks/arm_instructions.py; kernels of others
# are compiled there.
DIMS = ("48", "64", "96", "128")

# What computes runs on both; what is the same whatever computes, on one.
NUMBERS = (
    "tests/arm/test_kernels.py",
    "tests/engine/kernels/test_maxsim.py::test_every_instruction_set_of_this_machine",
)
EVERYTHING = (
    *NUMBERS,
    "tests/arm/test_across.py",
    "tests/arm/test_command_line.py",
    "tests/engine/kernels/test_lists.py",
    "tests/engine/codec",
    "tests/engine/index/test_storage.py",
    "tests/engine/index/test_old_versions.py",
)


class Ran(NamedTuple):
    """One run of pytest: where, what it said, and how many of its tests passed."""

    where: str
    code: int
    said: str
    passed: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".arm"), help="where the machine is or will be")
    parser.add_argument("--python", type=Path, default=Path(".venv/bin/python"), help="this machine's own")
    given = parser.parse_args(arguments)
    folder, native, start = given.folder.resolve(), given.python.absolute(), time.monotonic()
    try:
        make(folder)
    except NoMachine as reason:
        print(f"test-arm: skipped, {reason}")
        return 0
    build_kernels(folder, native)
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    here, there = made / platform.machine(), made / "aarch64"
    maker = PROJECT / "tests/arm/made.py"
    subprocess.run([native, maker, here], check=True)

    # Two processors, two emulated ones: each has one Python at a time.
    with ThreadPoolExecutor(2) as both:
        plain = both.submit(on_arm, folder, PLAIN, NUMBERS)
        subprocess.run([folder / "python", maker, there, here], check=True, env=environment(folder, DOT))
        runs = [on_arm(folder, DOT, EVERYTHING), plain.result()]
    across = [native, "-m", "pytest", *OPTIONS, "tests/arm/test_across.py"]
    runs.append(_ran("back on this machine", across, dict(os.environ)))
    for run in runs:
        print(f"--- {run.where}\n{run.said}")
    total = " and ".join(f"{run.passed} {run.where}" for run in runs)
    failed = [run.where for run in runs if run.code or not run.passed]  # none is a count that was not read
    end = f"FAILED {', '.join(failed)}; " if failed else ""
    print(
        f"test-arm: {end}{sum(run.passed for run in runs)} tests passed ({total}) "
        f"in {time.monotonic() - start:.0f} s"
    )
    return 1 if failed else 0


# pyproject.toml has one -q; with another, pytest no longer says how many passed.
OPTIONS = ("--no-header", "-p", "no:cacheprovider", "-rs", "-o", "timeout=1800")


def on_arm(folder: Path, cpu: str, tests: Sequence[str]) -> Ran:
    """Those tests on the emulated machine with that CPU."""
    return _ran(f"on {cpu}", [folder / "python", "-m", "pytest", *OPTIONS, *tests], environment(folder, cpu))


def environment(folder: Path, cpu: str) -> dict[str, str]:
    """Of processes that are emulated."""
    return {
        **os.environ,
        "LATEBOLT_ARM_CPU": cpu,
        "LATEBOLT_KERNELS": str(folder / "kernels/linux-aarch64"),
        "LATEBOLT_CACHE": str(folder / "cache" / cpu),
    }


def build_kernels(folder: Path, native: Path) -> None:
    """Kernels for ARM, compiled here if these sources' are not there: emulated, each takes ten seconds."""
    ask = "from latebolt.kernels.ahead import manifest; print(manifest.sources_digest(), end='')"
    sources = subprocess.run([native, "-c", ask], check=True, capture_output=True, text=True).stdout
    stamp = folder / "kernels/.ready"
    wanted = " ".join((sources, *DIMS))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    command = [native, "-m", "latebolt.kernels.build", "--platform", "linux-aarch64", "--dims", *DIMS]
    tools = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(folder / "tools"), os.environ.get("PYTHONPATH", ""))),
    }
    subprocess.run(
        [*command, "--out", folder / "kernels", "--quiet"], check=True, stdout=subprocess.DEVNULL, env=tools
    )
    stamp.write_text(wanted)


def _ran(where: str, command: Sequence[str | Path], environment: dict[str, str]) -> Ran:
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    found = re.search(r"(\d+) passed", done.stdout)
    return Ran(where, done.returncode, done.stdout, int(found[1]) if found else 0)


if __name__ == "__main__":
    sys.exit(main())
