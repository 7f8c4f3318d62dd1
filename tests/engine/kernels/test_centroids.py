"""Nearest centroids and centroid-only MaxSim against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.kernels.centroids import centroid_levels, centroid_scores, maxsim_centroids, nearest
from latebolt.kernels.reference import maxsim_reference


@pytest.mark.parametrize("dim", (8, 64, 96, 128))
@pytest.mark.parametrize(("n", "k"), [(1, 1), (31, 3), (33, 4), (100, 5), (500, 257)])
def test_nearest(rng, dim, n, k):
    values, centroids = rng.unit(n, dim), rng.unit(k, dim)
    found = nearest(values, centroid_levels(centroids))
    dots = values @ centroids.T
    chosen = dots[np.arange(n), found]
    # Bytes may confuse centroids whose dot products differ by less than their rounding.
    assert (chosen >= dots.max(axis=1) - 0.02).all()
    assert (found == dots.argmax(axis=1)).mean() > 0.98


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_vector_that_is_no_number_gets_a_centroid_that_exists(rng):
    values = rng.standard_normal((5, 16)).astype(np.float32)
    values[2], values[3] = np.nan, np.inf
    assert (nearest(values, centroid_levels(rng.standard_normal((20, 16)).astype(np.float32))) < 20).all()


def test_nearest_of_a_centroid_is_itself(rng):
    centroids = rng.unit(300, 64)
    assert nearest(centroids, centroid_levels(centroids)).tolist() == list(range(300))


def test_nearest_over_many_blocks_and_threads(rng):
    values, prepared = rng.unit(70_000, 8), centroid_levels(rng.unit(50, 8))
    one = nearest(values, prepared, n_threads=1)
    np.testing.assert_array_equal(nearest(values, prepared, n_threads=3), one)
    np.testing.assert_array_equal(nearest(values[65_000:65_100], prepared), one[65_000:65_100])


def test_equal_centroids_give_the_first(rng):
    centroids = np.repeat(rng.unit(1, 16), 9, axis=0)
    assert nearest(rng.unit(20, 16), centroid_levels(centroids)).tolist() == [0] * 20


@pytest.mark.parametrize("n_query", (1, 16, 17, 31, 32, 33, 64, 65, 97, 130))
@pytest.mark.parametrize("dtype", (np.uint16, np.uint32))
def test_centroid_maxsim(rng, n_query, dtype):
    query, centroids = rng.unit(n_query, 64), rng.unit(40, 64)
    offsets = np.array([0, 0, 1, 8, 30])
    cells = rng.integers(0, 40, 30).astype(dtype)
    got = maxsim_centroids(centroid_scores(centroids @ query.T), cells, offsets)
    expected = maxsim_reference(query, centroids[cells], offsets)
    # Half a byte step a query token, of a range below 2.
    np.testing.assert_allclose(got, expected, atol=n_query * 2 / 255 / 2 + 1e-4)
    # So many that those that follow are asked for ahead, and too few for that.
    for some in (np.array([3, 1]), rng.integers(0, 4, 30)):
        np.testing.assert_array_equal(
            maxsim_centroids(centroid_scores(centroids @ query.T), cells, offsets, some), got[some]
        )
