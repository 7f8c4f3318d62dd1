"""A search finds what exhaustive search finds, whatever the corpus, query and k; and which way it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_corpora import DIM, WordCorpus, add_passages

from latebolt import Index
from latebolt.index.search import planning, rank
from latebolt.index.search.explain import Trace
from latebolt.index.search.planning import (
    Costs,
    Work,
    decide,
    effort,
    effort_by_lists,
    expected_documents,
    level,
)
from latebolt.index.search.query import Request

WORDS = (1, 2, 4, 8, 18)
PLAIN = Work(n_query=20, dim=128, bits=2, n_tokens=10**8, n_documents=10**6, n_centroids=65536,
             n_stored=10**8, share=1.0)  # fmt: skip

# The decision


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({}, "pruned"),
        ({"n_tokens": 125_000, "n_documents": 2500}, "exact"),  # under 3 ms
        ({"n_tokens": 125_000, "n_documents": 2500, "share": 0.05}, "pruned"),  # one of twenty segments
        ({"bits": 0}, "exact"),  # float16 has no centroids
        ({"n_tokens": 130_000, "n_documents": 100_000}, "exact"),  # documents behind a filter
        ({"n_query": 3, "n_tokens": 450_000, "n_documents": 4500}, "exact"),
        ({"n_query": 3, "n_tokens": 1_200_000, "n_documents": 9000}, "pruned"),
        ({"n_query": 3, "n_tokens": 1_200_000, "n_documents": 500}, "exact"),  # all are candidates
        ({"n_query": 40, "n_tokens": 1_200_000, "n_documents": 9000}, "pruned"),
        ({"n_query": 0, "n_tokens": 0, "n_documents": 0}, "exact"),
    ],
)
def test_the_way_follows_from_the_costs(changes, way):
    plan = decide(PLAIN._replace(**changes))
    assert plan.way == way and plan.why


@given(
    st.integers(1, 10**8), st.integers(1, 10**4), st.integers(1, 200), st.sampled_from([1, 2, 4]),
    st.floats(0.01, 1),
)  # fmt: skip
def test_what_is_cheap_enough_is_scored_exactly(n_tokens, tokens_a_document, n_query, bits, share):
    n_documents = -(-n_tokens // tokens_a_document)
    work = PLAIN._replace(
        n_query=n_query, bits=bits, n_tokens=n_tokens, n_documents=n_documents, n_stored=n_tokens, share=share
    )
    plan, costs = decide(work), Costs()
    cheap = 1e6 * plan.exact_ms <= costs.budget * share
    assert (plan.way == "exact") == (cheap or plan.exact_ms <= costs.ratio * plan.pruned_ms)
    assert decide(work, Costs(budget=0, ratio=0)).way == "pruned"
    assert expected_documents(work) <= n_documents
    # Fewer tokens never make it worse.
    if plan.way == "exact" and n_documents > 1:
        fewer = work._replace(n_tokens=n_tokens // 2, n_documents=n_documents // 2)
        assert decide(fewer).exact_ms <= plan.exact_ms


def test_effort_grows_with_the_corpus_with_its_misfit_and_for_few_query_tokens():
    look = effort(PLAIN, 10)
    assert effort(PLAIN._replace(n_documents=10**7), 10).first > look.first
    assert effort(PLAIN._replace(n_centroids=8192), 10).first > look.first
    assert effort(PLAIN._replace(n_query=3), 10).stable > effort(PLAIN._replace(n_query=40), 10).stable
    assert effort(PLAIN, 10) == effort(PLAIN, 1) == effort(PLAIN, 32) != effort(PLAIN, 33)
    assert effort(PLAIN, 1000).first >= 4 * level(1000) == 4096


@pytest.mark.parametrize(("n_query", "first"), [(1, 1024), (8, 1024), (9, 512), (40, 512)])
def test_the_first_round_by_lists_grows_with_them_and_not_without_end(n_query, first):
    """Where lists are longer, rounds of as few documents ended before the best had come."""
    firsts = [effort_by_lists(10, a_list, n_query).first for a_list in (5, 75, 100, 120, 214, 10**6)]
    assert firsts[0] == firsts[1] == first and firsts[-2] == firsts[-1] == 2 * first
    assert firsts == sorted(firsts) and len(set(firsts)) == 4
    for a_list in (1, 75, 120, 10**6):
        look = effort_by_lists(10, a_list, n_query)
        assert look.stable <= look.half < look.first < look.most == effort_by_lists(32, a_list, n_query).most


@given(st.integers(1, 5000), st.integers(1, 10**6), st.integers(0, 300))
def test_a_round_is_larger_than_what_it_must_leave_as_it_was(k, n_documents, n_query):
    look = effort(PLAIN._replace(n_documents=n_documents, n_query=n_query), k)
    assert level(k) >= k and 0 < look.stable < look.first < look.most


# What is found

SHAPES = {
    "ten": (10, 2, {}),
    "small": (400, 2, {}),
    "middle, 1 bit": (3000, 1, {}),
    "middle, 4 bits": (3000, 4, {}),
    "grown": (5000, 2, {"first": 50}),
    "many centroids": (3000, 2, {"centroids": 4}),
    "passages": (4000, 2, {"passages": True}),
    "outliers": (3000, 2, {"other": 1500}),
    "large": (12_000, 2, {"lengths": (3, 20)}),
}


def build(folder: Path, patch: pytest.MonkeyPatch, shape: str) -> WordCorpus:
    n, bits, how = SHAPES[shape]
    corpus = WordCorpus(n, how.get("lengths", (10, 60)), seed=len(shape))
    index = Index.create(folder, None, bits=bits, dim=DIM)
    if times := how.get("centroids"):
        real = planning.default_n_centroids
        patch.setattr("latebolt.codec.residual_codec.default_n_centroids", lambda n: times * real(n))
    if how.get("passages"):
        # Every third document is long: its passages crowd the first rounds.
        lengths = np.random.default_rng(1).choice([1, 1, 30], n)
        numbers = np.repeat(np.arange(n), lengths)[:n]
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        passages = np.arange(n) - np.repeat(starts, np.diff([*starts, n]))
        add_passages(index, corpus.vectors(), [f"{i:05}" for i in numbers], passages.tolist())
        return corpus
    metadata = [{"part": i % 7} for i in range(n)]
    first = how.get("first", n)
    for start, stop in ((0, first), *((s, min(s + 1650, n)) for s in range(first, n, 1650))):
        if start < stop:
            ids = [str(i) for i in range(start, stop)]
            index.add_vectors(ids, corpus.vectors(start, stop), metadata=metadata[start:stop])
    if extra := how.get("other"):
        other = WordCorpus(extra, seed=99)  # words of another language, for which centroids are appended
        index.add_vectors([f"o{i}" for i in range(extra)], other.vectors())
    return corpus


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Callable[..., tuple[Index, WordCorpus]]:
    """make(shape) -> (an index that nobody changes, its corpus, which asks every test the same questions);
    each is built once. All that can have lists do; whether these are used, what they cost decides."""
    built: dict[str, tuple[Path, WordCorpus]] = {}

    def made(shape: str) -> tuple[Index, WordCorpus]:
        if shape not in built:
            folder = tmp_path_factory.mktemp("shape") / "i"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("latebolt.index.store.inverted_lists.LEAST_TOKENS", 1000)
                built[shape] = folder, build(folder, patch, shape)
        folder, corpus = built[shape]
        return Index.open(folder), corpus.again()

    return made


@pytest.fixture(scope="module")
def truth(make) -> Callable[[str], list[tuple[np.ndarray, list[str]]]]:
    """truth(shape) -> queries, and the ids that exhaustive search finds for each."""
    known: dict[str, list[tuple[np.ndarray, list[str]]]] = {}

    def found(shape: str) -> list[tuple[np.ndarray, list[str]]]:
        if shape not in known:
            index, corpus = make(shape)
            known[shape] = [
                (query, [hit.id for hit in index.search_vectors(query, k=10, exhaustive=True)])
                for query in questions(corpus, 20)
            ]
        return known[shape]

    return found


@pytest.fixture(autouse=True)
def without_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes have no lists; those of the tests do, which only a test that asks for them uses."""
    monkeypatch.setattr("latebolt.index.search.rank.TOKENS_AN_ENTRY", 1e9)


def questions(corpus: WordCorpus, n: int) -> Iterator[np.ndarray]:
    for n_words in WORDS:
        yield from corpus.queries(n_words, n)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("forced", [True, False], ids=["pruned", "planned"])
def test_the_best_are_those_of_exhaustive_search(make, truth, request, shape, forced):
    """The first in 99.9 %, the first ten in 99 % of all queries."""
    if forced:
        request.getfixturevalue("pruned")
    index, _ = make(shape)
    first = ten = asked = 0
    for query, best in truth(shape):
        for k in (1, 3, 10):
            got = [hit.id for hit in index.search_vectors(query, k=k)]
            asked, first, ten = asked + 1, first + (got[0] == best[0]), ten + (got == best[:k])
    assert first >= 0.999 * asked and ten >= 0.99 * asked, (first / asked, ten / asked)


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "large"])
def test_hits_of_a_smaller_k_begin_those_of_a_larger(make, monkeypatch, pruned, shape, lists):
    if lists:
        monkeypatch.setattr("latebolt.index.search.rank.TOKENS_AN_ENTRY", 0.1)
    index, corpus = make(shape)
    seen = []
    real = rank.gather
    monkeypatch.setattr("latebolt.index.search.rank.gather", lambda *a: seen.append(1) or real(*a))
    wheres = (None, "part in (1, 4)", "part = 5") if SHAPES[shape][2].get("passages") is None else (None,)
    for query in questions(corpus, 1):
        for where in wheres:
            most = index.search_vectors(query, k=32, where=where)
            for k in (1, 2, 5, 10, 20):
                assert index.search_vectors(query, k=k, where=where) == most[:k]
    assert bool(seen) == (lists and shape != "ten")


def test_hits_do_not_depend_on_threads_or_on_company(make):
    index, corpus = make("middle, 4 bits")
    asked = list(questions(corpus, 2))
    assert index.search_vectors_many(asked) == [index.search_vectors(query) for query in asked]


def test_an_explanation_says_which_way_and_why(make, monkeypatch):
    index, corpus = make("grown")
    [query] = corpus.queries(8, 1)

    def roads(**settings):
        trace = Trace(wanted=True)
        index._each(
            index._snapshot(Request()),
            [(query, "")],
            lambda each, _: each.find(Request(k=3, **settings)),
            trace=trace,
        )
        return trace.roads

    assert {road.way for road in roads()} == {"exact"} and "ms of one thread" in roads()[0].why
    assert "asked for" in roads(exhaustive=True)[0].why
    monkeypatch.setattr(planning, "COSTS", Costs(budget=0, ratio=0))
    ways = roads()
    assert {road.way for road in ways} == {"centroids"}
    assert all("times a pruned search" in road.why and "scored exactly" in road.why for road in ways)


def test_a_pruned_search_ends_at_its_limit(make, monkeypatch, pruned):
    for name, value in (("FIRST_ROUND", 64), ("LEAST_LEVEL", 16), ("MOST_DOCUMENTS", 200), ("MOST_ROOTS", 1)):
        monkeypatch.setattr(planning, name, value)
    index, corpus = make("middle, 1 bit")
    trace = Trace(wanted=True)
    for query in corpus.queries(1, 20):
        index._each(
            index._snapshot(Request()), [(query, "")], lambda each, _: each.find(Request(k=3)), trace=trace
        )
    assert any("up to the limit" in road.why for road in trace.roads)
    [seen] = [stage.documents for stage in trace.stages if stage.name == "score exactly"]
    assert seen <= 20 * 256
