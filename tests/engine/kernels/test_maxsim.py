"""Every MaxSim kernel against its plain definition, on shapes that reach each branch."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.errors import InvalidInput
from latebolt.kernels import isa
from latebolt.kernels.maxsim import ResidualArrays, maxsim_arrays, maxsim_int8, maxsim_residual
from latebolt.kernels.reference import decode_residual_reference, maxsim_reference

# Below, at and past a tile (6 tokens), and none at all.
LENGTHS = (0, 1, 5, 6, 7, 12, 13, 40)
# Below, at and past one block of query lanes on every instruction set (8, 16 or 32 lanes).
QUERIES = (1, 7, 8, 9, 31, 32, 33, 70)


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


@pytest.mark.parametrize("dim", (48, 128))
@pytest.mark.parametrize("n_query", (1, 32, 33))
def test_int8_kernel(rng, dim, n_query):
    offsets = offsets_of(LENGTHS)
    query = rng.unit(n_query, dim)
    codes = rng.integers(-127, 128, (int(offsets[-1]), dim)).astype(np.int8)
    scales = rng.random(len(codes)).astype(np.float32) / 500
    expected = maxsim_reference(query, codes * scales[:, None], offsets)
    close(maxsim_int8(query, codes, scales, offsets), expected)


def residual_arrays(rng, n_tokens, dim, bits, cell_dtype=np.uint16):
    centroids, weights = rng.unit(30, dim), np.sort(rng.standard_normal(2**bits)).astype(np.float32) / 10
    per_byte = 8 // bits
    byte = np.arange(256)[:, None] >> (bits * np.arange(per_byte)) & (2**bits - 1)
    arrays = ResidualArrays(
        rng.integers(0, 256, (n_tokens, dim * bits // 8)).astype(np.uint8),
        rng.integers(0, 30, n_tokens).astype(cell_dtype),
        rng.integers(0, 256, n_tokens).astype(np.uint8),
        np.linspace(0.8, 1.2, 256, dtype=np.float32),
        centroids,
        np.ascontiguousarray(weights[byte]),
    )
    decoded = decode_residual_reference(
        arrays.codes, arrays.cells, arrays.norms, arrays.norm_table, centroids, weights, bits
    )
    return arrays, decoded


@pytest.mark.parametrize("bits", (1, 2, 4))
@pytest.mark.parametrize("dim", (48, 64, 128))
@pytest.mark.parametrize("n_query", (1, 32, 33))
@pytest.mark.parametrize("cell_dtype", (np.uint16, np.uint32))
def test_residual_kernel(rng, bits, dim, n_query, cell_dtype):
    offsets = offsets_of(LENGTHS)
    arrays, decoded = residual_arrays(rng, int(offsets[-1]), dim, bits, cell_dtype)
    query = rng.unit(n_query, dim)
    close(maxsim_residual(query, arrays, bits, offsets), maxsim_reference(query, decoded, offsets))


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), seed=st.integers(0, 1000), data=st.data())
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


def test_a_query_without_tokens_scores_nothing(rng):
    scores = maxsim_arrays(np.zeros((0, 8), np.float32), rng.unit(4, 8), offsets_of((4,)))
    assert scores.tolist() == [0.0]


@pytest.mark.parametrize("name", isa.available())
def test_every_instruction_set_of_this_machine(name):
    """The other instruction sets run in their own process: the choice is made once."""
    import os
    import subprocess
    import sys

    code = """
import numpy as np
from latebolt.kernels.maxsim import maxsim_arrays
from latebolt.kernels.reference import maxsim_reference
rng = np.random.default_rng(0)
offsets = np.array([0, 0, 3, 20, 29])
query, values = rng.standard_normal((2, 40, 64)).astype(np.float32)
got, expected = (f(query, values[:29], offsets) for f in (maxsim_arrays, maxsim_reference))
np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
"""
    environment = {**os.environ, "LATEBOLT_ISA": name}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
