"""Rounding to int8: what it loses, and that AVX2's 16-bit sums cannot saturate."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.errors import InvalidInput
from latebolt_export.graph.codes import (
    BLOCK,
    MOST_PAIR,
    by_block,
    by_column,
    by_row,
    check_embeddings,
    check_isa,
)

SHAPES = ((1, 1), (1, 5), (2, 3), (7, 4), (384, 96), (1025, 3))


@pytest.fixture
def random():
    return np.random.default_rng(4)


def pair_sums(codes):
    even = len(codes) // 2 * 2
    size = np.abs(codes.astype(int))
    return size[0:even:2] + size[1:even:2]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pairs", [False, True])
def test_codes_lie_within_half_a_step_or_one_where_a_pair_was_trimmed(random, shape, pairs):
    weights = random.standard_normal(shape).astype(np.float32)
    codes, step = by_column(weights, pairs)
    assert (codes.dtype, step.dtype, step.shape) == (np.int8, np.float32, shape[1:])
    assert np.abs(codes.astype(int)).max() <= 127
    off = np.abs(codes * step - weights) / step
    assert off.max() <= (1.501 if pairs else 0.501)
    assert (off > 0.501).mean() < 0.01
    if pairs:
        assert pair_sums(codes).max(initial=0) <= MOST_PAIR


def vpmaddubsw(activations, codes):
    """AVX2's product of uint8 and int8: sums of two neighbours, saturated to 16 bits, then 32-bit sums."""
    products = activations.astype(int)[:, :, None] * codes.astype(int)
    return np.clip(products[:, 0::2] + products[:, 1::2], -32768, 32767).sum(1)


def test_pairs_never_saturate_even_at_the_largest_activations(random):
    # Neighbouring rows of equal sign and size, the worst case.
    weights = np.repeat(random.standard_normal((64, 40)), 2, axis=0).astype(np.float32)
    activations = np.full((3, 128), 255, np.uint8)
    for pairs, exact in ((True, True), (False, False)):
        codes, _ = by_column(weights, pairs)
        whole = activations.astype(int) @ codes.astype(int)
        assert np.array_equal(vpmaddubsw(activations, codes), whole) is exact


def test_pairs_cost_far_less_than_halving_the_range(random):
    weights = random.standard_normal((768, 256)).astype(np.float32)

    def error(codes, step):
        return float(((codes * step - weights) ** 2).mean())

    whole, pairs = error(*by_column(weights, False)), error(*by_column(weights, True))
    step = np.abs(weights).max(0) / 63
    halved = error(np.rint(weights / step), step)
    assert whole < pairs < 2.2 * whole < 0.6 * halved


def test_zero_columns_and_rows_stay_zero():
    assert not by_column(np.zeros((4, 2), np.float32), True)[0].any()
    assert not by_row([np.zeros((4, 2), np.float32)])[0].any()


def test_a_table_is_rounded_row_by_row_in_stretches(random):
    table = (random.standard_normal((40, 16)) * np.arange(1, 41)[:, None]).astype(np.float32)
    codes, steps = by_row([table[:7], table[7:30], table[30:]])
    assert (steps.shape, int(np.abs(codes.astype(int)).max(1).min())) == ((40, 1), 127)
    assert (np.abs(codes * steps - table) <= 0.501 * steps).all()


def test_an_unknown_isa_is_refused():
    with pytest.raises(InvalidInput, match=r'isa should be one of auto, avx2, avx512_vnni, arm64, got "sse"'):
        check_isa("sse")


def unpacked(packed, steps):
    codes_of = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    blocks = codes_of.reshape(len(packed), -1, BLOCK) * steps.astype(np.float32)[..., None]
    return blocks.reshape(len(packed), -1)


def test_a_table_of_four_bits_already_keeps_its_weights_exactly(random):
    steps = random.normal(size=(50, 4)).astype(np.float16).astype(np.float32)
    codes_of = random.integers(0, 16, (50, 4, BLOCK))
    codes_of[..., 7] = 0  # the largest weight of a block is -8 steps
    table = ((codes_of - 8) * steps[..., None]).astype(np.float32).reshape(50, -1)
    packed, found = by_block([table[:20], table[20:]])
    assert (packed.shape, packed.dtype, found.dtype) == ((50, 64), np.uint8, np.float16)
    np.testing.assert_array_equal(unpacked(packed, found), table)


def test_four_bits_are_near(random):
    table = random.normal(size=(200, 96)).astype(np.float32)
    table[3] = 0
    error = np.abs(unpacked(*by_block([table])) - table).reshape(200, 3, BLOCK)
    size = np.abs(table).reshape(200, 3, BLOCK)
    # Half a step, but at the largest weights, which a smaller reach cuts off: 7 * 0.86 of 8 steps.
    assert (error <= 0.25 * size.max(2, keepdims=True) + 1e-6).all()
    assert np.sqrt((error**2).mean() / (size**2).mean()) < 0.085
    assert not error[3].any()


def test_unknown_embeddings_are_refused():
    with pytest.raises(InvalidInput, match='embeddings should be one of int8, int4, got "int2"'):
        check_embeddings("int2")
