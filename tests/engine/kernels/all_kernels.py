"""Run by a test, once an instruction set (`LATEBOLT_ISA`): every kernel against its definition."""

from __future__ import annotations

import numpy as np

from latebolt.kernels import isa
from latebolt.kernels.centroids import (
    centroid_levels,
    centroid_scores,
    maxsim_centroids,
    nearest,
    nearest_cells,
)
from latebolt.kernels.groups import centroid_bytes, grouped_centroids, nearest_grouped
from latebolt.kernels.list_centroids import StoredTokens, choose_lists, cluster, decode, nearest_list
from latebolt.kernels.lists import count_lists, fill_lists, gather
from latebolt.kernels.maxsim import (
    ResidualArrays,
    maxsim_arrays,
    maxsim_bytes,
    maxsim_residual,
    residual_query,
)
from latebolt.kernels.programs.encode_residual import LENGTH_COUNTS, ROUNDS
from latebolt.kernels.reference import (
    bytes_reference,
    cluster_reference,
    decode_reference,
    encode_residual_reference,
    gather_reference,
    lists_reference,
    maxsim_centroids_reference,
    maxsim_reference,
    maxsim_residual_reference,
    nearest_grouped_reference,
    nearest_reference,
)
from latebolt.kernels.residual import encode_residual
from latebolt.kernels.shapes import (
    BYTE_MOST,
    CENTROID_PARTS,
    GROUP_PARTS,
    GROUPS_TRIED,
    LEVEL_MOST,
    LEVEL_ZERO,
    SETTLED,
)

rng = np.random.default_rng(0)
offsets = np.array([0, 0, 3, 20, 29])
# One width, so that each kernel is compiled once: the active instruction set's own tests go through others.
dim, widths = 48, (1, 2, 4)
query = rng.standard_normal((40, dim)).astype(np.float32)
values = rng.standard_normal((29, dim)).astype(np.float32)
expected = maxsim_reference(query, values, offsets)
np.testing.assert_allclose(maxsim_arrays(query, values, offsets), expected, rtol=1e-5, atol=1e-4)
half = values.astype(np.float16)
expected = maxsim_reference(query, half, offsets)
np.testing.assert_allclose(maxsim_arrays(query, half, offsets), expected, rtol=1e-5, atol=1e-4)
codes, scales = rng.integers(0, 128, (29, dim)).astype(np.uint8), rng.random(29).astype(np.float32)
whole = rng.integers(-127, 128, query.shape).astype(np.float32)
whole[:, 0] = 127
expected = maxsim_reference(whole, (codes.astype(np.float32) - 64) * scales[:, None], offsets)
np.testing.assert_allclose(maxsim_bytes(whole, codes, scales, offsets), expected, rtol=1e-5)

spread = (rng.random(dim) / 50).astype(np.float32)
scale = np.abs(query * spread).max(axis=1) / np.float32(127)
quantised = np.rint(query * spread / scale[:, None]).astype(np.int8)
for bits in widths:
    levels = np.zeros(16, np.uint8)
    levels[: 2**bits] = np.sort(rng.integers(0, 128, 2**bits))
    store = ResidualArrays(
        rng.integers(0, 256, (29, dim * bits // 8)).astype(np.uint8),
        rng.integers(0, 9, 29).astype(np.uint16),
        rng.integers(0, 256, 29).astype(np.uint8),
        rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32),
        levels,
    )
    nine = rng.standard_normal((9, dim)).astype(np.float32)
    for n_query in (
        0,
        1,
        4,
        7,
        12,
        40,
    ):  # parts of the dimensions side by side, one vector, blocks of two
        expected = maxsim_residual_reference(
            quantised[:n_query], scale[:n_query], nine @ query[:n_query].T, levels, store.codes,
            store.cells, store.factors[store.norms], offsets, bits,
        )  # fmt: skip
        prepared = residual_query(query[:n_query], nine, spread)
        np.testing.assert_allclose(
            maxsim_residual(prepared, store, bits, offsets), expected, rtol=1e-5, atol=1e-4
        )
    coded = encode_residual(
        values, np.arange(29) % 9, nine, spread, np.arange(2**bits) - 1.5, 3.0, store.factors
    )
    for i in range(29):
        *_, pair = encode_residual_reference(
            values[i], nine[i % 9], spread, np.arange(2**bits) - 1.5, 3.0, store.factors, ROUNDS,
            float(LENGTH_COUNTS),
        )  # fmt: skip
        np.testing.assert_allclose(coded.pairs[i], pair, rtol=1e-2, atol=1e-2)
centroids = rng.standard_normal((13, dim)).astype(np.float32)
prepared = centroid_levels(centroids)
scaled = values * prepared.spread
byte_codes = np.rint(scaled / (np.abs(scaled).max(axis=1, keepdims=True) / np.float32(127))).astype(np.int8)
expected = nearest_reference(byte_codes, prepared.levels, values, centroids, CENTROID_PARTS)
np.testing.assert_array_equal(nearest(values, prepared), expected)

groups = rng.standard_normal((16, dim)).astype(np.float32)
group_of = rng.permuted(np.tile(np.arange(16), (150, 1)), axis=1)[:, :2]
many = rng.standard_normal((150, dim)).astype(np.float32)
grouped = grouped_centroids(many, groups, group_of)
expected = nearest_grouped_reference(
    bytes_reference(values, grouped.spread, BYTE_MOST),
    (bytes_reference(values, grouped.spread, LEVEL_MOST - LEVEL_ZERO) + LEVEL_ZERO).astype(np.uint8),
    grouped.levels, group_of, centroid_bytes(many)[0], values, many, GROUPS_TRIED, GROUP_PARTS, SETTLED,
)  # fmt: skip
np.testing.assert_array_equal(nearest_grouped(values, grouped), expected)

scores = centroid_scores(centroids @ query.T)
cells = rng.integers(0, 13, 29).astype(np.uint32)
near, bytes_ = nearest_cells(scores, 4)
assert near.tolist() == [
    sorted(range(13), key=lambda cell: (-int(column[cell]), cell))[:4]
    for column in scores.table[:, : scores.n_query].T
]
assert (bytes_ == scores.table[near, np.arange(len(near))[:, None]]).all()
sums = maxsim_centroids_reference(scores.table, cells, offsets)
expected = np.where(np.diff(offsets) > 0, scores.low * scores.n_query + scores.step * sums, 0)
np.testing.assert_allclose(maxsim_centroids(scores, cells, offsets), expected, rtol=1e-6)

lists = lists_reference(cells, offsets, 13)
counts = count_lists(cells, offsets, 13)
assert fill_lists(cells, offsets, 0, counts).tolist() == [doc for some in lists for doc in some]
ends = np.concatenate([[0], np.cumsum(counts)])
probes = [(cell, 200 - cell, token) for token in (1, 2) for cell in range(token, 13, 2)]
places = np.array([[ends[c], ends[c + 1], gain, token] for c, gain, token in probes])
gains = gather(fill_lists(cells, offsets, 0, counts), places, 4)
assert [dict(zip(*map(np.ndarray.tolist, gains), strict=True)).get(doc, 0) for doc in range(4)] == (
    gather_reference(lists, probes, 4)
)

tokens = StoredTokens(
    store.cells, store.codes, store.norms, store.factors, levels[: 2**bits] - np.float32(64), spread, nine
)
vectors = decode(tokens, np.arange(29))
for i in range(29):
    expected = decode_reference(
        store.codes[i], nine[store.cells[i]], store.factors[store.norms[i]], tokens.weights, spread
    )
    np.testing.assert_allclose(vectors[i], expected, rtol=1e-4, atol=1e-5)
starts = np.array([0, 2, 7])
own = cluster(vectors, np.array([0, 10, 29]), starts, 3)
expected = [cluster_reference(vectors[a:b], n, 3) for a, b, n in ((0, 10, 2), (10, 29, 5))]
np.testing.assert_allclose(own, 127 * np.clip(np.concatenate(expected), -1, 1), atol=1)
numbers = np.empty(29, np.uint32)
firsts = np.concatenate([[0], np.cumsum(np.tile([1, 4], 5))])[:10]  # a list, or four, of a centroid
many = rng.integers(-127, 128, (firsts[-1], dim)).astype(np.int8)
nearest_list(tokens, firsts, many, numbers)
for i in range(29):
    first, last = firsts[store.cells[i] : store.cells[i] + 2]
    products = many[first:last].astype(float) @ vectors[i]
    assert products[numbers[i] - first] >= products.max() - 0.05 * np.abs(products).max()
looked = np.array([[1, 4], [0, 2], [5, 9]])
found = choose_lists(query[:2], looked, np.array([0, 2, 3]), many, np.arange(len(many) + 1), 2, 0.01)
for token, numbers in enumerate(([1, 2, 3, 0, 1], [5, 6, 7, 8])):
    products = np.sort(many[numbers].astype(float) @ query[token])[::-1]
    mine = many[found[found[:, 3] == token + 1, 0]].astype(float) @ query[token]
    np.testing.assert_allclose(mine, products[:2], atol=1e-3 * np.ptp(products))
print(isa.active())
