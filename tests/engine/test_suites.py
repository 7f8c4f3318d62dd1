"""`make test` runs its suites beside each other: all of them, whatever fails, and names each at the end."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "suites.py"
MAKE = """
import pathlib, sys, time
folder, suite = pathlib.Path(sys.argv[1]), sys.argv[-1]
print(f"{suite} begins", flush=True)
(folder / suite).touch()
if suite in ("first", "beside"):  # each waits for the other, so that they end only if they run together
    other = folder / ("beside" if suite == "first" else "first")
    end = time.monotonic() + 60
    while not other.exists() and time.monotonic() < end:
        time.sleep(0.01)
    sys.exit(not other.exists())
sys.exit(suite == "broken")
"""


@pytest.fixture(scope="module")
def suites():
    spec = importlib.util.spec_from_file_location("suites", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["suites"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["suites"]


def test_rows_run_beside_each_other_and_all_of_them(suites, tmp_path: Path):
    make = [sys.executable, "-c", MAKE, str(tmp_path)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        found = suites.run([["first", "second"], ["broken", "beside", "last"]], make, out)
        out.seek(0)
        lines = [line for line in out.read().splitlines() if line]
    assert [(each.suite, each.code) for each in found] == [
        ("first", 0), ("second", 0), ("broken", 1), ("beside", 0), ("last", 0)
    ]  # fmt: skip
    others = [line for name in ("broken", "beside", "last") for line in (f"{name}:", f"{name} begins")]
    assert lines == ["first begins", "second begins", *others]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal's group")
def test_ctrl_c_ends_them_and_begins_no_other(tmp_path: Path):
    lines = "one:\n\t@touch one; sleep 60\ntwo:\n\t@touch two; sleep 60\nlater:\n\t@touch later\n"
    (tmp_path / "Makefile").write_text(lines)
    running = subprocess.Popen(
        [sys.executable, PROGRAM, "one later", "two later"],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not ((tmp_path / "one").exists() and (tmp_path / "two").exists()):
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(60) != 0
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("broken", [False, True])
def test_the_last_lines_name_each(tmp_path: Path, broken: bool):
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"good:\n\t@echo well\nother:\n\t@{'false' if broken else 'true'}\n")
    done = subprocess.run(
        [sys.executable, PROGRAM, "good", "other"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == broken
    lines = done.stdout.splitlines()
    named = [line.split(" in ")[0].split() for line in lines if " in " in line]
    assert named[:2] == [["good", "passed"], ["other", "FAILED" if broken else "passed"]]
    assert lines[-1] == "failed: other" if broken else lines[-1].startswith("all in ")
