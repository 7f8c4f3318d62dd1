"""Lets one at a time write to an index: threads take turns, other processes are waited for on request.

The operating system drops the lock with its holder, so a writer that died leaves nothing to repair. Readers
never come here. The holder's process id inside the file only serves the message for the one who waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from latebolt import system
from latebolt.errors import IndexLocked, IndexNotFound
from latebolt.file_lock import FileLock
from latebolt.index.format import files, layout
from latebolt.index.format.files import writing

_LOOK_SECONDS: Final = 0.05  # how often a waiting thread looks whether a turn has ended without saying so


class _Turn:
    """A thread's place among those that want to write to one folder.

    Known to the others by a weak reference, so that a turn also ends with its last user, where Ctrl-C came
    between any two lines of whoever held it.
    """

    def __init__(self, others: deque[weakref.ref[_Turn]]) -> None:
        self.thread, self.ended = threading.get_ident(), threading.Event()
        self._others = others
        others.append(weakref.ref(self))

    @property
    def first(self) -> _Turn | None:
        """The turn that is on."""
        for place in list(self._others):
            turn = place()
            if turn is not None and not turn.ended.is_set():
                return turn
            with contextlib.suppress(ValueError):  # another thread has taken it away
                self._others.remove(place)
        return None

    def wait(self) -> None:
        """Wait until all turns before this one have ended."""
        while (first := self.first) is not self:
            if first is not None:
                first.ended.wait(_LOOK_SECONDS)


# By folder. A forked child begins with none: the threads that held them are its parent's.
_turns: dict[str, deque[weakref.ref[_Turn]]] = {}
system.after_fork(_turns.clear)


@contextlib.contextmanager
def writer_lock(folder: Path, timeout: float = 0.0, make: bool = False) -> Iterator[None]:
    """Hold the index for writing. Another thread of this process that does is waited for.

    Args:
        timeout: seconds to wait for another process, infinity for ever.
        make: make the folder if it is missing.
    Raises:
        IndexLocked: another process still holds it, or this very thread does.
        IndexNotFound: there is no such folder.
    """
    path = folder / layout.LOCK
    turn = _Turn(_turns.setdefault(os.path.realpath(folder), deque()))
    lock, made = FileLock(path), False
    try:  # from here and not from the acquisition on: Ctrl-C may come right after it; releasing twice is fine
        if turn.first is not turn and turn.first is not None and turn.first.thread == turn.thread:
            raise IndexLocked(
                f"{folder}: this thread is changing the index already. Add, delete or compact after the "
                f"change that is going on, not from within it."
            )
        turn.wait()
        while not _acquire(lock, folder, timeout):  # it is not there, or a creation was given up meanwhile
            if not make:
                raise IndexNotFound(f"{folder}: there is no such folder any more.")
            files.make_folder(folder)
            made = True
        # Windows denies writing to a locked file, and a full disk must not keep anyone from deleting.
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        made = False  # from here on it is the caller's
        yield
    finally:
        lock.release()
        if made:
            with contextlib.suppress(OSError):  # another has come and uses it
                folder.rmdir()
        turn.ended.set()


def _acquire(lock: FileLock, folder: Path, timeout: float) -> bool:
    """Take the lock; whether there was a folder to take it in."""
    with writing(lock.path):
        try:
            held = lock.acquire(timeout)
        except FileNotFoundError:
            return False
    if not held:
        raise IndexLocked(
            f"{folder}: another writer{_holder(lock.path)} is changing this index. Wait until it "
            f"has finished or stop it; its lock goes with it."
        )
    return True


def _holder(path: Path) -> str:
    try:
        pid = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {pid})" if pid.isdecimal() else ""
