"""Token pooling against SciPy's Ward linkage, an independent implementation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.encoder import pooling
from latebolt.encoder.pooling import Pooling, check_pooling, pool_tokens, ward_labels
from latebolt.errors import InvalidInput


def partition(labels) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.mark.parametrize("n", (2, 7, 40, 90))
@pytest.mark.parametrize("factor", (2, 3, 4))
def test_same_clusters_as_scipy(rng, n, factor):
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    points = rng.unit(n, 16)
    k = -(-n // factor)
    expected = hierarchy.fcluster(hierarchy.linkage(points.astype(float), "ward"), k, "maxclust")
    assert partition(ward_labels(points, k)) == partition(expected)


def test_labels_are_numbered_by_first_appearance(rng):
    labels = ward_labels(rng.unit(30, 8), 10)
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(10)]
    assert firsts == sorted(firsts)


def test_factor_one_and_short_documents_change_nothing(rng):
    vectors = rng.unit(6, 8)
    assert pool_tokens(vectors, 1, 1) is vectors
    assert len(pool_tokens(vectors[:1], 4, 1)) == 1 and len(pool_tokens(vectors[:2], 4, 1)) == 2


def test_equal_tokens_become_one(rng):
    vectors = np.repeat(rng.unit(3, 8), 2, axis=0)
    pooled = pool_tokens(vectors, 2, 0)
    np.testing.assert_allclose(pooled, vectors[::2], atol=1e-6)


@pytest.mark.parametrize("factor", (2, 3, 7, 50))
@pytest.mark.parametrize("n", (20, 21, 59, 60, 61, 200))
def test_a_long_document_is_clustered_by_neighbouring_parts(rng, monkeypatch, n, factor):
    monkeypatch.setattr(pooling, "MOST_TOGETHER", 20)
    vectors = rng.unit(n + 1, 8)
    pooled = pool_tokens(vectors, factor, 1)
    assert len(pooled) == 1 + -(-n // factor)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    step = max(1, 20 // factor) * factor
    monkeypatch.undo()
    parts = [pool_tokens(vectors[1 + i : 1 + i + step], factor, 0) for i in range(0, n, step)]
    np.testing.assert_allclose(pooled[1:], np.concatenate(parts), atol=1e-6)


def test_the_memory_of_a_long_document_is_bounded(rng):
    vectors = rng.unit(8192, 16)
    tracemalloc.start()
    pooled = pool_tokens(vectors, 2, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pooled) == 4096 and peak < 110_000_000


@pytest.mark.parametrize("most", (3, 4, 17, 40, 41, 42, 99))
@pytest.mark.parametrize("factor", (1, 3))
def test_no_more_than_most_are_kept_and_clusters_are_those_of_the_hierarchy(rng, most, factor):
    vectors = rng.unit(41, 8)
    pooled = pool_tokens(vectors, factor, 2, most)
    by_factor = 2 + -(-39 // factor)
    assert len(pooled) == min(most, by_factor)
    np.testing.assert_array_equal(pooled[:2], vectors[:2])
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    if most >= by_factor:
        np.testing.assert_array_equal(pooled, pool_tokens(vectors, factor, 2))
    else:
        labels = ward_labels(vectors[2:], most - 2)
        sums = np.stack([vectors[2:][labels == label].sum(0) for label in range(most - 2)])
        expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        np.testing.assert_allclose(pooled[2:], expected, atol=1e-6)


@given(st.integers(1, 300), st.integers(1, 320), st.integers(1, 4), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_every_length_has_its_clusters_none_of_them_empty(n, most, factor, together):
    vectors = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "MOST_TOGETHER", together)
        pooled = pool_tokens(vectors, factor, 1, most + 1)
    assert len(pooled) == 1 + min(most, -(-(n - 1) // factor))
    # A sum of opposite vectors may vanish; an empty cluster would be exactly nothing.
    assert (np.linalg.norm(pooled, axis=1) > 0).all()


def test_the_memory_of_a_long_document_that_keeps_few_vectors_is_bounded(rng):
    vectors = rng.unit(8192, 16)
    for most in (2, 3, 6, 64):
        tracemalloc.start()
        assert len(pool_tokens(vectors, 1, 1, most)) == most
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 110_000_000


def test_a_number_of_vectors_tells_whether_all_were_kept():
    assert Pooling().keeps(9) and Pooling(1, 10).keeps(9)
    assert not Pooling(1, 9).keeps(9) and not Pooling(2).keeps(9) and not Pooling(2, 10).keeps(9)
    assert str(Pooling()) == "none" and str(Pooling(2, 9)) == "by 2 and to at most 9 vectors a text"


@pytest.mark.parametrize(
    ("factor", "most", "told"),
    [
        (0, None, "pool_factor should be an int of at least 1, got 0"),
        (True, None, "pool_factor should be an int"),
        (2.0, None, "pool_factor should be an int"),
        (10**30, None, r"pool_factor should be an int in 1\.\.65536"),
        (1, 3, r"max_vectors should be an int in 4\.\.65536 for this model, 3 of them for the markers"),
        (1, -5, "max_vectors should be an int of at least 1, got -5"),
        (1, "9", "max_vectors should be an int"),
        (1, 65_537, "max_vectors should be an int in"),
    ],
)
def test_what_is_no_pooling_is_refused(factor, most, told):
    with pytest.raises(InvalidInput, match=told):
        check_pooling(factor, most, 4)
    assert check_pooling(np.int64(2), np.int32(4), 4) == Pooling(2, 4)
