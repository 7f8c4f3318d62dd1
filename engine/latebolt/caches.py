"""The cache folder: where it is, and small files in it that count because nobody else could write them.

What is read here decides what runs (machine code) or what counts as unchanged (digests), and its own
checksum proves nothing against someone who means harm. So a file counts only if it, and every folder from the
cache folder down to it, belongs to this user or to root and cannot be written by group or others; root is
trusted because a cache may come with an image, and because root could change this program as well. A folder
of ours that is open to others, as earlier versions left them, is closed and what could be trusted in it is
thrown away; one of somebody else's is left alone and not used.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import platformdirs

from latebolt import system

logger = logging.getLogger(__name__)

Kind = Literal["kernels", "digests", "eval", "objects"]
_TRUSTED: Final = ("kernels", "digests")  # the kinds that are read through `read`
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OURS_ALONE: Final = 0o700


def cache_folder(kind: Kind) -> Path:
    """Where things of a kind are kept: in `LATEBOLT_CACHE`, else in the user's cache folder."""
    return _root() / kind


def _root() -> Path:
    named = os.environ.get("LATEBOLT_CACHE")
    return Path(named or platformdirs.user_cache_dir("latebolt", appauthor=False))


def read(path: Path) -> bytes | None:
    """The bytes of a file of the cache folder; None if there is none that can be trusted.

    Args:
        path: below `cache_folder` of one of the kinds.
    """
    try:
        with _opened(path.parent) as folder:
            if folder is None:
                return None
            # Opened once, judged and read by its descriptor: what a name means may change meanwhile.
            name, place = (path.name, folder) if system.HAS_OWNERS else (str(path), None)
            with os.fdopen(os.open(name, system.READ_FLAGS, dir_fd=place), "rb") as file:
                if not _private(os.fstat(file.fileno()), stat.S_ISREG):
                    _warn(path)
                    return None
                return file.read()
    except OSError:
        return None


def write(path: Path, content: bytes) -> None:
    """Keep a file of the cache folder in one step, where `read` will trust it; folders are made for us alone.

    Raises:
        OSError: it cannot be kept, or others could change it there; a caller goes on without.
    """
    make_folder(path.parent)
    with _opened(path.parent) as folder:
        if folder is None:
            raise PermissionError(f"{path.parent} can be written by others")
        if not system.HAS_OWNERS:
            _write_by_name(path, content)
            return
        draft = f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.draft"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise


def _write_by_name(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".draft", delete=False) as file:
        file.write(content)
    system.replace(Path(file.name), path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each for us alone; one that is there stays.

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path.parent == path:
            break
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster; a file there fails later
            folder.mkdir(_OURS_ALONE)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor of a folder of the cache that only we and root can write; None if there is no such."""
    if not system.HAS_OWNERS:
        yield -1
        return
    root = _root()
    descriptor = None
    try:
        # A link is followed: in a folder that only we can write, nobody else has made it. What it leads to is
        # judged like any other.
        for place in (root, *reversed([p for p in (path, *path.parents) if root in p.parents])):
            # Each opened from the one before: no folder on the way can be exchanged after it was judged.
            inner = os.open(
                place if descriptor is None else place.name, system.FOLDER_FLAGS, dir_fd=descriptor
            )
            if descriptor is not None:
                os.close(descriptor)
            descriptor = inner
            if not _private(os.fstat(descriptor), stat.S_ISDIR) and not _closed(descriptor, place):
                _warn(place)
                yield None
                return
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _private(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Whether only we and root can write a file, or change what a folder has of ours."""
    if not system.HAS_OWNERS:
        return True
    mode = status.st_mode
    # In a folder like /tmp others can add names, but not exchange those of ours; what they add is not ours.
    sticky = stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX)
    return is_kind(mode) and status.st_uid in (0, system.user_id()) and (sticky or not mode & _OTHERS_WRITE)


def _closed(descriptor: int, place: Path) -> bool:
    """Whether a folder of ours that others could write is now closed to them, and what they may have put
    into it gone."""
    status = os.fstat(descriptor)
    if status.st_uid != system.user_id():
        return False
    try:
        system.restrict(descriptor, stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
    except OSError:
        return False
    if os.fstat(descriptor).st_mode & _OTHERS_WRITE:  # some file systems agree and do nothing
        return False
    logger.warning("%s could be written by others; closed it, and what was kept there is made again", place)
    for name in _TRUSTED if place == _root() else os.listdir(descriptor):
        _remove(place / name)
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@functools.cache  # once a process and place is enough
def _warn(path: Path) -> None:
    logger.warning(
        "%s is not used: it belongs to another user, or others can write it, and so they could choose what "
        'runs here. Take it away from them ("chmod go-w"), or name a folder of your own in LATEBOLT_CACHE.',
        path,
    )
