"""Run by tests, on emulated tiles or on AMX itself: every answer in tiles is AVX-512's, bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from latebolt.kernels import isa
from latebolt.kernels.centroids import centroid_levels, nearest
from latebolt.kernels.maxsim import ResidualArrays, maxsim_bytes, maxsim_residual, residual_query

rng = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
in_use = "avx512_vnni"
assert (
    "amx_int8" in isa.available()
)  # which asks the system for the tiles: the first would end the process else
isa.active = lambda: in_use
n_compared = 0


def compare(answer: Callable[[], Any], case: str) -> None:
    """Both instruction sets' answers, the floats among them to the last bit."""
    global in_use, n_compared
    found = []
    for name in ("avx512_vnni", "amx_int8"):
        in_use = name
        found.append(np.asarray(answer()))
    assert found[0].tobytes() == found[1].tobytes(), (case, *found)
    n_compared += 1


def lengths_of_documents() -> Any:
    """Whole tiles, parts of one, single tokens and nothing, in any order."""
    few = rng.choice([0, 1, 2, 15, 16, 17, 31, 32, 33, 48, 80], rng.integers(1, 14))
    return np.concatenate([[0], np.cumsum(few)])


# Parts of a line of 64 dimensions and several of them; queries whose tiles stay and such that are read again.
for dim, bits in ((128, 2), (96, 1), (200, 4)):
    for n_query in (1, 16, 17, 32, 33, 70):
        query = rng.standard_normal((n_query, dim)).astype(np.float32)
        for wide in (np.uint16, np.uint32):
            offsets = lengths_of_documents()
            n, levels = int(offsets[-1]), np.zeros(16, np.uint8)
            levels[: 2**bits] = np.sort(rng.integers(0, 128, 2**bits))
            centroids = rng.standard_normal((7, dim)).astype(np.float32)
            store = ResidualArrays(
                rng.integers(0, 256, (n, dim * bits // 8)).astype(np.uint8),
                rng.integers(0, 7, n).astype(wide),
                rng.integers(0, 256, n).astype(np.uint8),
                rng.uniform(-1.2, 1.2, (256, 2)).astype(np.float32),
                levels,
            )
            spread = (rng.random(dim) / 50).astype(np.float32)
            some = rng.permutation(len(offsets) - 1)[: rng.integers(0, len(offsets))]
            for rows in (None, some):
                compare(
                    lambda q=query, c=centroids, w=spread, s=store, b=bits, o=offsets, r=rows: (
                        maxsim_residual(residual_query(q, c, w), s, b, o, r)
                    ),
                    f"{dim} dimensions, {bits} bits, {n_query} query tokens, {np.diff(offsets)}, {rows}",
                )
for dim in (100, 260):
    for n_query in (1, 32, 33):
        query = rng.standard_normal((n_query, dim)).astype(np.float32)
        offsets = lengths_of_documents()
        values = rng.integers(0, 128, (int(offsets[-1]), dim)).astype(np.uint8)
        scales = rng.uniform(0.1, 1, len(values)).astype(np.float32)
        some = rng.permutation(len(offsets) - 1)[: rng.integers(0, len(offsets))]
        for rows in (None, some):
            compare(
                lambda q=query, v=values, s=scales, o=offsets, r=rows: maxsim_bytes(q, v, s, o, r),
                f"bytes, {dim} dimensions, {n_query} query tokens, {np.diff(offsets)}, {rows}",
            )
for dim, n_centroids, n in ((96, 1, 33), (96, 40, 100), (300, 129, 5)):
    prepared = centroid_levels(rng.standard_normal((n_centroids, dim)).astype(np.float32))
    # Equal ones among them: the first of each part is the nearest.
    values = prepared.centroids[rng.integers(0, n_centroids, n)]
    values = values + rng.standard_normal((n, dim)).astype(np.float32) * rng.integers(0, 2, (n, 1))
    compare(lambda v=values, p=prepared: nearest(v, p), f"nearest of {n_centroids}, {dim} dimensions")
print(n_compared, "answers are the same")
