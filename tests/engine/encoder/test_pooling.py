"""Token pooling against SciPy's Ward linkage, an independent implementation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from latebolt.encoder import pooling
from latebolt.encoder.pooling import pool_tokens, ward_labels


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
