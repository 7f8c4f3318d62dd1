"""Remembers the SHA-256 of large files between processes, by path, size, inode and times of change.

A graph of 2 GB takes seconds to read, and every process that opens an index asks which model it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from latebolt import caches
from latebolt.formats.files import joint_sha256

# A file that has only just changed may change again without another time of change: clocks of file systems
# tick. Its digest is not remembered yet.
_SETTLED_NS: Final = 100_000_000


def remembered_sha256(files: Sequence[Path]) -> str:
    """`joint_sha256` of the files, read again only when one has changed."""
    state = _state(files)
    kept = caches.cache_folder("digests") / hashlib.sha256(repr(state).encode()).hexdigest()[:32]
    found = (caches.read(kept) or b"").decode(errors="replace")
    if re.fullmatch("[0-9a-f]{64}", found):
        return found
    digest = joint_sha256(files)
    newest = max((max(times) for _, *times in state), default=0)
    # Nothing is remembered of a file that was exchanged while it was read.
    if _state(files) == state and time.time_ns() - newest > _SETTLED_NS:
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            caches.write(kept, digest.encode())
    return digest


def _state(files: Sequence[Path]) -> list[tuple[str, int, int, int, int, int]]:
    """What changes with any change of the files: a time of change that was set back changes ctime, another
    file of the same times has another inode."""
    return [
        (str(file.resolve()), s.st_size, s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns)
        for file, s in ((file, file.stat()) for file in files)
    ]
