"""Centroids of lists against their plain definition: learning them, tokens' lists, a query's products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.kernels import list_centroids
from latebolt.kernels.list_centroids import SCALE, StoredTokens, choose_lists, cluster, decode, nearest_list
from latebolt.kernels.reference import cluster_reference, decode_reference
from latebolt.kernels.shapes import LIST_STEPS, MOST_GAIN

SHAPES = [(8, 2), (24, 4), (48, 1), (128, 2)]


def stored(rng: np.random.Generator, dim: int, bits: int, n: int, n_centroids: int = 5) -> StoredTokens:
    return StoredTokens(
        rng.integers(0, n_centroids, n).astype(rng.choice([np.uint16, np.uint32])),
        rng.integers(0, 256, (n, dim * bits // 8)).astype(np.uint8),
        rng.integers(0, 256, n).astype(np.uint8),
        rng.uniform(0.5, 1.5, (256, 2)).astype(np.float32),
        np.sort(rng.integers(-60, 60, 2**bits)).astype(np.float32),
        (rng.random(dim) / 300 + 1e-4).astype(np.float32),
        rng.standard_normal((n_centroids, dim)).astype(np.float32),
    )


def expected(tokens: StoredTokens, token: int) -> np.ndarray:
    return decode_reference(
        tokens.codes[token], tokens.centroids[tokens.cells[token]], tokens.factors[tokens.norms[token]],
        tokens.weights, tokens.spread,
    )  # fmt: skip


@pytest.mark.parametrize(("dim", "bits"), SHAPES)
def test_codes_are_decoded(rng, monkeypatch, dim, bits):
    monkeypatch.setattr("latebolt.threads.LEAST_NS", 1)
    tokens = stored(rng, dim, bits, 50)
    chosen = rng.integers(0, 50, 20)
    want = [expected(tokens, token) for token in chosen.tolist()]
    for threads in (1, 3):
        np.testing.assert_allclose(decode(tokens, chosen, threads), want, rtol=1e-5, atol=1e-5)


@settings(deadline=None)  # the first example may compile a kernel
@given(
    st.sampled_from([8, 24, 40, 128]),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=6),
    st.integers(0, 5),
    st.integers(0, 1000),
)
def test_groups_are_clustered_each_by_itself(dim, groups, rounds, seed):
    sizes = np.array([size for size, _ in groups])
    wanted = np.minimum([k for _, k in groups], sizes)
    values = np.random.default_rng(seed).standard_normal((sizes.sum(), dim)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    ends, starts = (np.concatenate([[0], np.cumsum(each)]) for each in (sizes, wanted))
    found = cluster(values, ends, starts, rounds, 1)
    for g in range(len(groups)):
        mine = found[starts[g] : starts[g + 1]].astype(float) / SCALE
        if wanted[g]:
            want = cluster_reference(values[ends[g] : ends[g + 1]], int(wanted[g]), rounds)
            np.testing.assert_allclose(mine, want, atol=0.6 / SCALE)
    np.testing.assert_array_equal(cluster(values, ends, starts, rounds, 3), found)


@pytest.mark.parametrize(("dim", "bits"), SHAPES)
def test_each_token_gets_the_nearest_list_of_its_centroid(rng, monkeypatch, dim, bits):
    monkeypatch.setattr("latebolt.threads.LEAST_NS", 1)
    tokens = stored(rng, dim, bits, 200)
    starts = np.concatenate([[0], np.cumsum([3, 1, 40, 2, 70])])
    rows = rng.integers(-SCALE, SCALE + 1, (starts[-1], dim)).astype(np.int8)
    rows[1] = rows[0]  # equals: the first
    found = np.empty(200, np.uint32)
    nearest_list(tokens, starts, rows, found, 1)
    again = np.empty(200, np.uint32)
    monkeypatch.setattr(list_centroids, "_TOGETHER", 37)
    nearest_list(tokens, starts, rows, again, 3)
    np.testing.assert_array_equal(found, again)
    for token, got in enumerate(found.tolist()):
        first, last = starts[tokens.cells[token] : tokens.cells[token] + 2]
        want = expected(tokens, token)
        products = rows[first:last].astype(float) @ want
        rounding = np.abs(want).max() / 63 / np.sqrt(12) * SCALE * np.sqrt(dim)
        assert first <= got < last and products[got - first] >= products.max() - 6 * rounding
        assert got != 1


@settings(deadline=None)
@given(
    st.sampled_from([8, 24, 128]),
    st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=6), min_size=1, max_size=9),
    st.integers(1, 30),
    st.sampled_from([1e-12, 0.01, 0.3]),
    st.integers(0, 1000),
)
def test_the_nearest_lists_of_each_token_are_chosen(dim, some, n, unit, seed):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((len(some), dim)).astype(np.float32)
    rows = rng.integers(-SCALE, SCALE + 1, (30, dim)).astype(np.int8)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 9, 30))])
    ranges = np.array([(a, a + many) for each in some for a, many in each], np.int64).reshape(-1, 2)
    ends = np.concatenate([[0], np.cumsum([len(each) for each in some])])
    found = choose_lists(query, ranges, ends, rows, offsets, n, unit)
    np.testing.assert_array_equal(found, choose_lists(query, ranges, ends, rows, offsets, n, unit, 1))
    for token, each in enumerate(some):
        numbers = [row for a, many in each for row in range(a, a + many)]
        products = rows[numbers].astype(float) @ query[token] / SCALE
        mine = found[found[:, 3] == token + 1]
        chosen = min(n, len(numbers))
        assert len(mine) == chosen
        if not chosen:
            continue
        error = 1e-4 + np.ptp(products) / (LIST_STEPS - 1)
        falling = np.sort(products)[::-1]
        least = falling[n] if n < len(numbers) else min(falling[-1], 0) - unit
        gains = np.clip((falling[:chosen] - least) / unit, 1, MOST_GAIN)
        np.testing.assert_allclose(mine[:, 2], gains, atol=1 + error / unit)
        assert (np.diff(mine[:, 2]) <= 0).all() and mine[:, 2].min() >= 1
        # Lists may have the same beginning and end: what is visited is told by what it is worth.
        worth: dict[tuple[int, int], list[float]] = {}
        for row, product in zip(numbers, products, strict=True):
            worth.setdefault((offsets[row], offsets[row + 1]), []).append(product)
        for (a, b), want in zip(mine[:, :2].tolist(), falling, strict=False):
            assert min(abs(product - want) for product in worth[a, b]) <= error


def test_a_product_that_is_not_a_number_is_chosen_last_or_not_at_all():
    query = np.array([[np.nan] * 8, [np.inf] * 8, [1.0] * 8], np.float32)
    rows = np.arange(-24, 24).reshape(6, 8).astype(np.int8)
    offsets = np.arange(7) * 10
    found = choose_lists(query, np.array([[0, 6]] * 3), np.arange(4), rows, offsets, 2, 0.01)
    assert found[:, 3].tolist() == [1, 1, 2, 2, 3, 3]
    assert set(found[:, 0].tolist()) <= set(offsets[:-1].tolist())
    assert found[4:, 0].tolist() == [50, 40]
