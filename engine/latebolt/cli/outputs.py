"""Files the command line writes for people to keep: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latebolt import drafts
from latebolt.errors import InvalidInput
from latebolt.values import TokenVectors


def write_npz(out: str, vectors: TokenVectors, ids: list[str]) -> Path:
    """Write values, offsets and ids; returns the path (`.npz` is added when missing).

    Raises:
        InvalidInput: `out` is a folder.
        StorageFull: the disk is full.
        LateboltError: the folder is missing or cannot be written.
    """
    if out.endswith("/") or Path(out).is_dir():
        raise InvalidInput(f"{out}: is a folder. Name the .npz file to write.")
    path = Path(out if out.endswith(".npz") else out + ".npz")
    with drafts.file_for(path) as file:
        np.savez(file, values=vectors.values, offsets=vectors.offsets, ids=np.array(ids, dtype=np.str_))
    return path
