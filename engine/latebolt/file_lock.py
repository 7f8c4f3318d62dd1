"""A lock that goes with a file: one holder at a time, in all processes, and none when that one has died.

The file is made, its folder never: filelock, which does the work where this system or disk has no flock,
makes all that is missing above a lock, and who moves a folder back would find another in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from latebolt import system

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOOK_SECONDS: Final = 0.05  # between two tries
_NO_LOCKS: Final = frozenset((errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP))


class FileLock:
    """A lock on a file.

    Args:
        path: the file; it stays when the lock is released, so that all who wait mean the same one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._other: BaseFileLock | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock; whether it was to be had in time.

        Args:
            timeout: seconds to wait for who has it; infinity for ever.
        Raises:
            FileNotFoundError: there is no such folder.
            OSError: the system refuses it otherwise.
        """
        if system.HAS_FILE_LOCKS and self._other is None:
            end = time.monotonic() + timeout
            try:
                while not self._try():
                    if time.monotonic() >= end:
                        return False
                    time.sleep(_LOOK_SECONDS)
                return True
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
        return self._acquire_other(timeout)

    def release(self) -> None:
        """Give it up; nothing where it is not held."""
        file, self._file = self._file, None
        if file is not None:
            _opened.discard(file)
            with contextlib.suppress(OSError):  # closing it does the same, where no child has it open
                system.unlock(file)
            file.close()
        if self._other is not None:
            self._other.release()

    def _try(self) -> bool:
        while True:
            # Unbuffered: closing it writes nothing. Where Ctrl-C comes between two lines it closes itself.
            file: BinaryIO = open(self.path, "ab", 0, opener=_opener)  # noqa: SIM115
            _opened.add(file)
            self._file = file
            try:
                if not _locked(file):
                    self.release()
                    return False
                if _is_at(file, self.path):
                    return True
            except BaseException:
                self.release()
                raise
            self.release()  # it was removed before it was ours, and who comes now locks another

    def _acquire_other(self, timeout: float) -> bool:
        from filelock import FileLock as Other
        from filelock import Timeout

        if not self.path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        self._other = Other(self.path, thread_local=False)
        try:
            self._other.acquire(timeout if timeout < float("inf") else -1)
        except Timeout:
            return False
        return True


def _opener(path: str, flags: int) -> int:
    """As a lock is opened: what a link points to is not ours to make, and nobody reads from a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def _locked(file: BinaryIO) -> bool:
    try:
        system.lock(file, wait=False)
    except (BlockingIOError, PermissionError):  # some disks say the second
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether a file that is open is the one that is found there."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(file.fileno())
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


# A forked child shares its parent's open files, and with them locks that are not its own.
_opened: weakref.WeakSet[BinaryIO] = weakref.WeakSet()


def _let_go() -> None:
    for file in list(_opened):
        file.close()
    _opened.clear()


system.after_fork(_let_go)
