"""Lets one process at a time write to an index.

The operating system drops the lock with its holder, so a writer that died leaves nothing to repair. Readers
never come here. The holder's process id inside the file only serves the message for the one who waits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from latebolt.errors import IndexLocked
from latebolt.index import layout
from latebolt.index.files import writing


@contextlib.contextmanager
def writer_lock(folder: Path, timeout: float = 0.0) -> Iterator[None]:
    """Hold the index for writing.

    Args:
        timeout: seconds to wait for another writer.
    Raises:
        IndexLocked: another process, or another writer in this one, still holds it.
    """
    path = folder / layout.LOCK
    lock = FileLock(path, timeout=timeout, thread_local=False)
    try:  # from here and not from the acquisition on: Ctrl-C may come right after it; releasing twice is fine
        with writing(path):
            _acquire(lock, folder)
        # Windows denies writing to a locked file, and a full disk must not keep anyone from deleting.
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, folder: Path) -> None:
    try:
        lock.acquire()
    except Timeout as error:
        raise IndexLocked(
            f"{folder}: another writer{_holder(folder / layout.LOCK)} is changing this index. Wait until it "
            f"has finished or stop it; its lock goes with it."
        ) from error


def _holder(path: Path) -> str:
    try:
        pid = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {pid})" if pid.isdecimal() else ""
