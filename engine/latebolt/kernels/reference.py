"""The definition of every kernel, in plain loops; the fast twins are held to it by tests.

No numba, no vectors: slow and obvious on purpose.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.kernels.shapes import LEVEL_ZERO, group_shift


def maxsim_reference(
    query: Float32, values: npt.NDArray[np.floating], offsets: npt.NDArray[np.int64]
) -> Float32:
    """Defines MaxSim; a document without tokens scores 0. See `maxsim.maxsim_arrays` for shapes."""
    scores = np.zeros(len(offsets) - 1, np.float32)
    for doc in range(len(scores)):
        tokens = values[offsets[doc] : offsets[doc + 1]].astype(np.float64)
        for q in query.astype(np.float64):
            if len(tokens):
                scores[doc] += max(float(np.dot(q, token)) for token in tokens)
    return scores


def decode_residual_reference(
    codes: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.integer],
    norms: npt.NDArray[np.uint8],
    factors: Float32,
    centroids: Float32,
    weights: Float32,
    spread: Float32,
    bits: int,
) -> Float32:
    """Defines the residual code: share * centroid + norm * (weight of each dimension's code * its spread).

    (share, norm) = factors[norms]. Byte j of n = dim * bits / 8 holds dimensions j, n + j, 2n + j, ... from
    its lowest bits up.
    """
    dim = centroids.shape[1]
    n_bytes = dim * bits // 8
    vectors = np.empty((len(cells), dim), np.float32)
    for token in range(len(cells)):
        for d in range(dim):
            code = int(codes[token, d % n_bytes]) >> (bits * (d // n_bytes)) & (2**bits - 1)
            share, norm = factors[norms[token]]
            vectors[token, d] = share * centroids[cells[token], d] + norm * weights[code] * spread[d]
    return vectors


def maxsim_residual_reference(
    query_codes: npt.NDArray[np.int8],
    query_scales: Float32,
    centroid_scores: Float32,
    levels: npt.NDArray[np.uint8],
    codes: npt.NDArray[np.uint8],
    cells: npt.NDArray[np.integer],
    factors: Float32,
    offsets: npt.NDArray[np.int64],
    bits: int,
) -> Float32:
    """Defines MaxSim over residual codes: integers exact, then floats.

    query_codes int8 [n_query, dim]; query_scales float32 [n_query], both of the query times spread;
    centroid_scores float32 [n_centroids, n_query]; factors float32 [n_tokens, 2] of centroid and residual.
    """
    n_query, dim = query_codes.shape
    n_bytes = dim * bits // 8
    scores = np.zeros(len(offsets) - 1, np.float32)
    for doc in range(len(scores)):
        for q in range(n_query):
            best = -np.inf
            for t in range(offsets[doc], offsets[doc + 1]):
                exact = 0
                for d in range(dim):
                    code = int(codes[t, d % n_bytes]) >> (bits * (d // n_bytes)) & (2**bits - 1)
                    exact += int(query_codes[q, d]) * (int(levels[code]) - LEVEL_ZERO)
                share, norm = factors[t]
                value = share * centroid_scores[cells[t], q] + norm * (query_scales[q] * np.float32(exact))
                best = max(best, float(value))
            if offsets[doc] < offsets[doc + 1]:
                scores[doc] += np.float32(best)
    return scores


def encode_residual_reference(
    value: Float32,
    centroid: Float32,
    spread: Float32,
    weights: Float32,
    unit: float,
    factors: Float32,
    rounds: int,
    length_counts: float,
) -> tuple[list[int], int, tuple[float, float]]:
    """Defines the codes of one vector, the number of its factors, and the best factors (share, norm).

    A width divides the residual: at first its root mean square in units, then `rounds` times the one that
    makes what the codes say nearest to the residual. The best factors give the nearest direction at unit
    length; of those there are, the pair is taken whose vector lies nearest to that, when the square of an
    error in length counts `length_counts` times more.
    """
    residual = (value - centroid).astype(np.float64)
    scaled = residual / spread
    middles = (weights[1:] + weights[:-1]) / 2
    width = float(np.sqrt((scaled**2).mean())) / unit
    for _ in range(rounds):
        coded = weights[np.searchsorted(middles, scaled / max(width, 1e-6))] * spread
        width = float(residual @ coded / (coded @ coded)) if coded @ coded > 0 else width
    codes = np.searchsorted(middles, scaled / max(width, 1e-6))
    basis = np.stack([centroid, weights[codes] * spread]).astype(np.float64)
    best = np.array([1.0, 0.0])
    if np.linalg.det(basis @ basis.T) > 1e-6 * (basis**2).sum(axis=1).prod():
        best = np.linalg.solve(basis @ basis.T, basis @ value)
    best /= np.linalg.norm(best @ basis) or 1.0
    apart = (best - factors.astype(np.float64)) @ basis
    errors = (apart**2).sum(axis=1) + length_counts * (apart @ (best @ basis)) ** 2
    return codes.tolist(), int(errors.argmin()), (float(best[0]), float(best[1]))


def nearest_reference(
    codes: npt.NDArray[np.int8],
    levels: npt.NDArray[np.uint8],
    values: Float32,
    centroids: Float32,
    parts: int,
) -> npt.NDArray[np.int64]:
    """Defines the nearest centroid: the best of each part by integers, the best of those by floats.

    codes int8 [n, dim] of values; levels uint8 [n_levels, dim] of centroids, whose last one is repeated up
    to a multiple of `parts`; part t holds rows t, t + parts, ... Equals give the first row.
    """
    found = np.zeros(len(codes), np.int64)
    for i, code in enumerate(codes):
        candidates = []
        for part in range(parts):
            dots = [
                sum(int(a) * int(b) for a, b in zip(code, row, strict=True)) for row in levels[part::parts]
            ]
            candidates.append(min(part + parts * dots.index(max(dots)), len(centroids) - 1))
        exact = {c: float(np.dot(values[i].astype(np.float64), centroids[c])) for c in candidates}
        found[i] = min(c for c in exact if exact[c] == max(exact.values()))
    return found


def bytes_reference(values: Float32, spread: Float32, most: int) -> npt.NDArray[np.int8]:
    """Defines the bytes of values [n, dim] times spread: whole numbers, the largest of each row at `most`."""
    scaled = values * spread
    largest = np.maximum(np.abs(scaled).max(axis=1, keepdims=True), np.float32(1e-30))
    whole: npt.NDArray[np.int8] = np.rint(scaled * (np.float32(most) / largest)).astype(np.int8)
    return whole


def nearest_grouped_reference(
    codes: npt.NDArray[np.int8],
    rows: npt.NDArray[np.uint8],
    levels: npt.NDArray[np.uint8],
    group_of: npt.NDArray[np.int64],
    centroid_codes: npt.NDArray[np.int8],
    values: Float32,
    centroids: Float32,
    tried: int,
    parts: int,
    settled: int,
) -> npt.NDArray[np.int64]:
    """Defines the two-level search: the best groups by integers, the best of each part of what is in them by
    integers, the best of the first of those by floats.

    codes int8 and rows uint8 [n, dim] of values; levels uint8 [n_groups, dim]; centroid_codes int8 of
    centroids [n_centroids, dim]; group_of int64 [n_centroids, copies]. A group's centroids are in the order
    of their numbers, the i-th being of part i mod `parts`. Equals give the first group, the first place in
    the lowest group, and the lowest number.
    """
    found = np.zeros(len(codes), np.int64)
    down = group_shift(codes.shape[1])
    wide = centroid_codes.astype(np.int64)
    members = [np.flatnonzero((group_of == group).any(axis=1)) for group in range(len(levels))]
    for i, code in enumerate(codes):
        scores = [sum(int(a) * int(b) for a, b in zip(code, row, strict=True)) >> down for row in levels]
        chosen = sorted(range(len(levels)), key=lambda group: (-scores[group], group))[:tried]
        best: dict[int, tuple[int, int]] = {}
        for group in sorted(chosen):
            for place, number in enumerate(members[group]):
                total = int((rows[i].astype(np.int64) - LEVEL_ZERO) @ wide[number])
                if place % parts not in best or total > best[place % parts][0]:
                    best[place % parts] = total, int(number)
        first = sorted({(-total, number) for total, number in best.values()})[:settled]
        exact = {c: float(np.dot(values[i].astype(np.float64), centroids[c])) for _, c in first}
        found[i] = min((c for c in exact if exact[c] == max(exact.values())), default=0)
    return found


def maxsim_centroids_reference(
    table: npt.NDArray[np.uint8], cells: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Defines the centroid-only sum of bytes: over columns, the largest byte among a document's tokens."""
    sums = np.zeros(len(offsets) - 1, np.int64)
    for doc in range(len(sums)):
        for column in range(table.shape[1]):
            some = [int(table[cell, column]) for cell in cells[offsets[doc] : offsets[doc + 1]]]
            sums[doc] += max(some, default=0)
    return sums


def lists_reference(
    cells: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64], n_cells: int
) -> list[list[int]]:
    """Defines inverted lists: for each cell the documents that have a token in it, ascending, each once."""
    lists: list[list[int]] = [[] for _ in range(n_cells)]
    for doc in range(len(offsets) - 1):
        for cell in sorted(set(cells[offsets[doc] : offsets[doc + 1]].tolist())):
            lists[cell].append(doc)
    return lists


def decode_reference(
    code: npt.NDArray[np.uint8], centroid: Float32, pair: Float32, weights: Float32, spread: Float32
) -> npt.NDArray[np.float64]:
    """Defines what a token's codes say: share * centroid + norm * weights[code] * spread.

    code uint8 [dim * bits / 8], packed; pair float32 [2]: share and norm.
    """
    bits = len(weights).bit_length() - 1
    fields = [code >> bits * field & (len(weights) - 1) for field in range(8 // bits)]
    residual = weights[np.concatenate(fields)].astype(np.float64) * spread
    vector: npt.NDArray[np.float64] = pair[0] * centroid.astype(np.float64) + pair[1] * residual
    return vector


def cluster_reference(values: Float32, n_centres: int, rounds: int) -> npt.NDArray[np.float64]:
    """Defines the centres of one group: spherical k-means from rows spread evenly over it; equals give the
    first centre, and one without rows stays where it is."""
    places = [(2 * i + 1) * len(values) // (2 * n_centres) for i in range(n_centres)]
    centres = values[places].astype(np.float64)
    for _ in range(rounds):
        nearest = (values.astype(np.float64) @ centres.T).argmax(axis=1)
        for c in set(nearest.tolist()):
            total = values[nearest == c].astype(np.float64).sum(axis=0)
            centres[c] = total / max(float(np.linalg.norm(total)), 1e-6)
    return centres


def gather_reference(
    lists: list[list[int]], probes: list[tuple[int, int, int]], n_documents: int
) -> list[int]:
    """Defines the sums of gains: over query tokens, the largest gain of a probed cell that has the document.

    probes: (cell, gain, query token).
    """
    best: list[dict[int, int]] = [{} for _ in range(n_documents)]
    for cell, gain, token in probes:
        for doc in lists[cell]:
            best[doc][token] = max(gain, best[doc].get(token, 0))
    return [sum(gains.values()) for gains in best]
