"""The two-level search for the nearest centroid against its definition, and what it must never depend on."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.kernels.groups import GroupedCentroids, centroid_bytes, grouped_centroids, nearest_grouped
from latebolt.kernels.reference import bytes_reference, nearest_grouped_reference
from latebolt.kernels.shapes import (
    BYTE_MOST,
    GROUP_PARTS,
    GROUPS_TRIED,
    LEVEL_MOST,
    LEVEL_ZERO,
    SETTLED,
)


def expected(
    values: np.ndarray, centroids: np.ndarray, group_of: np.ndarray, prepared: GroupedCentroids
) -> np.ndarray:
    rows = bytes_reference(values, prepared.spread, LEVEL_MOST - LEVEL_ZERO).astype(np.int16) + LEVEL_ZERO
    return nearest_grouped_reference(
        bytes_reference(values, prepared.spread, BYTE_MOST), rows.astype(np.uint8), prepared.levels, group_of,
        centroid_bytes(centroids)[0], values, centroids, GROUPS_TRIED, GROUP_PARTS, SETTLED,
    )  # fmt: skip


def some_groups(rng: np.random.Generator, n: int, n_groups: int, copies: int) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(n_groups), (n, 1)), axis=1)[:, :copies]


# Widths of whole and half vectors; 1024 dimensions share their bits with a group's number.
@pytest.mark.parametrize(
    ("dim", "n", "k", "n_groups", "copies"),
    [
        (8, 40, 700, 32, 1),
        (36, 33, 90, 16, 2),  # fewer than lanes in a group
        (64, 3, 7, 64, 1),  # most groups are empty
        (96, 65, 500, 48, 3),
        (128, 31, 1, 16, 1),
        (1024, 9, 60, 20, 1),
    ],
)
def test_it_is_what_its_definition_says(rng, dim, n, k, n_groups, copies):
    values, centroids = rng.unit(n, dim), rng.unit(k, dim)
    group_of = some_groups(rng, k, n_groups, copies)
    prepared = grouped_centroids(centroids, rng.unit(n_groups, dim), group_of)
    found = nearest_grouped(values, prepared)
    np.testing.assert_array_equal(found, expected(values, centroids, group_of, prepared))


def test_a_vector_is_given_the_same_in_any_company(rng):
    centroids, values = rng.unit(900, 64), rng.unit(9001, 64)
    prepared = grouped_centroids(centroids, rng.unit(48, 64), some_groups(rng, 900, 48, 2))
    whole = nearest_grouped(values, prepared, 1)
    np.testing.assert_array_equal(nearest_grouped(values, prepared, 3), whole)
    mixed = rng.permutation(len(values))
    np.testing.assert_array_equal(nearest_grouped(values[mixed], prepared), whole[mixed])
    for first, last in ((0, 1), (4090, 4100), (17, 60), (8999, 9001)):
        np.testing.assert_array_equal(nearest_grouped(values[first:last], prepared), whole[first:last])
    assert nearest_grouped(values[:0], prepared).shape == (0,)


def test_a_centroid_is_its_own_nearest(rng):
    centroids, groups = rng.unit(600, 64), rng.unit(32, 64)
    group_of = np.argsort(-centroids @ groups.T, axis=1)[:, :2]
    assert nearest_grouped(centroids, grouped_centroids(centroids, groups, group_of)).tolist() == list(
        range(600)
    )


def test_equal_centroids_give_the_first(rng):
    centroids = np.repeat(rng.unit(2, 16), 50, axis=0)
    groups = np.repeat(rng.unit(1, 16), 16, axis=0)  # of which the first are tried
    prepared = grouped_centroids(centroids, groups, np.full((100, 1), 7))
    assert nearest_grouped(centroids, prepared).tolist() == [0] * 50 + [50] * 50


def test_only_the_tried_groups_are_looked_at(rng):
    """The nearest centroid is missed where it is in a group that lies elsewhere, and found in two."""
    groups = np.eye(32, dtype=np.float32)
    values = groups[:1]
    centroids = np.concatenate([values, rng.unit(40, 32) * np.float32(0.1)])
    away = np.full((41, 1), 31)
    away[1:, 0] = 0
    assert nearest_grouped(values, grouped_centroids(centroids, groups, away)).tolist() != [0]
    both = np.concatenate([away, 31 - away], axis=1)
    assert nearest_grouped(values, grouped_centroids(centroids, groups, both)).tolist() == [0]


@pytest.mark.parametrize("amiss", (np.nan, np.inf, -np.inf, 0, 3e38))
def test_any_number_is_given_a_centroid_that_there_is(rng, amiss):
    values = rng.unit(70, 64)
    values[::3] = amiss
    prepared = grouped_centroids(rng.unit(40, 64), rng.unit(16, 64), some_groups(rng, 40, 16, 1))
    found = nearest_grouped(values, prepared)
    assert ((found >= 0) & (found < 40)).all()
    np.testing.assert_array_equal(found[1::3], nearest_grouped(values[1::3], prepared))


@pytest.mark.parametrize("n_groups", (8, 18, 1040))
def test_numbers_of_groups_that_cannot_be(rng, n_groups):
    with pytest.raises(ValueError, match=f"{n_groups} groups"):
        grouped_centroids(rng.unit(40, 8), rng.unit(n_groups, 8), np.zeros((40, 1), np.int64))
