"""Files the command line writes for people to keep: whole, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from latebolt.errors import LateboltError, StorageFull
from latebolt.values import TokenVectors


def write_npz(out: str, vectors: TokenVectors, ids: list[str]) -> Path:
    """Write values, offsets and ids; returns the path (`.npz` is added when missing).

    Raises:
        StorageFull: the disk is full.
        LateboltError: the folder is missing or cannot be written.
    """
    path = Path(out if out.endswith(".npz") else out + ".npz")
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("wb") as file:
            np.savez(file, values=vectors.values, offsets=vectors.offsets, ids=np.array(ids, dtype=np.str_))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise StorageFull(f"{path}: the disk is full. Free space and run it again.") from error
        raise LateboltError(f"{path}: cannot be written ({error.strerror}).") from error
    return path
