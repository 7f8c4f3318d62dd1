"""Files the command line writes for people to keep: whole, or not at all."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable
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


def json_lines_to(out: str, lines: Iterable[bytes]) -> None:
    """Write lines to a .jsonl or .jsonl.gz file, or to standard output for -, as they come.

    Raises:
        InvalidInput: `out` is a folder, or named so that nobody would read it as what it is.
        StorageFull: the disk is full.
        LateboltError: the folder is missing or cannot be written.
    """
    if out == "-":
        for line in lines:
            sys.stdout.buffer.write(line)
        return
    path = Path(out)
    if out.endswith("/") or path.is_dir():
        raise InvalidInput(f"{out}: is a folder. Name the .jsonl file to write.")
    if not out.endswith((".jsonl", ".jsonl.gz")):
        raise InvalidInput(
            f"{out}: should end with .jsonl or .jsonl.gz, by which its readers know what it is."
        )
    with drafts.file_for(path) as file:
        if out.endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                packed.writelines(lines)
        else:
            file.writelines(lines)
