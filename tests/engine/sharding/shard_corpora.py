"""Small indexes full of ties, as drawn by hypothesis, and what is asked of them whole and in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from latebolt import Index, TokenVectors
from latebolt.index.documents.checked import check_documents
from latebolt.index.ingest import addition, sources
from latebolt.index.search.query import Request
from latebolt.sharding import ShardedIndex

DIM = 8
# Few vectors and few words: many documents score the same.
POOL = np.eye(DIM, dtype=np.float32)[:5]
WORDS = ("red", "blue", "lion", "river", "the")


class Passage(NamedTuple):
    """A row: words of its text, numbers of vectors in the pool."""

    words: tuple[str, ...]
    tokens: tuple[int, ...]


class Document(NamedTuple):
    """A document of one passage, or of several."""

    id: str
    passages: tuple[Passage, ...]
    metadata: dict[str, Any] | None


PASSAGES = st.builds(
    Passage,
    st.lists(st.sampled_from(WORDS), max_size=4).map(tuple),
    st.lists(st.integers(0, len(POOL) - 1), max_size=3).map(tuple),
)
METADATA = st.none() | st.fixed_dictionaries(
    {}, optional={"n": st.integers(0, 3), "colour": st.sampled_from(["red", "blue"])}
)


def documents(ids: st.SearchStrategy[str]) -> st.SearchStrategy[list[Document]]:
    """Documents with different ids."""
    passages = st.lists(PASSAGES, min_size=1, max_size=3).map(tuple)
    return st.lists(st.builds(Document, ids, passages, METADATA), unique_by=lambda each: each.id, max_size=25)


IDS = st.integers(0, 60).map("d{}".format)
QUERIES = st.tuples(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
    st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=3).map(lambda rows: POOL[rows]),
)
REQUESTS = st.builds(
    Request,
    k=st.sampled_from([1, 2, 3, 7, 100]),
    where=st.sampled_from([None, "n >= 2", 'colour = "red" and exists(n)', "not n = 1"]),
    exhaustive=st.booleans(),
    mode=st.sampled_from(["late", "bm25", "hybrid"]),
)


def write(index: Index, some: list[Document]) -> None:
    """Add documents in one commit, passages as they are."""
    rows = [(each, passage) for each in some for passage in each.passages]
    if not rows:
        return
    numbers = [number for each in some for number in range(len(each.passages))]
    checked = check_documents(
        len(rows),
        [each.id for each, _ in rows],
        [" ".join(passage.words) for _, passage in rows],
        [each.metadata for each, _ in rows],
    )
    matrices = [POOL[list(passage.tokens)].reshape(-1, DIM) for _, passage in rows]
    with index._store.writer() as writer:
        written = addition.Addition(writer, None)
        batch = sources.Batch(0, checked, passages=numbers)
        written.add(batch, sources.GivenVectors(TokenVectors.from_matrices(matrices, DIM)))
        written.finish()
        writer.commit()


def build(path: Path, lots: list[list[Document]], deleted: list[str]) -> Index:
    """An index of several segments with deleted documents."""
    index = Index.create(path, None, bits=2, dim=DIM)
    for lot in lots:
        write(index, lot)
    index.delete(deleted)
    return index


def asked(index: Index, query: tuple[str, np.ndarray], request: Request) -> list[Any]:
    """Everything that a search of a whole index gives."""
    text, matrix = query
    return index._find_all([(None if request.mode == "bm25" else matrix, text)], request)[0]


def asked_sharded(index: ShardedIndex, query: tuple[str, np.ndarray], request: Request) -> list[Any]:
    """The same of a set."""
    text, matrix = query
    return list(index._hits([(text, None if request.mode == "bm25" else matrix)], request, None)[0])


def content(index: Index | ShardedIndex, ids: list[str]) -> list[Any]:
    """Documents of some ids, as they are given back."""
    return [None if each is None else each._asdict() for each in index.get(ids)]
