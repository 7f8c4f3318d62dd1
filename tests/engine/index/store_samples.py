"""Small stores for the tests of the storage half, and their whole content as plain values to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latebolt.index.documents.checked import CheckedDocument, check_documents
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.store import Column, Snapshot, Store, Writer

COLUMNS = (Column("centroid", "<u2"), Column("codes", "|u1", 2), Column("norm", "|u1"))
INFO = {"kind": "sample", "bits": 2}
Content = dict[str, tuple[Any, ...]]


def make_store(path: Path, **settings: Any) -> Store:
    return Store.create(path, dim=8, bits=2, settings=settings)


def tokens_of(key: str, length: int) -> dict[str, np.ndarray]:
    """Token rows that depend on the document only, so that they can be recognised anywhere."""
    rng = np.random.default_rng(list(key.encode()))
    return {
        "centroid": rng.integers(0, 1 << 16, length).astype(np.uint16),
        "codes": rng.integers(0, 256, (length, 2)).astype(np.uint8),
        "norm": rng.integers(0, 256, length).astype(np.uint8),
    }


def sample(id: str, version: int = 0) -> tuple[str | None, dict[str, Any] | None, int]:
    """(text, metadata, tokens) of a document; some lack each of the three."""
    number = sum(id.encode()) + version
    text = None if number % 5 == 0 else f"text {version} of {id} \u00e9"
    metadata = None if number % 4 == 0 else {"n": number, "version": version, "tags": ["a", f"t{number % 3}"]}
    return text, metadata, number % 4


def documents(
    ids: Sequence[str], texts: Sequence[str | None] | None = None, metadata: Any = None
) -> list[CheckedDocument]:
    """Documents as a segment takes them."""
    return check_documents(len(ids), ids, texts, metadata)


def append(draft: SegmentWriter, ids: Sequence[str], version: int = 0) -> None:
    samples = [sample(id, version) for id in ids]
    parts = [tokens_of(f"{id}/{version}", length) for id, (_, _, length) in zip(ids, samples, strict=True)]
    columns = {
        column.name: np.concatenate(
            [np.zeros(column.shape(0), column.dtype), *(part[column.name] for part in parts)]
        )
        for column in COLUMNS
    }
    draft.append(
        documents(ids, [s[0] for s in samples], [s[1] for s in samples]), [s[2] for s in samples], columns
    )


def add(writer: Writer, ids: Sequence[str], version: int = 0) -> SegmentWriter:
    draft = writer.new_segment(COLUMNS)
    append(draft, ids, version)
    draft.finish()
    return draft


def expected(versions: Mapping[str, int]) -> Content:
    """What `content` gives for these documents."""
    result: Content = {}
    for id, version in versions.items():
        text, metadata, length = sample(id, version)
        tokens = tokens_of(f"{id}/{version}", length)
        result[id] = (text, metadata, *(tokens[column.name].tobytes() for column in COLUMNS))
    return result


def content(snapshot: Snapshot) -> Content:
    """Every live document with its tokens; fails if an id lives twice."""
    result: Content = {}
    for segment in snapshot.segments:
        rows = np.flatnonzero(segment.alive)
        for row, (id, text, metadata, _) in zip(rows, segment.documents(rows), strict=True):
            assert id not in result, f"{id} lives twice"
            tokens = slice(segment.offsets[row], segment.offsets[row + 1])
            values = [segment.column(column.name)[tokens].tobytes() for column in segment.columns]
            result[id] = (text, metadata, *values)
    assert len(result) == snapshot.n_documents
    return result


def tree(path: Path) -> dict[str, bytes]:
    """All files below a folder with their bytes, the lock aside."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "write.lock"
    }


def unnamed_files(path: Path) -> set[str]:
    """Files that the last commit does not need."""
    from latebolt.index.format.manifest_file import read_manifest
    from latebolt.index.store.check import named_files

    named = {str(file.relative_to(path)) for file, _, _ in named_files(path, read_manifest(path))}
    return set(tree(path)) - named - {"manifest.json"}
