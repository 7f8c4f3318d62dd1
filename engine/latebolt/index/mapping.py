"""Opens array files as read-only arrays, after checking them against the manifest.

Contents are not read here: size and header are enough to know that a mapping is safe. `check` reads digests.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from latebolt.errors import IndexCorrupt
from latebolt.index import layout
from latebolt.index.layout import FileRecord

# Below this an array is copied: a mapping costs a file handle and a page, and an index that grew by single
# documents has thousands of tiny files.
_COPY_BYTES = 1 << 16
RESTORE = (
    'Restore this file from a copy of the index, or build the index again. "latebolt check" lists all damage.'
)


def map_array(path: Path, record: FileRecord) -> np.ndarray[Any, Any]:
    """The array in an .npy file, read-only.

    Raises:
        FileNotFoundError: the file is gone; the caller knows whether that is damage.
        IndexCorrupt: size or header differ from the record.
    """
    if record.dtype is None or record.shape is None:
        raise IndexCorrupt(path, "dtype", "an array's", "none", RESTORE)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
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
        else:
            buffer, offset = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), layout.NPY_HEADER_BYTES
    array: np.ndarray[Any, Any] = np.ndarray(record.shape, record.dtype, buffer, offset)
    return array


def check_size(path: Path, record: FileRecord) -> None:
    """Raise IndexCorrupt unless a file has the recorded size; FileNotFoundError if it is gone."""
    size = path.stat().st_size
    if size != record.bytes:
        raise IndexCorrupt(path, "size", f"{record.bytes} bytes", f"{size} bytes", RESTORE)
