"""Residual codes of vectors: every one as the definition has it, and factors that give a direction back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_imports import late_imports
from latebolt.kernels.reference import encode_residual_reference
from latebolt.kernels.residual import encode_residual

if TYPE_CHECKING:  # which imports numba
    from latebolt.kernels.programs.encode_residual import LENGTH_COUNTS, ROUNDS

late = late_imports(globals())


class Case:
    """Vectors near random centroids, and a codec's tables."""

    def __init__(self, rng, n: int, dim: int, bits: int) -> None:
        unit = rng.standard_normal
        self.centroids = unit((5, dim)).astype(np.float32)
        self.centroids /= np.linalg.norm(self.centroids, axis=1, keepdims=True)
        self.cells = rng.integers(0, 5, n)
        # Residuals of very different widths, none at all among them.
        widths = rng.choice([0.0, 0.01, 0.3, 2.0], (n, 1))
        self.values = (self.centroids[self.cells] + widths * unit((n, dim)) / dim**0.5).astype(np.float32)
        self.spread = (0.01 * rng.uniform(0.5, 2, dim)).astype(np.float32)
        self.weights = np.sort(rng.choice(np.arange(-63, 64), 2**bits, replace=False)).astype(np.float32)
        self.unit = float(rng.uniform(10, 60))
        self.factors = np.stack([rng.uniform(0.3, 1.3, 256), rng.uniform(0, 40, 256)], 1).astype(np.float32)
        self.bits = bits

    def encoded(self, factors=True, **options):
        tables = self.spread, self.weights, self.unit, self.factors if factors else None
        return encode_residual(self.values, self.cells, self.centroids, *tables, **options)

    def weights_of(self, codes):
        """float32 [n, dim]: what packed codes say, spread included."""
        fields = [
            codes >> np.uint8(self.bits * i) & np.uint8(2**self.bits - 1) for i in range(8 // self.bits)
        ]
        return self.weights[np.concatenate(fields, axis=1)] * self.spread


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((8, 48, 64, 128)), st.sampled_from((1, 2, 4)))
def test_the_kernel_is_held_to_its_definition(seed, dim, bits):
    case = Case(np.random.default_rng(seed), 12, dim, bits)
    found = case.encoded()
    coded = case.weights_of(found.codes)
    for i, value in enumerate(case.values):
        centroid = case.centroids[case.cells[i]]
        codes, norm, best = encode_residual_reference(
            value, centroid, case.spread, case.weights, case.unit, case.factors, ROUNDS, float(LENGTH_COUNTS)
        )
        expected = case.weights[codes] * case.spread
        if not np.array_equal(coded[i], expected):
            # Floats settle a value that lies on an edge: both codes are as near then.
            nearness = [
                np.linalg.norm(best[0] * centroid + best[1] * w - value) for w in (coded[i], expected)
            ]
            assert nearness[0] == pytest.approx(nearness[1], rel=1e-3, abs=1e-4)
            continue
        np.testing.assert_allclose(found.pairs[i], best, rtol=2e-3, atol=2e-3)
        basis, chosen = np.stack([centroid, expected]), case.factors[[found.norms[i], norm]]
        apart = (np.asarray(best) - chosen) @ basis
        errors = (apart**2).sum(1) + LENGTH_COUNTS * (apart @ (np.asarray(best) @ basis)) ** 2
        assert errors[0] <= errors[1] * 1.01 + 1e-4


def test_the_best_factors_give_the_nearest_direction_at_unit_length(rng):
    case = Case(np.random.default_rng(3), 400, 64, 2)
    found = case.encoded(factors=False)
    decoded = found.pairs[:, :1] * case.centroids[case.cells] + found.pairs[:, 1:] * case.weights_of(
        found.codes
    )
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-3)
    cosine = (decoded * case.values).sum(1) / np.linalg.norm(case.values, axis=1)
    plain = case.centroids[case.cells]
    assert (cosine >= (plain * case.values).sum(1) / np.linalg.norm(case.values, axis=1) - 1e-3).all()


def test_threads_and_neighbours_change_nothing():
    case = Case(np.random.default_rng(5), 3000, 64, 2)
    one, two = case.encoded(n_threads=1), case.encoded(n_threads=2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    case.values, case.cells = case.values[1234:1235], case.cells[1234:1235]
    for a, b in zip(one, case.encoded(), strict=True):
        np.testing.assert_array_equal(a[1234:1235], b)


def test_a_vector_on_its_centroid_is_that_centroid():
    case = Case(np.random.default_rng(7), 1, 16, 2)
    case.values, case.cells = case.centroids[:1].copy(), np.zeros(1, np.int64)
    found = case.encoded()
    assert np.isfinite(found.pairs).all()
    decoded = found.pairs[:, :1] * case.centroids[:1] + found.pairs[:, 1:] * case.weights_of(found.codes)
    np.testing.assert_allclose(decoded, case.values, atol=0.02)
