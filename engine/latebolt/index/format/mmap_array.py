"""Opens the files of an index for reading, arrays read-only, after checking them against the manifest.

Contents are not read here: size and header are enough to know that a mapping is safe. `proof` reads what
others index by, `check` reads digests.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np

from latebolt import system
from latebolt.errors import IndexCorrupt, IndexInaccessible, LateboltError
from latebolt.index.format import layout
from latebolt.index.format.layout import FileRecord

# Below this an array is copied: a mapping costs a file handle and a page, and an index that grew by single
# documents has thousands of tiny files.
_COPY_BYTES = 1 << 16
RESTORE = (
    'Restore this file from a copy of the index, or build the index again. "latebolt check" lists all damage.'
)
_DESCRIPTORS: Final = "As many files are open as may be; raise that limit (ulimit -n)."
# What the system says of a file that is damaged, or of a folder in its place; anything else is about us.
_DAMAGE: Final = frozenset({errno.EIO, errno.EISDIR, errno.ENXIO, errno.ELOOP, errno.EINVAL})
_SETTLED_NS: Final = 100_000_000

Identity = tuple[str, int, int, int, int, int]


class Mapped(NamedTuple):
    """An array of a file, read-only, and what tells this state of the file from others.

    `settled`: from any other. A file that has only just changed may change again within a tick of the clock.
    """

    array: np.ndarray[Any, Any]
    identity: Identity
    settled: bool


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file of an index, open for reading and unbuffered.

    Raises:
        FileNotFoundError: it is gone; the caller knows whether that is damage.
        IndexCorrupt: something else is in its place, or it cannot be read any more.
        IndexInaccessible: the system refuses it, for want of rights or of file handles.
    """
    try:
        # A pipe in its place would keep us waiting.
        with os.fdopen(os.open(path, system.READ_FLAGS), "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IndexCorrupt(path, "content", "a file", "something else", RESTORE)
            yield file
    except (FileNotFoundError, LateboltError):  # StorageFull, of what the caller writes, is an OSError too
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _DAMAGE:
            raise IndexCorrupt(path, "content", "readable", f"'{reason}'", RESTORE) from error
        hint = _DESCRIPTORS if error.errno in (errno.EMFILE, errno.ENFILE) else "Check its permissions."
        message = f"{path}: cannot be read ({reason}). {hint}"
        raise IndexInaccessible(message, error.errno, writing=False) from error


def map_array(path: Path, record: FileRecord) -> np.ndarray[Any, Any]:
    """The array in an .npy file, read-only; see `map_file`."""
    return map_file(path, record).array


def map_file(path: Path, record: FileRecord) -> Mapped:
    """The array in an .npy file, read-only, with its identity.

    Raises:
        FileNotFoundError: the file is gone; the caller knows whether that is damage.
        IndexCorrupt: size or header differ from the record, or the file cannot be read.
        IndexInaccessible: the system refuses it.
    """
    if record.dtype is None or record.shape is None:
        raise IndexCorrupt(path, "dtype", "an array's", "none", RESTORE)
    with opened(path) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if size != record.bytes or size != layout.array_bytes(record.dtype, record.shape):
            raise IndexCorrupt(path, "size", f"{record.bytes} bytes", f"{size} bytes", RESTORE)
        header, expected = file.read(layout.NPY_HEADER_BYTES), layout.npy_header(record.dtype, record.shape)
        if header != expected:
            raise IndexCorrupt(
                path, "header", expected[10:].strip().decode(), repr(header[10:].strip()), RESTORE
            )
        buffer: bytes | mmap.mmap
        if size <= _COPY_BYTES:
            buffer, offset = file.read(size), 0
            if len(buffer) != size - layout.NPY_HEADER_BYTES:
                got = f"{layout.NPY_HEADER_BYTES + len(buffer)} bytes"
                raise IndexCorrupt(path, "size", f"{size} bytes", got, RESTORE)
        else:
            buffer, offset = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), layout.NPY_HEADER_BYTES
            if len(buffer) != size:
                raise IndexCorrupt(path, "size", f"{size} bytes", f"{len(buffer)} bytes", RESTORE)
    array: np.ndarray[Any, Any] = np.ndarray(record.shape, record.dtype, buffer, offset)
    identity = (str(path), status.st_dev, status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns)
    return Mapped(array, identity, time.time_ns() - max(identity[4:]) > _SETTLED_NS)


def check_size(path: Path, record: FileRecord) -> None:
    """Raise IndexCorrupt unless a file has the recorded size; FileNotFoundError if it is gone.

    Raises:
        IndexInaccessible: the system refuses it.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size != record.bytes:
        raise IndexCorrupt(path, "size", f"{record.bytes} bytes", f"{size} bytes", RESTORE)
