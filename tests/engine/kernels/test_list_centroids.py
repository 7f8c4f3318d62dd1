"""Centroids of lists against their plain definition: learning them, tokens' lists, a query's products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.kernels.list_centroids import SCALE, StoredTokens, cluster, decode, nearest_list, score_lists
from latebolt.kernels.reference import cluster_reference, decode_reference

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
    starts = np.concatenate([[0], np.cumsum([3, 1, 4, 2, 7])])
    rows = rng.integers(-SCALE, SCALE + 1, (starts[-1], dim)).astype(np.int8)
    rows[1] = rows[0]  # equals: the first
    found = np.empty(200, np.uint32)
    nearest_list(tokens, starts, rows, found, 1)
    again = np.empty(200, np.uint32)
    nearest_list(tokens, starts, rows, again, 3)
    np.testing.assert_array_equal(found, again)
    for token, got in enumerate(found.tolist()):
        first, last = starts[tokens.cells[token] : tokens.cells[token] + 2]
        products = rows[first:last].astype(float) @ expected(tokens, token)
        assert first <= got < last and products[got - first] >= products.max() - 1e-3
        assert got != 1


@settings(deadline=None)
@given(
    st.sampled_from([8, 24, 128]),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 20), st.integers(0, 9)), max_size=12),
    st.integers(0, 1000),
)
def test_products_of_ranges_stand_one_after_the_other(dim, n_query, some, seed):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((n_query, dim)).astype(np.float32)
    rows = rng.integers(-SCALE, SCALE + 1, (30, dim)).astype(np.int8)
    ranges = np.array([(t % n_query, first, first + n) for t, first, n in some], np.int64).reshape(-1, 3)
    want = [rows[a:b].astype(float) @ query[t] / SCALE for t, a, b in ranges.tolist()]
    found = score_lists(query, ranges, rows)
    np.testing.assert_allclose(found, np.concatenate([[], *want]), rtol=1e-4, atol=1e-4)
