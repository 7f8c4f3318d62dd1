"""The stages of a search against doing everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt import Index, TokenVectors
from latebolt.index.search.planning import Effort
from latebolt.index.search.stages import SAMPLE, _Order, refine, top_k


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 12))
def test_top_k_keeps_every_equal_of_the_last(values, k):
    scores = np.array(values, np.float32)
    best = top_k(scores, k)
    assert list(scores[best]) == sorted(scores[best], reverse=True)
    least = sorted(values, reverse=True)[:k][-1] if values else 0
    assert set(best.tolist()) == {i for i, value in enumerate(values) if value >= least}


@given(
    st.integers(1, 6 * SAMPLE),
    st.integers(1, 7 * SAMPLE),
    st.integers(0, 1000),
    st.sampled_from([1, 3, 10**6]),
    st.booleans(),
)
def test_an_order_begins_with_the_best_whatever_the_sample_says(n, wanted, seed, kinds, ascending):
    """By score, equals by position: few kinds make ties, and scores in order mislead nobody."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(-kinds, kinds, n) / kinds).astype(np.float32)
    if ascending:
        scores.sort()
    order = _Order(scores, None)
    assert order.reach(wanted) == min(wanted, n) <= len(order.rows)
    np.testing.assert_array_equal(order.rows, np.argsort(-scores, kind="stable")[: len(order.rows)])
    np.testing.assert_array_equal(order.scores, scores[order.rows])


@given(st.integers(0, 400), st.integers(1, 8), st.integers(0, 1000), st.floats(0, 0.3))
def test_refining_finds_the_best_when_the_cheap_ranking_is_near(n, k, seed, noise):
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(n).astype(np.float32)
    cheap = exact + noise * rng.standard_normal(n).astype(np.float32)
    asked = []

    def score(rows):
        asked.extend(rows.tolist())
        return exact[rows]

    rows, scores, _ = refine(cheap, score, Effort(16, 16, k, k, max(n, 16)))
    np.testing.assert_array_equal(scores, exact[rows])
    assert len(asked) == len(set(asked))  # nothing is scored twice
    if noise == 0:
        assert sorted(scores, reverse=True)[:k] == sorted(exact, reverse=True)[:k]


def test_refining_goes_on_while_it_helps():
    """The cheap ranking puts the best documents behind: rounds go on until they bring nothing."""
    exact = np.zeros(1000, np.float32)
    exact[[100, 200]] = (5, 6)
    cheap = -np.arange(1000, dtype=np.float32)
    rows, scores, settled = refine(cheap, lambda rows: exact[rows], Effort(60, 60, 1, 1, 1000))
    assert scores.max() == 6 and len(rows) < 1000 and settled


def test_search_agrees_with_exhaustive_search(tmp_path, rng, pruned):
    centres = rng.unit(300, 64)
    lengths = rng.integers(5, 30, 3000)
    values = centres[rng.integers(0, 300, lengths.sum())] + 0.4 * rng.unit(int(lengths.sum()), 64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    vectors = TokenVectors(values, np.concatenate([[0], np.cumsum(lengths)]))
    index = Index.create(tmp_path / "i", None, dim=64)
    metadata = [{"odd": i % 2} for i in range(3000)]
    index.add_vectors(None, vectors, metadata=metadata)
    assert index.info()["centroids"]
    queries = [vectors[i * 100][:8] for i in range(20)]
    together = index.search_vectors_many(queries)  # side by side, a thread each
    assert together == [index.search_vectors(query) for query in queries]
    assert index.search_vectors_many([]) == []
    agree = 0
    for i in range(20):
        query = vectors[i * 100][:8]
        fast, all_ = index.search_vectors(query, k=10), index.search_vectors(query, k=10, exhaustive=True)
        assert fast[0].id == all_[0].id == str(i * 100)
        agree += len({hit.id for hit in fast} & {hit.id for hit in all_})
        odd = index.search_vectors(query, k=10, where="odd = 1")
        assert len(odd) == 10 and all(hit.metadata["odd"] for hit in odd)
    assert agree >= 196


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_query_of_no_tokens_scores_nothing_in_any_store(tmp_path, rng, bits, pruned):
    index = Index.create(tmp_path / "i", None, dim=64, bits=bits)
    index.add_vectors(None, TokenVectors(rng.unit(40_000, 64), np.arange(0, 40_001, 20)))
    assert bits >= 8 or index.info()["centroids"]
    none = np.zeros((0, 64), np.float32)
    ways = [index.search_vectors(none, 3, exhaustive=exhaustive) for exhaustive in (False, True)]
    ways += [index.search_vectors_many([none])[0][:3]]
    for hits in ways:
        assert [hit.score for hit in hits] == [0.0] * len(hits) and len(hits) == 3


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "uniform"])
def test_hardly_one_of_the_best_is_left_out_and_cheap_rankings_that_are_near_end_early(noise, kind):
    """However near the cheap ranking is, and not only where its errors are what they are taken to be."""
    rng = np.random.default_rng(7)
    wanted, n = 32, 4000
    missed, asked = [], []
    for _ in range(60):
        exact = rng.standard_normal(n).astype(np.float32)
        errors = {
            "normal": rng.standard_normal(n),
            "heavy tails": rng.standard_t(5, n),
            "uniform": rng.uniform(-2, 2, n),
        }[kind]
        found = refine(
            (exact - noise * errors).astype(np.float32),
            lambda rows, exact=exact: exact[rows],
            Effort(128, 128, wanted, 64, n),
        )
        missed.append(np.setdiff1d(np.argsort(-exact)[:10], found.rows).size)
        asked.append(len(found.rows))
    assert np.mean(missed) <= 0.1  # a hundredth of ten
    assert np.mean(asked) < {0.05: 200, 0.2: 500, 0.5: 1800, 1.0: 4001}[noise]


def test_no_more_than_the_most_is_scored_and_steps_are_never_cut_short():
    """A cheap ranking that says nothing: rounds double up to the limit, and end there."""
    rng = np.random.default_rng(3)
    exact, cheap = rng.standard_normal((2, 60_000)).astype(np.float32)
    calls = []

    def score(rows):
        calls.append(len(rows))
        return exact[rows]

    found = refine(cheap, score, Effort(256, 256, 32, 10**6, 16_384))
    assert np.cumsum(calls).tolist() == [256, 512, 1024, 2048, 4096, 8192, 16_384]
    assert not found.settled
