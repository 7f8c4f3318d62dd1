"""`latebolt search` and `rerank` start and end quickly, and end, for whoever looks on, as all do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from latebolt import Index

MAIN = """
import atexit, gc, os, sys
def last():
    print("OPENBLAS_THREAD_TIMEOUT", os.environ.get("OPENBLAS_THREAD_TIMEOUT"), file=sys.stderr)
    print("numpy" in sys.modules, gc.isenabled(), file=sys.stderr)
class Apart:
    def __del__(self, write=os.write): write(2, b"taken apart\\n")
atexit.register(last)
apart = Apart()
from latebolt.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory, encoder) -> str:
    path = tmp_path_factory.mktemp("short") / "i"
    with Index.create(path, encoder) as made:
        made.add([f"{animal} number {i}" for i in range(4) for animal in ("cat", "dog", "horse")])
    return str(path)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_all_is_written_and_nothing_taken_apart(index):
    done = run("search", index, "cat", "-k", "3", "--json")
    assert done.returncode == 0 and done.stdout.count('"id"') == 3 and done.stdout.endswith("]\n")
    assert done.stderr.splitlines() == ["OPENBLAS_THREAD_TIMEOUT 4", "True False"]


def test_an_environment_variable_that_is_set_stays(index):
    done = run("search", index, "cat", OPENBLAS_THREAD_TIMEOUT="26")
    assert "OPENBLAS_THREAD_TIMEOUT 26" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("search", "no.index", "cat"), 1, "no.index"),
        (("search", "{index}", ""), 2, "query"),
        (("search", "{index}"), 2, "Missing argument"),
        (("search", "--help"), 0, "Usage"),
        (("rerank", "cat", "no.txt"), 1, "no.txt"),
    ],
)
def test_failures_keep_their_codes(index, arguments, code, said):
    done = run(*(each.format(index=index) for each in arguments))
    assert done.returncode == code and said in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_failure(index):
    command = [sys.executable, "-m", "latebolt", "search", index, "cat"]
    search = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    search.stdout.close()
    assert search.stderr.read() == b"" and search.wait() == 0


def test_other_commands_end_as_ever():
    done = run("--help")
    assert done.returncode == 0
    assert (
        done.stderr.splitlines()[:2] == ["OPENBLAS_THREAD_TIMEOUT None", "False True"]
        and "taken apart" in done.stderr
    )
