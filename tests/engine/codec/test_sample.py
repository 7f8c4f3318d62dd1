"""A sample in parts is read as one array, and a codec learnt of it is the same to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.codec.kmeans import BLOCK
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.codec.sample import Sample


@pytest.fixture(scope="module")
def values():
    found = np.random.default_rng(3).standard_normal((BLOCK + 3000, 16)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def sample(values):
    cuts = np.sort(np.random.default_rng(4).choice(len(values), 40, replace=False))
    return Sample([*np.split(values, cuts), values[:0]], 16)


def test_rows_in_any_order_and_more_than_once(values, sample):
    rows = np.random.default_rng(5).integers(0, len(values), 500)
    assert sample.shape == values.shape and len(sample) == len(values)
    assert np.array_equal(sample.take(rows), values[rows])
    assert sample.take(rows[:0]).shape == (0, 16) and Sample([], 16).take(rows[:0]).shape == (0, 16)


def test_blocks_are_all_of_it_or_the_rows_asked_for(values, sample):
    assert np.array_equal(np.concatenate(list(sample.blocks(1000))), values)
    rows = np.arange(0, len(values), 7)
    assert np.array_equal(np.concatenate(list(sample.blocks(100, rows))), values[rows])


def test_those_that_are_wanted_are_asked_for_in_blocks(values, sample):
    asked = []
    found = sample.where(lambda block: (asked.append(len(block)), block[:, 0] > 0.2)[1], 5000)
    assert asked[:-1] == [5000] * (len(values) // 5000) and sum(asked) == len(values)
    assert np.array_equal(found.take(np.arange(len(found))), values[values[:, 0] > 0.2])


def test_a_sample_of_one_array_is_no_copy(values):
    again = Sample.of(values)
    assert Sample.of(again) is again and np.shares_memory(again._parts[0], values)


def test_a_codec_is_the_same_to_the_bit(values, sample):
    """More than one block, and more centroids than some have points: all branches of k-means."""
    whole, parts = (ResidualCodec.train(each, 2, n_centroids=64) for each in (values, sample))
    grown = [each.extended(more, 16) for each, more in ((whole, values), (parts, sample))]
    for a, b in ((whole, parts), grown):
        assert a.far == b.far
        for name, array in a.state()[0].items():
            assert np.array_equal(array, b.state()[0][name]), name
