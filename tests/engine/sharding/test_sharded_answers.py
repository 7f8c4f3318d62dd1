"""A shard set answers as the index it was split from, and as one index of all its segments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_corpora import DIM, IDS, POOL, QUERIES, REQUESTS, asked, asked_sharded, build, content, documents

from latebolt import Index, TokenVectors
from latebolt.errors import IndexUnusable, InvalidInput
from latebolt.index.search import planning
from latebolt.index.search import query as searching
from latebolt.index.search.bm25 import WordCounts, check_words
from latebolt.index.search.explain import Trace
from latebolt.index.search.planning import Costs
from latebolt.index.search.query import Request
from latebolt.sharding import ShardedIndex, check_set, join, split
from quick_folders import quick_folder

ALL_IDS = [f"d{i}" for i in range(61)]
OLD = Path(__file__).parents[1] / "index" / "old_versions"


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
            assert len(sharded) == len(whole)
            live = {name for each in whole.documents() for name in each.metadata or {}}
            # Those of deleted documents may have stayed behind.
            assert live <= set(sharded.fields()) <= set(whole.fields())
            figures = {name: whole.info()[name] for name in ("documents", "passages", "dim", "bits")}
            assert figures.items() <= sharded.info().items()
            join(folder / "s", folder / "j")
            with Index.open(folder / "j") as joined:
                for query, request in questions:
                    assert asked(joined, query, request) == asked(whole, query, request), request
                assert content(joined, ALL_IDS) == content(whole, ALL_IDS)


@pytest.mark.usefixtures("shallow")
def test_hybrid_candidates_are_those_of_the_whole(tmp_path):
    """One that is among the best of its own segment or shard only is no candidate, though it would win."""
    # By late interaction d and e are best, by words b and x; c is third in both, and best by the sum.
    cosines = {"b": 0.0, "x": 0.0, "d": 0.6, "e": 0.6, "c": 0.55}
    words = {"b": "red red red", "x": "red red red", "d": "blue", "e": "blue", "c": "red blue blue"}

    def matrix(id: str) -> np.ndarray:
        cosine = np.float32(cosines[id])
        return cosine * POOL[2:3] + np.sqrt(1 - cosine**2) * POOL[4:5]

    index = Index.create(tmp_path / "i", None, bits=16, dim=DIM)
    for some in (["b", "x"], ["d", "e"], ["c"]):
        index.add_vectors(some, [matrix(id) for id in some], [words[id] for id in some])
    query, request = ("red", POOL[2:3]), Request(k=1, mode="hybrid")
    assert [hit.id for hit in asked(index, query, request)] == ["d"]
    assert asked(index, query, Request(k=1, mode="hybrid", exhaustive=True))[0].id == "c"
    for n in (1, 2, 3, 5):
        split(tmp_path / "i", tmp_path / f"s{n}", n)
        with ShardedIndex.open(tmp_path / f"s{n}") as sharded:
            for k in (1, 2, 3):
                request = Request(k=k, mode="hybrid")
                got, want = asked_sharded(sharded, query, request), asked(index, query, request)
                assert got == want and ("c" in {hit.id for hit in want}) == (k == 3)


def test_pruned_searches_are_those_of_one_index_of_the_same_segments(tmp_path, rng, monkeypatch):
    """Which way a segment is searched, and how hard, does not depend on which shard it is in."""
    index = Index.create(tmp_path / "i", None, bits=2, dim=32)
    n = 3000
    lengths = rng.integers(3, 12, n)
    tokens = int(lengths.sum())
    themes = rng.unit(40, 32)[rng.integers(0, 40, tokens)] + 0.6 * rng.unit(tokens, 32)
    values = (themes / np.linalg.norm(themes, axis=1, keepdims=True)).astype(np.float32)
    vectors = TokenVectors(values, np.append(0, np.cumsum(lengths)))
    ids = [f"{i:04}" for i in range(n)]
    index.add_vectors(ids, vectors, metadata=[{"n": i % 10} for i in range(n)])
    split(tmp_path / "i", tmp_path / "s", 3)
    join(tmp_path / "s", tmp_path / "j")
    ways = set()
    with Index.open(tmp_path / "j") as joined, ShardedIndex.open(tmp_path / "s") as sharded:
        assert joined.info()["segments"] == 3
        # Exact scoring may cost as much as two thirds of all tokens, or a twentieth, take: a filter decides.
        for share in (0.04, 0.7, 1.1):
            token = 1.5 + 5e-3 * 32 * 8
            monkeypatch.setattr(planning, "COSTS", Costs(budget=share * tokens * token, ratio=0))
            for where in (None, "n < 5", "n = 3"):
                query = values[rng.integers(0, tokens, 6)]
                got = list(sharded.search_vectors(query, 20, where))
                assert got == joined.search_vectors(query, 20, where)
                [(roads, whole)] = [both_roads(sharded, joined, query, where)]
                assert roads == whole
                ways |= {way for way, _ in roads}
    assert ways == {"exact", "centroids"}


def both_roads(
    sharded: ShardedIndex, joined: Index, query: np.ndarray, where: str | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """How each segment was searched, and why, in the set and in the index."""
    request = Request(20, where)
    found = sharded._searcher.find([("", query)], request, sharded._shards.begin(), explain=True)
    trace = Trace(True)
    joined._each(joined._snapshot(request), [(query, "")], lambda each, _: each.find(request), trace=trace)
    roads = [(road.way, road.why) for _, answer in sorted(found.answers.items()) for road in answer.roads]
    return roads, [(road.way, road.why) for road in trace.roads]


def test_explanations_confidence_and_places_are_those_of_the_index(tmp_path, encoder):
    things = ["lion", "river", "house", "red car"]
    texts = [
        f"The {things[i % 4]} number {i} is {'very ' * (i % 3)}old. It stands by the sea." for i in range(60)
    ]
    index = Index.create(tmp_path / "i", encoder, passage_tokens=10, passage_overlap=2)
    metadata = [{"even": True} if i % 2 == 0 else {"odd": i} for i in range(60)]
    places = [lambda start, stop: {"characters": [start, stop]}] * 60
    index.add(texts, metadata=metadata, places=places)
    split(tmp_path / "i", tmp_path / "s", 3)
    with ShardedIndex.open(tmp_path / "s", encoder) as sharded:
        for mode in ("late", "bm25", "hybrid"):
            for where in (None, "even = true"):
                want = index.search("where is the old red car", 7, where, mode=mode, explain=True)
                got = sharded.search("where is the old red car", 7, where, mode=mode, explain=True)
                assert (list(got.hits), got.alignments, got.tokens) == (
                    want.hits,
                    want.alignments,
                    want.tokens,
                )
                rated = [(hit.confidence, hit.weak, hit.place) for hit in want.hits]
                assert [(hit.confidence, hit.weak, hit.place) for hit in got.hits] == rated
                assert rated[0][2] and (mode == "bm25") == (rated[0][0] is None)
                assert {stage.name for stage in want.stages} <= {stage.name for stage in got.stages}
                n_looked_at = {stage.name: stage.documents for stage in got.stages}["filter"]
                assert n_looked_at == index.info()["passages"]
        queries = ["a lion", "the sea", "old houses"]
        assert sharded.search_many(queries, 5, mode="hybrid") == index.search_many(queries, 5, mode="hybrid")
        # Encoded in shards, to the same documents.
        new = ["A new lion, and a longer text about it that is cut into passages.", "Cars, cars."]
        assert sharded.add(new) == index.add(new) == ["60", "61"]
        assert list(sharded.search("new lion", 3)) == index.search("new lion", 3)


def test_fields_that_only_another_shard_has_are_no_slip(tmp_path):
    index = Index.create(tmp_path / "i", None, dim=8)
    index.add_vectors(
        ["a", "b", "c", "d"],
        [POOL[:1]] * 4,
        metadata=[{"year": 1}, {"colour": "red"}, {"colour": "blue"}, {"colour": "red"}],
    )
    split(tmp_path / "i", tmp_path / "s", 4)
    with ShardedIndex.open(tmp_path / "s") as sharded:
        assert [hit.id for hit in sharded.search_vectors(POOL[:1], where="year = 1")] == ["a"]
        for ask in (
            lambda each: each.search_vectors(POOL[:1], where="yeer = 1"),
            lambda each: each.delete(where="yeer = 1"),
            lambda each: each.update_metadata(where="yeer = 1", set={"x": 1}),
        ):
            with pytest.raises(InvalidInput) as ours:
                ask(sharded)
            with pytest.raises(InvalidInput) as theirs:
                ask(index)
            assert str(ours.value) == str(theirs.value)
        assert sharded.delete(where="year = 1") == 1


@pytest.mark.parametrize("version", [2, 3, 4])
def test_indexes_of_earlier_versions_are_split(tmp_path, version):
    """Whole segments keep the words of their time, others get those of today."""
    with Index.open(OLD / str(version)) as old:
        for n in (1, 2):
            split(OLD / str(version), tmp_path / f"s{n}", n)
            assert check_set(tmp_path / f"s{n}") == []
            with ShardedIndex.open(tmp_path / f"s{n}") as sharded:
                assert sharded.get([each.id for each in old.documents()]) == list(old.documents())
                text = next(each.text for each in old.documents() if each.text)
                got, want = sharded.search(text, 5, mode="bm25"), old.search(text, 5, mode="bm25")
                if n == 1:
                    assert list(got) == want
                assert {hit.id for hit in got} == {hit.id for hit in want}


def test_words_that_a_shard_was_written_without_are_told(tmp_path):
    counts = WordCounts(without="shard-1/segments/1")
    with pytest.raises(IndexUnusable, match="Compact"):
        check_words(WordCounts(3, 9).plus(counts).without)
