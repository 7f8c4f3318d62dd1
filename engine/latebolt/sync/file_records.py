"""What an index's folder remembers of the files it was made from, so that one that is the same is not read.

It is a hint, written after the commit it speaks of: whatever it says of a document is held against the index
before it counts, and without it files are read again, not encoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from latebolt.drafts import file_for
from latebolt.errors import LateboltError

NAME: Final = "files.json"
MOST_DOCUMENTS: Final = 50_000  # of one file; one with more is read each time
_RACE_NS: Final = 2_000_000_000  # file systems that keep whole seconds, twice
_BLOCK: Final = 1 << 20

Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file as it was read.

    Args:
        name: as it was given, from which its documents' ids are made.
        size, mtime_ns: as the system tells them.
        read_ns: when that was; a file changed about then may have changed again with the same time.
        digest: BLAKE2b-128 of its bytes.
        documents: id and digest of the text of each document in it.
        lost: ids of documents that it had before, and which the index still has.
    """

    name: str
    size: int
    mtime_ns: int
    read_ns: int
    digest: Hex
    documents: dict[str, Hex]
    lost: list[str] = []


class FileRecords(msgspec.Struct, forbid_unknown_fields=True):
    """The records of an index, by absolute path.

    Args:
        made: what of a reading changes the documents it gives, beside the file: version, way of cutting.
    """

    made: str
    files: dict[str, FileRecord] = {}
    version: Literal[1] = 1


def absolute(path: Path | str) -> str:
    """What records are kept by: a path from the root, in which links keep their own names."""
    return os.path.abspath(path)  # noqa: PTH100


def load_records(index: Path, made: str) -> FileRecords:
    """What is remembered; nothing if that was made otherwise, or cannot be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = msgspec.json.decode((index / NAME).read_bytes(), type=FileRecords)
        if found.made == made:
            return found
    return FileRecords(made)


def save_records(index: Path, records: FileRecords) -> None:
    """Write what is remembered, whole or not at all. Where that is refused the next run reads all files."""
    content = msgspec.json.encode(records)
    with contextlib.suppress(LateboltError, OSError), file_for(index / NAME) as file:
        file.write(content)


def same_at_a_glance(record: FileRecord, name: str, state: os.stat_result) -> bool:
    """Whether name, size and time say that a file is as it was; its bytes tell where they do not."""
    return (
        record.name == name
        and record.size == state.st_size
        and record.mtime_ns == state.st_mtime_ns
        and record.mtime_ns < record.read_ns - _RACE_NS
    )


def digest_of_file(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for block in _blocks(file.fileno()):
            digest.update(block)
    return digest.hexdigest()


def _blocks(descriptor: int) -> Iterator[bytes]:
    while block := os.read(descriptor, _BLOCK):
        yield block
