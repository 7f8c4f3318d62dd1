"""Index folders as the Stanford library's users manage them: overwrite, reuse, resume, settings.

The passages of an index have their pids as ids. metadata.json beside its manifest says that it is finished,
how it was made, and which pid comes next.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from latebolt.adapters.stanford.infra import INDEX_METADATA, BadArgument, ColBERTConfig, IndexThere
from latebolt.encoder.encoder import Encoder
from latebolt.errors import IndexExists, IndexNotFound, InvalidInput
from latebolt.index.format import files, layout
from latebolt.index.index import Index

Overwrite = bool | Literal["reuse", "resume", "force_silent_overwrite"]

# Passages a commit: what a crash can lose, and what a new index learns its codec from.
COMMIT_PASSAGES = 131_072
# Fewer where an index of before pools other than its settings say, which has to hold all vectors.
POOLED_PASSAGES = 8_192

_OURS = (layout.MANIFEST, layout.LOCK, layout.SEGMENTS, layout.CODECS, INDEX_METADATA)


def check_overwrite(overwrite: Overwrite) -> None:
    """Raise BadArgument unless it is one of the five."""
    if overwrite not in (True, False, "reuse", "resume", "force_silent_overwrite"):
        raise BadArgument(
            'overwrite should be True, False, "reuse", "resume" or "force_silent_overwrite", '
            f"got {overwrite!r}."
        )


def erase(folder: Path) -> list[str]:
    """Delete the index in a folder; the names of what was deleted.

    Raises:
        IndexExists: the folder holds something else.
    """
    names = check_ours(folder)
    if folder.exists():
        shutil.rmtree(folder)
    return sorted(str(folder / name) for name in names)


def check_ours(folder: Path) -> set[str]:
    """What is in the folder of an index; nothing where there is no folder.

    Raises:
        IndexExists: the folder holds something else.
    """
    if not folder.exists():
        return set()
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {folder.name}
    if not folder.is_dir() or names - {*_OURS, *(name + layout.DRAFT_SUFFIX for name in _OURS)}:
        raise IndexExists(
            f"{folder}: holds what is no latebolt index ({', '.join(sorted(names)[:3])}). Delete it "
            "yourself, or choose another name."
        )
    return names


@contextlib.contextmanager
def begun(
    path: str, encoder: Encoder, config: ColBERTConfig, overwrite: Overwrite
) -> Iterator[tuple[Index, bool]]:
    """(the index at `path`, whether it was finished before): made new, emptied or found as `overwrite` says.

    Its folder is made with its first passages. Where these are refused, or the block is left before, nothing
    is left behind, and an index that was to be overwritten is there as before.

    Raises:
        BadArgument, IndexThere: there is something and `overwrite` is False, or it is none of the five.
        IndexExists: it would have to be deleted and is no latebolt index.
    """
    check_overwrite(overwrite)
    folder = Path(path)
    if folder.exists() and overwrite is False:
        raise IndexThere(f'{path}: is there already. Use overwrite=True, "reuse", "resume", or another name.')
    if overwrite in ("reuse", "resume") and (folder / layout.MANIFEST).exists():
        with Index.open(path, encoder) as index:
            yield index, (folder / INDEX_METADATA).exists()
        return
    if config.nbits not in (1, 2, 4, 8, 16):
        raise InvalidInput(f"nbits should be 1, 2, 4 or 8, got {config.nbits!r}.")
    replaced = overwrite in (True, "force_silent_overwrite") and check_ours(folder)
    with (
        _aside(folder) if replaced else contextlib.nullcontext(),
        Index.create(
            path, encoder, bits=config.nbits, with_first_add=True, pool_factor=config.pool_factor
        ) as index,
    ):
        yield index, False


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[None]:
    """The index in a folder out of the way: gone once another stands there, and back where none came."""
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
    folder.rename(old)
    try:
        yield
    finally:
        if (folder / layout.MANIFEST).exists():
            shutil.rmtree(old)
        else:
            files.remove(folder)
            old.rename(folder)


def write_metadata(path: str, config: ColBERTConfig, next_pid: int) -> None:
    """Record how an index was made, and the next free pid."""
    content = {"config": config.export(), "next_pid": next_pid}
    files.publish(Path(path) / INDEX_METADATA, json.dumps(content, indent=4).encode() + b"\n")


def read_next_pid(path: str) -> int:
    """The pid that the next passage gets: one more than any passage ever had.

    Raises:
        IndexNotFound: there is no finished index.
    """
    try:
        return int(json.loads((Path(path) / INDEX_METADATA).read_bytes())["next_pid"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise IndexNotFound(f"{path}: there is no finished index here ({error}).") from error


def add_passages(
    index: Index,
    passages: Sequence[str],
    first_pid: int,
    config: ColBERTConfig,
    metadata: Sequence[Mapping[str, Any] | None] | None = None,
    show_progress: bool = False,
) -> None:
    """Add passages under the pids first_pid, first_pid + 1, ..., so many a commit."""
    if not passages:
        index.add([])  # which makes the folder of one that has none
    pools = index.info()["pool_factor"] == config.pool_factor
    size = COMMIT_PASSAGES if pools else POOLED_PASSAGES
    for start in range(0, len(passages), size):
        part = list(passages[start : start + size])
        ids = [str(first_pid + start + i) for i in range(len(part))]
        notes = None if metadata is None else metadata[start : start + size]
        if pools:
            # As iterables: what memory holds of them at a time is then bounded.
            index.add(iter(part), iter(ids), None if notes is None else iter(notes), show_progress)
        else:
            vectors = index.encoder.encode_documents(part, show_progress, config.pool_factor)
            index.add_vectors(ids, vectors, part, notes)
