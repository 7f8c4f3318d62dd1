"""Remembers the SHA-256 of large files between processes, by path, size and time of their last change.

A graph of 2 GB takes seconds to read, and every process that opens an index asks which model it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from latebolt.layouts.files import joint_sha256


def cache_folder() -> Path:
    """Where digests are kept: `LATEBOLT_CACHE`, else the user's cache folder."""
    root = os.environ.get("LATEBOLT_CACHE") or platformdirs.user_cache_dir("latebolt", appauthor=False)
    return Path(root) / "digests"


def remembered_sha256(files: Sequence[Path]) -> str:
    """`joint_sha256` of the files, read again only when one has changed."""
    state = [(str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    kept = cache_folder() / hashlib.sha256(repr(state).encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if re.fullmatch("[0-9a-f]{64}", found := kept.read_text()):
            return found
    digest = joint_sha256(files)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f"{kept.name}.{os.getpid()}")
        draft.write_text(digest)
        draft.replace(kept)
    return digest
