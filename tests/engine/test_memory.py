"""How much memory a process may use, as files and limits of the system say it, and what follows from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from as_found import as_found
from latebolt import Encoder, cli, memory, system
from latebolt.onnx_runtime import is_out_of_memory

MIB = memory.MIB
V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes the files of a machine; this process's own limits play no part."""
    monkeypatch.setattr(system, "lowest_limit", lambda *_: None)

    def made(group, mount, files, free_kib=4 << 20):
        files = {"proc/self/cgroup": group, "proc/self/mountinfo": mount, **files}
        files["proc/meminfo"] = f"MemTotal: 8388608 kB\nMemAvailable:   {free_kib} kB\n"
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
        return tmp_path

    return made


def test_without_groups_it_is_what_the_machine_has_left(machine):
    root = machine("", "", {})
    assert memory.available(root) == 4 << 30 and memory.ceiling(root) is None


def test_a_group_of_version_2_less_what_it_uses(machine):
    files = {
        "sys/fs/cgroup/box/memory.max": str(512 * MIB),
        "sys/fs/cgroup/box/memory.current": str(300 * MIB),
        "sys/fs/cgroup/box/memory.stat": f"anon 5\ninactive_file {100 * MIB}",  # which it would give up
        "sys/fs/cgroup/memory.max": "max",
    }
    root = machine("0::/box", V2, files)
    assert memory.ceiling(root) == 512 * MIB and memory.available(root) == 312 * MIB


def test_a_group_of_version_1_and_its_word_for_no_limit(machine):
    files = {
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": str(256 * MIB),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    }
    root = machine("4:memory:/box", V1, files)
    assert memory.ceiling(root) == 256 * MIB and memory.available(root) == 256 * MIB


def test_nothing_is_known_where_there_are_no_such_files(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "lowest_limit", lambda *_: None)
    assert memory.available(tmp_path) is None and memory.ceiling(tmp_path) is None


@pytest.mark.parametrize(
    ("n_bytes", "little"), [(None, False), (4 << 30, False), (memory.SMALL, False), (512 * MIB, True)]
)
def test_when_to_do_with_little(n_bytes, little):
    assert memory.wants_little(n_bytes) is little


def test_bulk_work_takes_the_place_of_other_sessions_where_there_is_little(monkeypatch):
    texts = [f"text number {i}" for i in range(40)]
    with Encoder.load("starter", threads=2) as usual, Encoder.load("starter", threads=2) as little:
        expected = usual.encode_documents(texts).values
        assert set(usual._sessions) == {1, 2}
        monkeypatch.setattr(memory, "is_small", lambda: True)
        assert (little.encode_documents(texts).values == expected).all()
        assert set(little._sessions) == {1}
        little.encode_queries(["what comes after"])
        assert set(little._sessions) == {1, 2}  # asked for again, loaded again


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
        RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 4194304"),
        RuntimeError("can't start new thread"),
        RuntimeError("pthread_create failed, error code: 11 error msg: Resource temporarily unavailable"),
    ],
)
def test_words_for_no_memory(error):
    assert is_out_of_memory(error) and not is_out_of_memory(RuntimeError("Invalid argument"))


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr(memory, "ceiling", lambda: 200 * MIB)
    with pytest.raises(
        MemoryError, match=r'model "multilingual" needs at least \d+ MB.*threads=1.*"starter"'
    ):
        Encoder.load("multilingual")
    Encoder.load("starter").close()


CAPPED = """
import resource, sys
n = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_DATA, (n, n))
from latebolt.cli import main
main(sys.argv[2:])
"""


def capped(mib: int, *command: object) -> subprocess.CompletedProcess[str]:
    """A command that may have so many MiB of memory of its own; pages of files are not counted."""
    words = [sys.executable, "-c", CAPPED, str(mib), *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=as_found())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts RLIMIT_DATA so")
def test_a_small_cap_is_enough_or_says_what_is_needed(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for i in range(40):
        (notes / f"{i}.md").write_text(f"# Note {i}\n\nHow to renew passport number {i}, by post.\n" * 20)
    made = capped(512, "index", tmp_path / "index", notes, "--threads", "2")
    assert made.returncode == 0, made.stderr
    found = capped(512, "search", tmp_path / "index", "renew a passport", "--threads", "2")
    assert found.returncode == 0 and "passport" in found.stdout, found.stderr
    refused = capped(256, "index", tmp_path / "other", notes, "--model", "multilingual")
    assert refused.returncode == 1 and "needs at least" in refused.stderr, refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_the_command_line_says_so_in_one_line(monkeypatch, capsys, error):
    """Whatever part of a command it is that gets no memory, or no thread, whose stack is memory."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    assert cli.run(["search"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("latebolt: there is not enough memory") and "--threads 1" in line


def test_an_error_that_has_nothing_to_do_with_memory_is_no_such_line(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.run(["search"])
