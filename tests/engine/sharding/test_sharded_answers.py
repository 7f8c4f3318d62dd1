"""A shard set answers as the index it was split from, and as one index of all its segments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_corpora import DIM, IDS, POOL, QUERIES, REQUESTS, asked, asked_sharded, build, content, documents

from latebolt import Index, TokenVectors
from latebolt.index.search import query as searching
from latebolt.sharding import ShardedIndex, join, split
from quick_folders import quick_folder

ALL_IDS = [f"d{i}" for i in range(61)]


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hybrid search looks at so few candidates that small indexes have more."""
    monkeypatch.setattr(searching, "level", lambda k: k)
    monkeypatch.setattr(searching, "DEPTH", 2)
    yield


@pytest.mark.usefixtures("shallow")
@settings(max_examples=40)
@given(
    st.lists(documents(IDS), min_size=1, max_size=3),
    st.lists(IDS, max_size=8),
    st.integers(1, 7),
    st.lists(st.tuples(QUERIES, REQUESTS), min_size=3, max_size=6),
    documents(IDS),
    st.lists(IDS, max_size=8),
)
def test_the_answers_are_those_of_the_index(lots, deleted, n, questions, later, gone):
    with quick_folder() as folder:
        whole = build(folder / "i", lots, deleted)
        done = split(folder / "i", folder / "s", n)
        assert done.documents == len(whole)
        with whole, ShardedIndex.open(folder / "s") as sharded:
            for query, request in questions:
                assert asked_sharded(sharded, query, request) == asked(whole, query, request), request
            # Changes afterwards, on both sides.
            vectors = [POOL[list(each.passages[0].tokens)].reshape(-1, DIM) for each in later]
            given = (
                [each.id for each in later],
                TokenVectors.from_matrices(vectors, DIM),
                [" ".join(each.passages[0].words) for each in later],
                [each.metadata for each in later],
            )
            assert sharded.add_vectors(*given) == whole.add_vectors(*given)
            assert sharded.delete(gone) == whole.delete(gone)
            change = {"where": "n >= 1", "set": {"colour": "red"}}
            assert sharded.update_metadata(**change) == whole.update_metadata(**change)
            for query, request in questions:
                assert asked_sharded(sharded, query, request) == asked(whole, query, request), request
            assert content(sharded, ALL_IDS) == content(whole, ALL_IDS)
            assert len(sharded) == len(whole) and sharded.fields() == whole.fields()
            figures = {name: whole.info()[name] for name in ("documents", "passages", "dim", "bits")}
            assert figures.items() <= sharded.info().items()
            join(folder / "s", folder / "j")
            with Index.open(folder / "j") as joined:
                for query, request in questions:
                    assert asked(joined, query, request) == asked(whole, query, request), request
                assert content(joined, ALL_IDS) == content(whole, ALL_IDS)
