"""Reads the manifest of an index from its file: whole, or the beginning that changes with each commit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from latebolt import system
from latebolt.errors import IndexNotFound
from latebolt.index.format import layout
from latebolt.index.format.layout import Manifest
from latebolt.index.format.mmap_array import opened


def read_manifest(path: Path) -> Manifest:
    """The manifest of the index at `path`, without opening anything else.

    Raises:
        IndexNotFound: there is none.
        IndexCorrupt: it is damaged.
        IndexNewer: a newer version of latebolt wrote it.
    """
    return layout.decode_manifest(read_content(path), path / layout.MANIFEST)


def read_content(path: Path) -> bytes:
    """The manifest's bytes: two reads that give the same saw the same commit.

    Raises:
        IndexNotFound: there is none.
        IndexInaccessible: the system refuses it.
    """
    with _explained(path), opened(path / layout.MANIFEST) as file:
        return file.read()


def read_head(path: Path, manifest: str) -> bytes:
    """The first bytes of the manifest, whose name the caller has put together: every search asks for them."""
    with _explained(path):
        try:
            descriptor = os.open(manifest, system.READ_FLAGS)
            try:
                return os.read(descriptor, layout.MANIFEST_HEAD_BYTES)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError:  # the whole file tells what is wrong with it
            return b""


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say that there is no index where there is no manifest."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if (path / layout.SHARD_SET).is_file():
            raise IndexNotFound(
                f"{path}: is a shard set, with indexes shard-0 and so on. Open it with ShardedIndex.open, "
                'or make one index of it ("latebolt join").'
            ) from error
        raise IndexNotFound(
            f'{path}: there is no latebolt index here (no {layout.MANIFEST}). Make one with "latebolt index".'
        ) from error
