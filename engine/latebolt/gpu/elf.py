"""Which shared libraries a library of Linux names as those it needs: the DT_NEEDED entries of its ELF file.

Read from the file, so nothing of it is loaded. Source: System V ABI, chapter 5, "Dynamic Section".
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_ENTRY: Final = struct.Struct("<qQ")
_SEGMENT_LOADED, _SEGMENT_DYNAMIC = 1, 2
_END, _NEEDED, _NAMES = 0, 1, 5
_LONGEST_NAME: Final = 256


def needed(path: Path) -> tuple[str, ...]:
    """Names such as "libcudart.so.13", in the file's order.

    Args:
        path: a shared library; one that is not there, or is no 64-bit little-endian ELF file, names none.
    """
    try:
        with path.open("rb") as file:
            return _names_in(file)
    except (OSError, struct.error):
        return ()


def _names_in(file: BinaryIO) -> tuple[str, ...]:
    header = _HEADER.unpack(file.read(_HEADER.size))
    magic, table, each, n = header[0], header[5], header[9], header[10]
    if magic[:6] != b"\x7fELF\x02\x01":
        return ()
    segments = []
    for i in range(n):
        file.seek(table + i * each)
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack(file.read(_SEGMENT.size))
        segments.append((kind, offset, address, size))
    dynamic = [(offset, size) for kind, offset, _, size in segments if kind == _SEGMENT_DYNAMIC]
    if not dynamic:
        return ()
    file.seek(dynamic[0][0])
    content = file.read(dynamic[0][1])
    places, names_at = [], 0
    for tag, value in _ENTRY.iter_unpack(content[: len(content) // _ENTRY.size * _ENTRY.size]):
        if tag == _END:
            break
        if tag == _NEEDED:
            places.append(value)
        elif tag == _NAMES:
            names_at = value
    for kind, offset, address, size in segments:
        if kind == _SEGMENT_LOADED and address <= names_at < address + size:
            return tuple(_name_at(file, offset + names_at - address + place) for place in places)
    return ()


def _name_at(file: BinaryIO, place: int) -> str:
    file.seek(place)
    return file.read(_LONGEST_NAME).split(b"\0", 1)[0].decode("ascii", "replace")
