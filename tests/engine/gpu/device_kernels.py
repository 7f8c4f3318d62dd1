"""The kernels of `latebolt.gpu.kernels` against `kernels.reference`, on a GPU or in numba's simulator.

Run by `test_device.py`, in a process of its own: the simulator is chosen before numba is imported.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from latebolt.gpu import layout
from latebolt.gpu.cuda import Gpu
from latebolt.gpu.kernels.maxsim_float import maxsim_float
from latebolt.gpu.kernels.maxsim_residual import maxsim_residual
from latebolt.gpu.kernels.select import centroid_units, select, sum_blocks
from latebolt.kernels.reference import maxsim_reference, maxsim_residual_reference

sys.setswitchinterval(1e-4)  # the simulator's threads wait for each other all the time
GPU = Gpu(0)
K = 5  # centroids


def unit(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def run(dim, bits, store, blocks, table, mask=None):
    """The kernel's scores of each block, float32 [n_blocks, n_docs]."""
    codes, cells, norms, factors, levels, offsets = store
    padded, n_blocks = layout.padded_dim(dim, bits), len(blocks.words)
    placed = layout.place_codes(codes, dim, bits).reshape(-1)
    placed = placed.view("<i8" if padded * bits // 128 % 2 == 0 else "<u4")
    out = GPU.put(np.full((n_blocks, len(offsets) - 1), 7, np.float32))
    nothing = np.zeros(0, np.uint32)
    with GPU.at_work("a test"):
        maxsim_residual(padded, bits, n_blocks)[GPU.grid(len(offsets) - 1)](
            GPU.put(placed), GPU.put(cells), GPU.put(norms), GPU.put(factors),
            GPU.put(layout.packed_levels(levels)), GPU.put(blocks.words.reshape(-1)),
            GPU.put(blocks.coefs.reshape(-1)), GPU.put(blocks.units),
            GPU.put(table.reshape(-1)), K, GPU.put(offsets), GPU.put(nothing if mask is None else mask), out,
        )  # fmt: skip
        return out.copy_to_host()


def store_of(rng, dim, bits, lengths, cell=np.uint16):
    n = sum(lengths)
    return (
        rng.integers(0, 256, (n, dim * bits // 8)).astype(np.uint8),
        rng.integers(0, K, n).astype(cell),
        rng.integers(0, 256, n).astype(np.uint8),
        rng.uniform(0.5, 1, (256, 2)).astype(np.float32),
        np.sort(rng.choice(128, 2**bits, False)).astype(np.uint8),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


# Words of codes in pairs and alone, with and without padding; documents of no token, one tile and several;
# one block of query tokens and two.
SHAPES = [
    (16, 2, [3, 0, 17], 5, np.uint16),
    (128, 1, [2], 3, np.uint32),
    (40, 1, [1, 2], 2, np.uint16),
    (64, 4, [2], 2, np.uint16),
    (24, 4, [1], 3, np.uint16),
    (128, 2, [2], 33, np.uint16),
]


@pytest.mark.parametrize(("dim", "bits", "lengths", "n_query", "cell"), SHAPES)
def test_residual_codes_are_scored_as_the_reference_does(dim, bits, lengths, n_query, cell):
    rng = np.random.default_rng(dim + bits)
    store = store_of(rng, dim, bits, lengths, cell)
    codes, cells, norms, factors, levels, offsets = store
    query, centroids = unit(rng, n_query, dim), unit(rng, K, dim)
    spread = rng.uniform(0.001, 0.002, dim).astype(np.float32)
    blocks, apart = layout.query_blocks(query, spread, 1.0, bits, factors)
    table = GPU.empty((len(blocks.rows), K, 16), np.uint32)
    with GPU.at_work("a test"):
        grid, threads = GPU.grid(K // 2)
        centroid_units[(grid, len(blocks.rows)), threads](
            GPU.put(centroids), GPU.put(blocks.rows), GPU.put(blocks.units), table
        )
        scores = table.copy_to_host()
    exact = np.einsum("kd,bdq->bkq", centroids, blocks.rows) / blocks.units[:, None]
    assert np.abs(scores.view(np.int16).astype(np.float64) - exact).max() < 0.51
    found = run(dim, bits, store, blocks, scores).sum(axis=0)
    padded = query * spread
    scale = np.abs(padded).max(axis=1) / np.float32(127)
    int8 = np.rint(padded / scale[:, None]).astype(np.int8)
    full = np.zeros(16, np.uint8)
    full[: len(levels)] = levels
    expected = maxsim_residual_reference(
        int8, scale, centroids @ query.T, full, codes, cells, factors[norms], offsets, bits
    )
    assert np.abs(found - expected).max() <= apart < 2e-3


@pytest.mark.parametrize(("dim", "bits"), [(16, 1), (72, 2), (32, 4)])
def test_integers_are_those_of_the_reference_bit_for_bit(dim, bits):
    rng = np.random.default_rng(bits)
    codes, cells, norms, factors, levels, offsets = store_of(rng, dim, bits, [2, 3])
    factors = np.tile(np.array([0, 1], np.float32), (256, 1))
    query = np.rint(rng.uniform(-127, 127, (3, dim))).astype(np.float32)
    query[:, 0] = 127  # so that the scale is 1, and codes are the numbers themselves
    blocks, _ = layout.query_blocks(query, np.ones(dim, np.float32), 1.0, bits, factors)
    blocks = blocks._replace(coefs=np.ones_like(blocks.coefs), units=np.ones_like(blocks.units))
    store = codes, cells, norms, factors, levels, offsets
    full = np.zeros(16, np.uint8)
    full[: len(levels)] = levels
    expected = maxsim_residual_reference(
        query.astype(np.int8), np.ones(3, np.float32), np.zeros((K, 3), np.float32), full, codes, cells,
        factors[norms], offsets, bits,
    )  # fmt: skip
    found = run(dim, bits, store, blocks, np.zeros((1, K, 16), np.uint32))
    np.testing.assert_array_equal(found[0], expected)


def test_documents_that_the_mask_leaves_out_score_nothing():
    rng = np.random.default_rng(0)
    store = store_of(rng, 16, 2, [1] * 34)
    blocks, _ = layout.query_blocks(unit(rng, 2, 16), np.ones(16, np.float32), 1.0, 2, store[3])
    mask = np.array([1 << 31, 0b10], np.uint32)
    table = np.zeros((1, K, 16), np.uint32)
    found = run(16, 2, store, blocks, table, mask)[0]
    codes, cells, norms, factors, levels, _ = store
    two = [31, 33]
    alone = codes[two], cells[two], norms[two], factors, levels, np.arange(3)
    assert np.flatnonzero(found > -np.inf).tolist() == two
    np.testing.assert_array_equal(found[two], run(16, 2, alone, blocks, table)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_whole_vectors_are_scored_as_the_reference_does(dtype):
    rng = np.random.default_rng(0)
    offsets = np.array([0, 5, 5, 6], np.int64)
    query, values = unit(rng, 34, 8), unit(rng, 6, 8).astype(dtype)
    rows = layout.query_rows(query)
    out = GPU.put(np.zeros((2, 3), np.float32))
    with GPU.at_work("a test"):
        blocks, threads = GPU.grid(3)
        maxsim_float[(blocks, 2), threads](
            GPU.put(rows), GPU.put(values), GPU.put(offsets), GPU.put(np.array([0b101], np.uint32)), out
        )
        found = out.copy_to_host().sum(axis=0)
    expected = maxsim_reference(query, values, offsets)
    assert found[1] == -np.inf  # left out by the mask
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-5)


def test_the_best_documents_are_selected():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(3, 50)).astype(np.float32)
    parts[:, 7] = -np.inf
    totals, maxima = GPU.empty(50, np.float32), GPU.empty(8, np.float32)
    counter = GPU.put(np.zeros(1, np.int32))
    rows, scores = GPU.empty(50, np.int32), GPU.empty(50, np.float32)
    with GPU.at_work("a test"):
        sum_blocks[GPU.grid(1)](GPU.put(parts), 0, 2, 1, totals, maxima)
        sum_blocks[GPU.grid(1)](GPU.put(parts), 2, 1, 0, totals, maxima)
        select[GPU.grid(2)](totals, np.float32(0.5), counter, rows, scores)
        n = int(counter.copy_to_host()[0])
        found, best = totals.copy_to_host(), maxima.copy_to_host()
        chosen, theirs = rows.copy_to_host()[:n], scores.copy_to_host()[:n]
    np.testing.assert_allclose(found, parts.sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(best, [found[i::8].max() for i in range(8)])
    assert sorted(chosen.tolist()) == np.flatnonzero(found >= 0.5).tolist()
    np.testing.assert_array_equal(theirs, found[chosen])
