"""The lock that goes with a file: one holder in all threads and processes, and no folder is made for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latebolt import system
from latebolt.file_lock import FileLock

HOLDER = """
import sys
from pathlib import Path
from latebolt.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["flock", "filelock", "a disk without locks"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """By the system's own locks, where a system has none, and where a disk says that it has none."""
    if request.param == "filelock":
        monkeypatch.setattr(system, "HAS_FILE_LOCKS", False)
    elif request.param != "flock":

        def no_locks(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSYS, "no locks here")

        monkeypatch.setattr(system, "lock", no_locks)
    return tmp_path / "lock"


def test_one_holds_it_until_it_is_released(path: Path):
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    assert not second.acquire()
    assert not second.acquire(0.1)
    first.release()
    first.release()
    assert second.acquire()
    second.release()
    assert first.acquire()
    first.release()


def test_who_waits_gets_it(path: Path):
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(second.acquire, float("inf"))
        first.release()
        assert waiting.result(60)
    second.release()


def test_no_folder_is_made(path: Path):
    missing = path.parent / "gone" / "further" / "lock"
    with pytest.raises(FileNotFoundError):
        FileLock(missing).acquire(1.0)
    assert not (path.parent / "gone").exists()


@pytest.mark.skipif(not system.HAS_FILE_LOCKS, reason="made by the system's own locks alone")
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "lock"
    if kind == "link":
        path.symlink_to(tmp_path / "made")
    else:
        os.mkfifo(path)
    with pytest.raises(OSError):
        FileLock(path).acquire(float("inf"))
    assert not (tmp_path / "made").exists()


def test_a_holder_that_dies_lets_go(tmp_path: Path):
    path, lock = tmp_path / "lock", FileLock(tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert not lock.acquire()
        holder.kill()
        assert lock.acquire(60)
    lock.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nobody can fork here")
def test_a_forked_child_holds_nothing(tmp_path: Path):
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.acquire()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    assert not other.acquire()  # the child has not given up its parent's
    lock.release()
    assert other.acquire()  # though the child lives
    other.release()
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not system.HAS_FILE_LOCKS, reason="an open file cannot be removed there")
def test_a_lock_that_was_removed_before_it_was_ours_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who comes later finds another file, and would hold that one beside us."""
    path, real, removed = tmp_path / "lock", system.lock, threading.Event()

    def removing(*given: object, **more: object) -> None:
        if not removed.is_set():
            removed.set()
            path.unlink()
        real(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(system, "lock", removing)
    lock = FileLock(path)
    assert lock.acquire()
    assert removed.is_set()
    assert not FileLock(path).acquire()
    lock.release()
