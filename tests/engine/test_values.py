"""`TokenVectors`: shapes, views and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt import TokenVectors
from latebolt.errors import InvalidInput


@given(st.lists(st.integers(0, 5), max_size=8))
def test_matrices_come_back_as_they_went_in(lengths):
    matrices = [np.full((n, 4), i, np.float32) for i, n in enumerate(lengths)]
    vectors = TokenVectors.from_matrices(matrices, dim=4)
    assert len(vectors) == len(lengths) and vectors.n_tokens == sum(lengths)
    assert vectors.lengths.tolist() == lengths
    for got, expected in zip(vectors, matrices, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_indexing_gives_views(rng):
    vectors = TokenVectors.from_matrices([rng.unit(n, 8) for n in (2, 0, 3)])
    assert np.shares_memory(vectors[2], vectors.values)
    np.testing.assert_array_equal(vectors[-1], vectors[2])
    part = vectors[1:]
    assert isinstance(part, TokenVectors) and part.lengths.tolist() == [0, 3]
    np.testing.assert_array_equal(part[1], vectors[2])
    assert vectors[::-1].lengths.tolist() == [3, 0, 2]
    assert len(vectors[5:2]) == 0
    with pytest.raises(IndexError):
        vectors[3]


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (np.zeros(3), [0, 3], "n_tokens, dim"),
        (np.zeros((3, 2)), [0, 2], "end at 3"),
        (np.zeros((3, 2)), [1, 3], "start at 0"),
        (np.zeros((3, 2)), [0, 2, 1, 3], "never decrease"),
        (np.zeros((3, 2)), [], "start at 0"),
    ],
)
def test_contradictions_are_refused(values, offsets, message):
    with pytest.raises(InvalidInput, match=message):
        TokenVectors(values, np.array(offsets, np.int64))


def test_matrices_of_different_width_are_refused():
    with pytest.raises(InvalidInput, match="matrix 1"):
        TokenVectors.from_matrices([np.zeros((1, 4)), np.zeros((1, 8))])
