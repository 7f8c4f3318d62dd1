"""Every MaxSim kernel against its plain definition, on shapes that reach each branch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.errors import InvalidInput
from latebolt.kernels import isa
from latebolt.kernels.maxsim import (
    ResidualArrays,
    lanes,
    maxsim_arrays,
    maxsim_bytes,
    maxsim_residual,
    residual_query,
    score_table,
)
from latebolt.kernels.reference import maxsim_reference, maxsim_residual_reference

# Below, at and past a tile (6 tokens), and none at all.
LENGTHS = (0, 1, 5, 6, 7, 12, 13, 40)
# Below, at and past one block of query lanes on every instruction set (8, 16 or 32 lanes).
QUERIES = (0, 1, 7, 8, 9, 31, 32, 33, 70)


def offsets_of(lengths) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def close(got, expected):
    # float32 sums of up to 384 products and 70 maxima: errors stay near 1e-6 of the result.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", (4, 48, 64, 96, 128, 384))
@pytest.mark.parametrize("n_query", QUERIES)
def test_float_kernels(rng, dim, n_query):
    offsets = offsets_of(LENGTHS)
    query, values = rng.unit(n_query, dim), rng.unit(int(offsets[-1]), dim)
    close(maxsim_arrays(query, values, offsets), maxsim_reference(query, values, offsets))
    half = values.astype(np.float16)
    close(maxsim_arrays(query, half, offsets), maxsim_reference(query, half, offsets))


@pytest.mark.parametrize("dim", (4, 48, 128))
@pytest.mark.parametrize("n_query", (0, 1, 32, 33))
def test_byte_kernel(rng, dim, n_query):
    offsets = offsets_of(LENGTHS)
    query = rng.integers(-127, 128, (n_query, dim)).astype(np.float32)
    query[:, 0] = 127  # so that rounding to int8 gives the query back
    codes = rng.integers(0, 128, (int(offsets[-1]), dim)).astype(np.uint8)
    scales = rng.random(len(codes)).astype(np.float32)
    expected = maxsim_reference(query, (codes.astype(np.float32) - 64) * scales[:, None], offsets)
    np.testing.assert_allclose(maxsim_bytes(query, codes, scales, offsets), expected, rtol=1e-5)


class Store(NamedTuple):
    """Random residual codes with what a query has to be prepared with."""

    arrays: ResidualArrays
    centroids: np.ndarray
    spread: np.ndarray

    def score(self, query, bits, offsets) -> np.ndarray:
        prepared = residual_query(query, self.centroids, self.spread)
        return maxsim_residual(prepared, self.arrays, bits, offsets)

    def expected(self, query, bits, offsets) -> np.ndarray:
        spread = query * self.spread
        scale = np.abs(spread).max(axis=1) / np.float32(127)
        codes = np.rint(spread / scale[:, None]).astype(np.int8)
        arrays = self.arrays
        return maxsim_residual_reference(
            codes, scale, self.centroids @ query.T, arrays.levels, arrays.codes,
            arrays.cells, arrays.factors[arrays.norms], offsets, bits,
        )  # fmt: skip


def residual_store(rng, n_tokens, dim, bits, cell_dtype=np.uint16) -> Store:
    levels = np.zeros(16, np.uint8)
    levels[: 2**bits] = np.sort(rng.integers(0, 128, 2**bits))
    arrays = ResidualArrays(
        rng.integers(0, 256, (n_tokens, dim * bits // 8)).astype(np.uint8),
        rng.integers(0, 30, n_tokens).astype(cell_dtype),
        rng.integers(0, 256, n_tokens).astype(np.uint8),
        rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32),
        levels,
    )
    return Store(arrays, rng.unit(30, dim), (rng.random(dim) / 400 + 0.001).astype(np.float32))


@pytest.mark.parametrize("bits", (1, 2, 4))
@pytest.mark.parametrize("dim", (8, 48, 64, 96, 128))
@pytest.mark.parametrize(
    ("n_query", "cell_dtype"),
    [
        (0, np.uint16),
        (1, np.uint16),
        (4, np.uint32),
        (5, np.uint16),
        (8, np.uint16),
        (9, np.uint16),
        (32, np.uint32),
        (33, np.uint16),
    ],
)
def test_residual_kernel(rng, bits, dim, n_query, cell_dtype):
    offsets = offsets_of((0, 1, 3, 4, 5, 9, 17))
    store = residual_store(rng, int(offsets[-1]), dim, bits, cell_dtype)
    query = rng.unit(n_query, dim)
    close(store.score(query, bits, offsets), store.expected(query, bits, offsets))


@settings(max_examples=60, deadline=None)
@given(bits=st.sampled_from((1, 2, 4)), seed=st.integers(0, 10_000), extreme=st.booleans())
def test_residual_integers_are_exact(bits, seed, extreme):
    """Without centroids, norms and scales a score is a sum of integers: compared bit for bit."""
    rng = np.random.default_rng(seed)
    dim, n_tokens, n_query = 64, int(rng.integers(1, 12)), int(rng.integers(1, 40))
    query = rng.integers(-127, 128, (n_query, dim)).astype(np.float32)
    if extreme:
        query = np.where(query > 0, 127, -127).astype(np.float32)
    query[:, 0] = 127  # so that quantisation gives the integers back
    levels = np.zeros(16, np.uint8)
    levels[: 2**bits] = (0, 127) * 2 ** (bits - 1) if extreme else rng.integers(0, 128, 2**bits)
    arrays = ResidualArrays(
        rng.integers(0, 256, (n_tokens, dim * bits // 8)).astype(np.uint8), np.zeros(n_tokens, np.uint16),
        np.zeros(n_tokens, np.uint8), np.ones((256, 2), np.float32), levels,
    )  # fmt: skip
    store = Store(arrays, np.zeros((1, dim), np.float32), np.ones(dim, np.float32))
    offsets = offsets_of((n_tokens,))
    np.testing.assert_array_equal(store.score(query, bits, offsets), store.expected(query, bits, offsets))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), seed=st.integers(0, 1000), data=st.data()
)
def test_chosen_rows_score_as_in_the_whole(lengths, seed, data):
    rng = np.random.default_rng(seed)
    offsets = offsets_of(lengths)
    values = rng.standard_normal((int(offsets[-1]), 16)).astype(np.float32)
    query = rng.standard_normal((3, 16)).astype(np.float32)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    whole = maxsim_arrays(query, values, offsets)
    np.testing.assert_array_equal(maxsim_arrays(query, values, offsets, np.array(rows, int)), whole[rows])


def test_algebra(rng):
    offsets = offsets_of((9, 4, 17))
    query, values = rng.unit(5, 64), rng.unit(30, 64)
    scores = maxsim_arrays(query, values, offsets)
    close(maxsim_arrays(2 * query, values, offsets), 2 * scores)
    close(maxsim_arrays(query[::-1], values, offsets), scores)
    doubled = np.concatenate([values[:9], values[:9], values[9:]])
    close(maxsim_arrays(query, doubled, offsets_of((18, 4, 17))), scores)
    # Equal documents score equally, whatever lies beside them.
    np.testing.assert_array_equal(
        maxsim_arrays(query, np.tile(values[:9], (3, 1)), offsets_of((9, 9, 9))), np.repeat(scores[:1], 3)
    )


def test_threads_do_not_change_a_bit(rng):
    offsets = offsets_of(rng.integers(0, 60, 600))
    query, values = rng.unit(20, 64), rng.unit(int(offsets[-1]), 64)
    one = maxsim_arrays(query, values, offsets, n_threads=1)
    np.testing.assert_array_equal(maxsim_arrays(query, values, offsets, n_threads=4), one)


def test_read_only_and_mapped_arrays(rng, tmp_path):
    offsets = offsets_of((10, 20))
    query, values = rng.unit(4, 64), rng.unit(30, 64)
    np.save(tmp_path / "v.npy", values)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        maxsim_arrays(query, mapped, offsets), maxsim_arrays(query, values, offsets)
    )


def test_several_python_threads_at_once(rng):
    offsets = offsets_of(rng.integers(0, 60, 600))
    query, values = rng.unit(20, 64), rng.unit(int(offsets[-1]), 64)
    expected = maxsim_arrays(query, values, offsets)
    wrong = []

    def score():
        for _ in range(20):
            if not np.array_equal(maxsim_arrays(query, values, offsets), expected):
                wrong.append(1)

    callers = [threading.Thread(target=score) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
def test_a_query_that_is_not_finite_is_refused(rng, bad):
    query = rng.unit(3, 8)
    query[1, 2] = bad
    with pytest.raises(InvalidInput, match="token 1"):
        maxsim_arrays(query, rng.unit(4, 8), offsets_of((4,)))


def test_a_query_of_another_width_is_refused(rng):
    with pytest.raises(InvalidInput, match=r"\[n_query, 8\]"):
        maxsim_arrays(rng.unit(3, 16), rng.unit(4, 8), offsets_of((4,)))


@pytest.mark.parametrize("name", isa.available())
def test_every_instruction_set_of_this_machine(name):
    """The other instruction sets run in their own process: the choice is made once."""
    script = Path(__file__).with_name("all_kernels.py")
    environment = {**os.environ, "LATEBOLT_ISA": name}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_the_widest_and_the_longest(rng):
    offsets = offsets_of((8192, 0, 1))
    query, values = rng.unit(512, 384), rng.unit(8193, 384)
    close(
        maxsim_arrays(query, values, offsets),
        np.array([(query @ values[:8192].T).max(1).sum(), 0, (query @ values[8192]).sum()]),
    )
    store, few = residual_store(rng, 8193, 192, 2), rng.unit(512, 192)
    scores, tail = store.score(few, 2, offsets), store.score(few, 2, np.array([8192, 8193]))
    assert scores[1] == 0 and scores[2] == tail[0] and scores[0] > scores[2]


def test_offsets_beyond_two_to_the_31(rng, tmp_path):
    """A mapped file with holes: 2.2 billion tokens that take no space, and real ones at the end."""
    n, dim = 2**31 + 50, 8
    path = tmp_path / "values.f16"
    with path.open("wb") as file:
        file.truncate(2 * dim * n)
    values = np.memmap(path, np.float16, "r+", shape=(n, dim))
    last = rng.unit(40, dim).astype(np.float16)
    values[-40:] = last
    query, offsets = rng.unit(3, dim), np.array([0, 10, n - 40, n - 20, n])
    rows = np.array([0, 2, 3])
    got = maxsim_arrays(query, values, offsets, rows)
    close(got[1:], maxsim_reference(query, last, np.array([0, 20, 40])))
    assert got[0] == 0


@pytest.mark.parametrize("dim", (4, 64, 96))
@pytest.mark.parametrize(("n_rows", "n_blocks"), [(0, 1), (1, 1), (5, 2), (6, 1), (31, 3)])
def test_score_table(rng, dim, n_rows, n_blocks):
    padded, rows = rng.unit(n_blocks * lanes(), dim), rng.unit(n_rows, dim)
    close(score_table(padded, rows), rows @ padded.T)
