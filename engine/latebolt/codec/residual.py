"""Residual codes: a centroid, 1, 2 or 4 bits a dimension for what is left, and one byte of norm.

vector ~ (centroid[cell] + weights[code] * spread) * inverse norm. `spread` is each dimension's own width, so
that narrow dimensions get finer steps; scoring pays nothing for it, because it goes into the query. The
inverse norm makes the decoded vector unit length again; leaving it out costs up to 0.17 nDCG at one bit.

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

from latebolt.codec.base import Columns, ColumnSpec, Float32, Int64, bytes_of
from latebolt.codec.kmeans import default_n_centroids, spherical_kmeans
from latebolt.errors import InvalidInput
from latebolt.kernels.centroids import (
    CentroidScores,
    centroid_levels,
    centroid_scores,
    maxsim_centroids,
    nearest,
)
from latebolt.kernels.maxsim import (
    LEVEL_ZERO,
    ResidualArrays,
    ResidualQuery,
    maxsim_residual,
    residual_query,
)

_BLOCK = 16384  # tokens encoded at a time: bounds the temporaries to some tens of MB
FAR_SHARE = 0.02
_FIT_TOKENS = 32768  # residuals looked at to place buckets


class ResidualCodec:
    """A trained residual codec.

    Args:
        centroids: float32 [k, dim], unit length.
        levels: uint8 [2**bits], 0..127, ascending; LEVEL_ZERO adds nothing.
        spread: float32 [dim], above 0: a code adds (levels[code] - LEVEL_ZERO) * spread of its dimension.
        norm_table: float32 [256], ascending: inverse norms.
        bits: 1, 2 or 4.
        far: distance to their centroid that all but FAR_SHARE of the training vectors stay below; None for a
            codec of an earlier version, to which no vector is outlying.
    """

    def __init__(
        self,
        centroids: Float32,
        levels: npt.NDArray[np.uint8],
        spread: Float32,
        norm_table: Float32,
        bits: int,
        far: float | None = None,
    ) -> None:
        self.far = far
        self.centroids, self.norm_table, self.bits, self.spread = centroids, norm_table, bits, spread
        self.dim = centroids.shape[1]
        self._prepared = centroid_levels(centroids)
        self.levels = np.zeros(16, np.uint8)
        self.levels[: 2**bits] = levels[: 2**bits]
        self.weights = self.levels[: 2**bits].astype(np.float32) - LEVEL_ZERO
        self._cell_dtype = "<u2" if len(centroids) <= 65536 else "<u4"

    @classmethod
    def train(
        cls,
        sample: Float32,
        bits: int,
        n_tokens: int | None = None,
        n_centroids: int | None = None,
        seed: int = 0,
        place: Callable[[Float32, int], Float32] | None = None,
    ) -> ResidualCodec:
        """Learn centroids, buckets and norms.

        Args:
            sample: float32 [n, dim], unit length, dim a multiple of 8 / bits and of 4.
            bits: 1, 2 or 4.
            n_tokens: tokens the store will hold, which decides the number of centroids.
            n_centroids: decides it outright.
            place: chooses at most 2**bits ascending weights for residuals of unit spread; `lloyd_max` by
                default, which retrieves best (benchmarks/codec.py compares).
        Raises:
            InvalidInput: bits or the width does not fit, or the sample is empty.
        """
        if bits not in (1, 2, 4):
            raise InvalidInput(f"residual bits should be 1, 2 or 4, got {bits}.")
        if len(sample) == 0 or sample.shape[1] % 8:
            raise InvalidInput(f"the sample should be [n >= 1, a multiple of 8], got shape {sample.shape}.")
        k = n_centroids or default_n_centroids(n_tokens or len(sample))
        # A centroid a point would leave no residual to learn from.
        centroids = spherical_kmeans(sample, min(k, max(1, len(sample) // 4)), seed)
        rng = np.random.default_rng(seed)
        some = sample if len(sample) <= _FIT_TOKENS else sample[rng.choice(len(sample), _FIT_TOKENS, False)]
        residual = some - centroids[nearest(some, centroid_levels(centroids))]
        far = float(np.quantile(np.linalg.norm(residual, axis=1), 1 - FAR_SHARE))
        spread = np.maximum(residual.std(axis=0), 1e-6)
        weights = (place or lloyd_max)((residual / spread).ravel(), 2**bits)
        weights = np.concatenate([weights, np.repeat(weights[-1:], 2**bits - len(weights))])
        step = max(float(np.abs(weights).max()) / (127 - LEVEL_ZERO), 1e-6)
        levels = (np.rint(weights / step) + LEVEL_ZERO).astype(np.uint8)
        spread = (spread * step).astype(np.float32)
        draft = cls(centroids, levels, spread, np.ones(256, np.float32), bits)
        norms = 1.0 / np.maximum(np.linalg.norm(draft._approximate(some)[0], axis=1), 1e-6)
        low, high = np.quantile(norms, [0.0005, 0.9995])
        table = np.linspace(low, max(high, low + 1e-4), 256, dtype=np.float32)
        return cls(centroids, levels, spread, table, bits, far)

    def outlying(self, values: Float32) -> npt.NDArray[np.bool_]:
        """Bool [n]: vectors farther from every centroid than nearly all of those the codec learnt from."""
        if self.far is None:
            return np.zeros(len(values), np.bool_)
        return self._distance(values) > self.far

    def _distance(self, values: Float32) -> Float32:
        """Float32 [n], from the nearest centroid."""
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            parts.append(np.linalg.norm(block - self.centroids[nearest(block, self._prepared)], axis=1))
        return np.concatenate(parts)

    def extended(self, outliers: Float32, n_centroids: int, seed: int = 0) -> ResidualCodec:
        """This codec with centroids for outlying vectors appended; it reads what this one wrote.

        Args:
            outliers: float32 [n >= 1, dim], unit length.
            n_centroids: at most so many new ones, and at most one for four outliers.
        """
        new = spherical_kmeans(outliers, min(n_centroids, max(1, len(outliers) // 4)), seed)
        centroids = np.concatenate([self.centroids, new])
        codec = ResidualCodec(centroids, self.levels, self.spread, self.norm_table, self.bits, self.far)
        # What stays far after learning is the nature of these vectors, and no reason to learn them again.
        codec.far = max(self.far or 0.0, float(np.quantile(codec._distance(outliers), 1 - FAR_SHARE)))
        return codec

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """Centroid number, packed codes, norm."""
        return (
            ("cell", self._cell_dtype, None),
            ("codes", "|u1", self.dim * self.bits // 8),
            ("norm", "|u1", None),
        )

    def bytes_per_token(self) -> float:
        """Over all columns."""
        return bytes_of(self.columns)

    def _approximate(self, values: Float32) -> tuple[Float32, Int64, npt.NDArray[np.uint8]]:
        """(centroid + weights, cell, code of each dimension) before the norm."""
        cell = nearest(values, self._prepared)
        centre = self.centroids[cell]
        edges = (self.weights[1:] + self.weights[:-1]) / 2
        residual = (values - centre) / self.spread
        if self.bits <= 2:
            code = np.zeros(values.shape, np.uint8)
            for edge in edges:
                code += residual > edge
        else:
            code = np.searchsorted(edges, residual).astype(np.uint8)
        return centre + self.weights[code] * self.spread, cell, code

    def encode(self, values: Float32) -> dict[str, npt.NDArray[Any]]:
        """See `base.Codec`."""
        parts = [self._encode_block(values[i : i + _BLOCK]) for i in range(0, len(values), _BLOCK)]
        parts = parts or [self._encode_block(values)]
        return {name: np.concatenate([part[name] for part in parts]) for name, _, _ in self.columns}

    def _encode_block(self, values: Float32) -> dict[str, npt.NDArray[Any]]:
        approximate, cell, code = self._approximate(values)
        inverse = 1.0 / np.maximum(np.linalg.norm(approximate, axis=1), 1e-6)
        step = (self.norm_table[-1] - self.norm_table[0]) / 255
        norm = np.clip(np.rint((inverse - self.norm_table[0]) / step), 0, 255).astype(np.uint8)
        fields = code.reshape(len(values), 8 // self.bits, self.dim * self.bits // 8)
        packed = np.zeros((len(values), fields.shape[2]), np.uint8)
        for i in range(fields.shape[1]):
            packed |= fields[:, i] << np.uint8(self.bits * i)
        return {"cell": cell.astype(self._cell_dtype), "codes": packed, "norm": norm}

    def decode(self, columns: Columns) -> Float32:
        """See `base.Codec`."""
        codes = np.asarray(columns["codes"])
        fields = [
            codes >> np.uint8(self.bits * i) & np.uint8(2**self.bits - 1) for i in range(8 // self.bits)
        ]
        weights = self.weights[np.concatenate(fields, axis=1)]
        vectors = self.centroids[np.asarray(columns["cell"])] + weights * self.spread
        return (vectors * self.norm_table[np.asarray(columns["norm"])][:, None]).astype(np.float32)

    def scorer(self, query: npt.ArrayLike, threads: int | None = None) -> ResidualScorer:
        """See `base.Codec`."""
        return ResidualScorer(self, residual_query(query, self.centroids, self.spread, threads), threads)

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """See `base.Codec`."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "centroids": self.centroids,
            "levels": self.levels,
            "spread": self.spread,
            "norm_table": self.norm_table,
        }
        return arrays, {"kind": "residual", "dim": self.dim, "bits": self.bits, "far": self.far}


class ResidualScorer:
    """A query against stores of one residual codec: by codes, or by centroids alone."""

    def __init__(self, codec: ResidualCodec, query: ResidualQuery, threads: int | None) -> None:
        self._codec, self._query, self.threads = codec, query, threads

    @functools.cached_property
    def centroids(self) -> CentroidScores:
        """See `base.Scorer`."""
        return centroid_scores(self._query.table[:, : self._query.n_query])

    def exact(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        """See `base.Scorer`."""
        codec = self._codec
        arrays = ResidualArrays(
            columns["codes"], columns["cell"], columns["norm"], codec.norm_table, codec.levels
        )
        return maxsim_residual(self._query, arrays, codec.bits, offsets, rows, self.threads)

    def approximate(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        """MaxSim with every token replaced by its centroid: 2 bytes read a token instead of all."""
        return maxsim_centroids(self.centroids, columns["cell"], offsets, rows, self.threads)


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
