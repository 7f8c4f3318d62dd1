"""Residual codes: a centroid, 1, 2 or 4 bits a dimension for what is left, and one byte of two factors.

vector ~ share * centroid + norm * weights[code] * spread. `spread` is each dimension's own width, so that
narrow dimensions get finer steps; scoring pays nothing for it, because it goes into the query. The byte picks
(share, norm) out of 256 pairs: they make the decoded vector unit length again, without which up to 0.17 nDCG
is lost at one bit, and give every residual a width of its own, so that a token far from its centroid has as
fine codes as a near one. A width of its own takes a fifth off the squared error at 1 bit, two fifths at 4.

Weights lie on a grid of 128 levels, so that scoring is a product of bytes. Byte j of n = dim * bits / 8 holds
dimensions j, n + j, 2n + j, ... from its lowest bits up: each bit field of neighbouring bytes is neighbouring
dimensions, which a few vector instructions unpack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Bool, Float32, Int64
from latebolt.codec.base import Columns, ColumnSpec, bytes_of
from latebolt.codec.coding import KERNELS, Coding, Placed, Tables
from latebolt.codec.kmeans import BLOCK, default_n_centroids, spherical_kmeans
from latebolt.codec.sample import Sample
from latebolt.errors import InvalidInput
from latebolt.kernels.centroids import CentroidScores, centroid_scores, maxsim_centroids
from latebolt.kernels.maxsim import (
    ResidualArrays,
    ResidualQuery,
    maxsim_residual,
    residual_query,
)
from latebolt.kernels.residual import encode_residual
from latebolt.kernels.shapes import LEVEL_MOST, LEVEL_ZERO, N_FACTORS, N_LEVELS

FAR_SHARE = 0.02
KIND = "residual-2"  # what a store records; "residual" had one factor for centroid and residual
_FIT_TOKENS = 32768  # residuals looked at to place buckets
_ROWS = 1024  # that a function of each is called with at a time
_FACTOR_POINTS = 8192  # pairs of factors looked at to choose N_FACTORS
_FACTOR_BLOCK = 256  # of them at a time, whose distances to all N_FACTORS stay in the cache of a core


def residual_columns(dim: int, bits: int, n_centroids: int) -> tuple[ColumnSpec, ...]:
    """Centroid number, packed codes, number of the pair of factors."""
    return (
        ("cell", "<u2" if n_centroids <= 65536 else "<u4", None),
        ("codes", "|u1", dim * bits // 8),
        ("norm", "|u1", None),
    )


class ResidualCodec:
    """A trained residual codec.

    Args:
        centroids: float32 [k, dim], unit length.
        levels: uint8 [2**bits], 0..127, ascending; LEVEL_ZERO adds nothing.
        spread: float32 [dim], above 0: a code adds (levels[code] - LEVEL_ZERO) * spread of its dimension.
        factors: float32 [N_FACTORS, 2]: pairs that centroid and residual are multiplied by.
        bits: 1, 2 or 4.
        unit: root mean square of a residual over `spread` that the levels are made for.
        far: distance to their centroid that all but FAR_SHARE of the training vectors stay below.
        coding: where vectors become codes.
    """

    def __init__(
        self,
        centroids: Float32,
        levels: npt.NDArray[np.uint8],
        spread: Float32,
        factors: Float32,
        bits: int,
        unit: float,
        far: float,
        coding: Coding = KERNELS,
    ) -> None:
        self.unit, self.far = unit, far
        self.centroids, self.factors, self.bits, self.spread = centroids, factors, bits, spread
        self.dim = centroids.shape[1]
        self.levels = np.zeros(N_LEVELS, np.uint8)
        self.levels[: 2**bits] = levels[: 2**bits]
        self.weights = self.levels[: 2**bits].astype(np.float32) - LEVEL_ZERO
        self._cell_dtype = self.columns[0][1]
        self._coding = coding
        self._coder = coding.coder(Tables(centroids, spread, self.weights, factors, unit))

    def on(self, coding: Coding) -> ResidualCodec:
        """The same codec, whose codes are made elsewhere; what it learns later is learnt there, too."""
        if coding is self._coding:
            return self
        return ResidualCodec(
            self.centroids, self.levels, self.spread, self.factors, self.bits, self.unit, self.far, coding
        )

    @classmethod
    def train(
        cls,
        sample: Float32 | Sample,
        bits: int,
        n_tokens: int | None = None,
        n_centroids: int | None = None,
        seed: int = 0,
        place: Callable[[Float32, int], Float32] | None = None,
        coding: Coding = KERNELS,
    ) -> ResidualCodec:
        """Learn centroids, buckets and factors.

        Args:
            sample: float32 [n, dim], unit length, dim a multiple of 8 / bits and of 4.
            bits: 1, 2 or 4.
            n_tokens: tokens the store will hold, which decides the number of centroids.
            n_centroids: decides it outright.
            place: chooses at most 2**bits ascending weights for residuals of unit spread; `lloyd_max` by
                default, which retrieves best (benchmarks/codec.py compares).
            coding: where centroids are looked for, and vectors become codes later.
        Raises:
            InvalidInput: bits or the width does not fit, or the sample is empty.
        """
        if bits not in (1, 2, 4):
            raise InvalidInput(f"residual bits should be 1, 2 or 4, got {bits}.")
        sample = Sample.of(sample)
        if len(sample) == 0 or sample.shape[1] % 8:
            raise InvalidInput(f"the sample should be [n >= 1, a multiple of 8], got shape {sample.shape}.")
        k = n_centroids or default_n_centroids(n_tokens or len(sample))
        # A centroid a point would leave no residual to learn from.
        centroids = spherical_kmeans(sample, min(k, max(1, len(sample) // 4)), seed, coding=coding)
        rng = np.random.default_rng(seed)
        chosen = np.arange(len(sample))
        if len(sample) > _FIT_TOKENS:
            chosen = rng.choice(len(sample), _FIT_TOKENS, False)
        # An array of these takes as much as a model; so few are held at a time, and values are taken again.
        some = sample.take(chosen)
        cells = coding.nearest(centroids)(some)
        residual = _minus(some, centroids[cells])
        del some
        lengths = _by_rows(residual, _lengths)
        far = float(np.quantile(lengths, 1 - FAR_SHARE))
        spread = np.maximum(residual.std(axis=0), 1e-6)
        scaled = np.divide(residual, spread, out=residual)
        scaled /= np.maximum(_by_rows(scaled, _root_mean_squares), 1e-6)[:, None]
        weights = (place or lloyd_max)(scaled.ravel(), 2**bits)
        del scaled, residual
        weights = np.concatenate([weights, np.repeat(weights[-1:], 2**bits - len(weights))])
        step = max(float(np.abs(weights).max()) / (LEVEL_MOST - LEVEL_ZERO), 1e-6)
        levels = (np.rint(weights / step) + LEVEL_ZERO).astype(np.uint8)
        spread = (spread * step).astype(np.float32)
        steps_from_zero = levels.astype(np.float32) - LEVEL_ZERO
        found = encode_residual(sample.take(chosen), cells, centroids, spread, steps_from_zero, 1 / step)
        factors = choose_factors(found.pairs, float(lengths.mean()), seed)
        return cls(centroids, levels, spread, factors, bits, 1 / step, far, coding)

    def outlying(self, values: Float32) -> Bool:
        """Bool [n]: vectors farther from every centroid than nearly all of those the codec learnt from."""
        return self._distance(values) > self.far

    def _distance(self, values: Float32) -> Float32:
        """Float32 [n], from the nearest centroid."""
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            parts.append(np.linalg.norm(block - self.centroids[self._coder.nearest(block)], axis=1))
        return np.concatenate(parts)

    def extended(self, outliers: Float32 | Sample, n_centroids: int, seed: int = 0) -> ResidualCodec:
        """This codec with centroids for outlying vectors appended; it reads what this one wrote.

        Args:
            outliers: float32 [n >= 1, dim], unit length.
            n_centroids: at most so many new ones, and at most one for four outliers.
        """
        sample = Sample.of(outliers)
        k = min(n_centroids, max(1, len(sample) // 4))
        new = spherical_kmeans(sample, k, seed, coding=self._coding)
        centroids = np.concatenate([self.centroids, new])
        codec = ResidualCodec(
            centroids, self.levels, self.spread, self.factors, self.bits, self.unit, self.far, self._coding
        )
        found = [codec._distance(block) for block in sample.blocks(BLOCK)]
        # What stays far after learning is the nature of these vectors, and no reason to learn them again.
        codec.far = max(self.far, float(np.quantile(np.concatenate(found), 1 - FAR_SHARE)))
        return codec

    def reads(self, other: ResidualCodec) -> bool:
        """Whether what `other` wrote means the same here: it is this codec, or one that this one extends."""
        return (
            (self.bits, self.unit) == (other.bits, other.unit)
            and np.array_equal(self.levels, other.levels)
            and np.array_equal(self.spread, other.spread)
            and np.array_equal(self.factors, other.factors)
            and np.array_equal(self.centroids[: len(other.centroids)], other.centroids)
        )

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """See `residual_columns`."""
        return residual_columns(self.dim, self.bits, len(self.centroids))

    def bytes_per_token(self) -> float:
        """Over all columns."""
        return bytes_of(self.columns)

    @property
    def coding(self) -> Coding:
        """Where vectors become codes."""
        return self._coding

    def encode(self, values: Float32 | Placed) -> dict[str, npt.NDArray[Any]]:
        """See `base.Codec`; also of vectors that lie on a device."""
        cells, codes, norms = self._coder.encode(values)
        return {"cell": cells.astype(self._cell_dtype, copy=False), "codes": codes, "norm": norms}

    def decode(self, columns: Columns) -> Float32:
        """See `base.Codec`."""
        codes = np.asarray(columns["codes"])
        fields = [
            codes >> np.uint8(self.bits * i) & np.uint8(2**self.bits - 1) for i in range(8 // self.bits)
        ]
        weights = self.weights[np.concatenate(fields, axis=1)]
        share, norm = self.factors[np.asarray(columns["norm"])].T[:, :, None]
        centroids = self.centroids[np.asarray(columns["cell"])]
        vectors: Float32 = (share * centroids + norm * (weights * self.spread)).astype(np.float32)
        return vectors

    def scorer(self, query: npt.ArrayLike, threads: int | None = None) -> ResidualScorer:
        """See `base.Codec`."""
        prepared = residual_query(query, self.centroids, self.spread, threads)
        return ResidualScorer(self, np.asarray(query, np.float32), prepared, threads)

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """See `base.Codec`."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "centroids": self.centroids,
            "levels": self.levels,
            "spread": self.spread,
            "factors": self.factors,
        }
        numbers = {"dim": self.dim, "bits": self.bits, "unit": self.unit, "far": self.far}
        return arrays, {"kind": KIND, **numbers}


class ResidualScorer:
    """A query against stores of one residual codec: by codes, or by centroids alone."""

    def __init__(
        self, codec: ResidualCodec, query: Float32, prepared: ResidualQuery, threads: int | None
    ) -> None:
        self.query, self._codec, self._query, self.threads = query, codec, prepared, threads

    @property
    def n_centroids(self) -> int:
        """See `base.Scorer`."""
        return len(self._codec.centroids)

    @functools.cached_property
    def centroids(self) -> CentroidScores:
        """See `base.Scorer`."""
        return centroid_scores(self._query.table, self._query.n_query, self.threads)

    def exact(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        """See `base.Scorer`."""
        codec = self._codec
        arrays = ResidualArrays(
            columns["codes"], columns["cell"], columns["norm"], codec.factors, codec.levels
        )
        return maxsim_residual(self._query, arrays, codec.bits, offsets, rows, self.threads)

    def approximate(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        """MaxSim with every token replaced by its centroid: 2 bytes read a token instead of all."""
        return maxsim_centroids(self.centroids, columns["cell"], offsets, rows, self.threads)


def choose_factors(pairs: Float32, length: float, seed: int = 0) -> Float32:
    """The N_FACTORS pairs of factors that come nearest to many (k-means).

    Args:
        pairs: float32 [n >= 1, 2], the best ones of some vectors.
        length: of their residuals, on average.
    Returns:
        float32 [N_FACTORS, 2].
    """
    rng = np.random.default_rng(seed)
    # An error of the second factor moves a vector by so much less as its residual is shorter than a centroid.
    unit = np.array([1.0, max(length, 1e-6)], np.float32)
    unit[1] /= max(float(np.abs(pairs[:, 1]).mean()), 1e-6)
    points = pairs[rng.permutation(len(pairs))[:_FACTOR_POINTS]] * unit
    centres = points[np.arange(N_FACTORS) % len(points)]
    before, twice = np.empty(0, np.int64), 2 * points
    for _ in range(20):
        lengths, across = (centres**2).sum(axis=1), centres.T
        nearest_ = np.empty(len(points), np.int64)
        for start in range(0, len(points), _FACTOR_BLOCK):
            stop = start + _FACTOR_BLOCK
            nearest_[start:stop] = (lengths - twice[start:stop] @ across).argmin(axis=1)
        if np.array_equal(nearest_, before):
            break  # nothing moves any more
        before = nearest_
        counts = np.bincount(nearest_, minlength=N_FACTORS)
        sums = np.stack([np.bincount(nearest_, points[:, i], N_FACTORS) for i in (0, 1)], axis=1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return np.ascontiguousarray(centres / unit, np.float32)


def _minus(values: Float32, others: Float32) -> Float32:
    """values - others, in the memory of `others`."""
    return np.subtract(values, others, out=others)


def _by_rows(values: Float32, function: Callable[[Float32], Float32]) -> Float32:
    """float32 [n]: a function of each row, of some at a time, as it takes room for what it is called with."""
    found = np.empty(len(values), np.float32)
    for start in range(0, len(values), _ROWS):
        found[start : start + _ROWS] = function(values[start : start + _ROWS])
    return found


def _lengths(values: Float32) -> Float32:
    lengths: Float32 = np.linalg.norm(values, axis=1)
    return lengths


def _root_mean_squares(values: Float32) -> Float32:
    roots: Float32 = np.sqrt((values**2).mean(axis=1))
    return roots


def lloyd_max(values: Float32, levels: int, iterations: int = 30) -> Float32:
    """The `levels` values that represent many with the least squared error (Lloyd's algorithm).

    Args:
        values: float32 [n], n >= 1.
    Returns:
        float32 [levels], ascending; strictly so unless the values are constant.
    Source: Lloyd, "Least squares quantization in PCM", 1982.
    """
    ordered = np.sort(values[:: max(1, len(values) // 1_000_000)]).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    level = np.quantile(ordered, (np.arange(levels) + 0.5) / levels)
    for _ in range(iterations):
        cuts = np.searchsorted(ordered, (level[1:] + level[:-1]) / 2)
        edges = np.concatenate([[0], cuts, [len(ordered)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        level = np.where(counts > 0, means, level)
    return np.sort(level).astype(np.float32)
