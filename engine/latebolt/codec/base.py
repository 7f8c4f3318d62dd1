"""What every token codec answers, and the table that finds one again from what a store recorded.

A codec turns float32 token vectors into named columns, one row a token, and scores a query against
those columns directly. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.kernels.centroids import CentroidScores

Columns = Mapping[str, npt.NDArray[Any]]
ColumnSpec = tuple[str, str, int | None]  # name, dtype, values a token (None: one, stored flat)

BITS = (1, 2, 4, 8, 16)


class Scorer(Protocol):
    """One query against stores of one codec."""

    @property
    def threads(self) -> int | None:
        """At most so many work for it; None for the CPUs of this process."""

    @property
    def query(self) -> Float32 | None:
        """The query itself, float32 [n_query, dim]; None where the codec has no centroids."""

    @property
    def n_centroids(self) -> int:
        """Centroids of the codec; 0 where it has none, and so no cheap ranking."""

    @property
    def centroids(self) -> CentroidScores | None:
        """The query against every centroid; None where the codec has none."""

    def exact(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        """MaxSim with the documents `rows` (all for None), as the codec keeps them."""

    def approximate(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32 | None:
        """A cheap ranking of the same documents; None where the codec has nothing cheaper."""


@dataclass(frozen=True)
class ExactScorer:
    """A scorer without a cheap ranking."""

    run: Callable[[Columns, Int64, Int64 | None], Float32]
    threads: int | None = None

    @property
    def query(self) -> Float32 | None:
        """Not kept."""
        return None

    @property
    def n_centroids(self) -> int:
        """There are none."""
        return 0

    @property
    def centroids(self) -> CentroidScores | None:
        """There are none."""
        return None

    def exact(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32:
        """See `Scorer`."""
        return self.run(columns, offsets, rows)

    def approximate(self, columns: Columns, offsets: Int64, rows: Int64 | None = None) -> Float32 | None:
        """There is none."""
        return None


class Codec(Protocol):
    """Encodes, decodes and scores token vectors of one width."""

    dim: int
    bits: int

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """What `encode` returns."""

    def encode(self, values: Float32) -> dict[str, npt.NDArray[Any]]:
        """Columns of unit-length float32 [n_tokens, dim] vectors."""

    def decode(self, columns: Columns) -> Float32:
        """Float32 [n_tokens, dim]: the vectors as scoring sees them."""

    def scorer(self, query: npt.ArrayLike, threads: int | None = None) -> Scorer:
        """A query [n_query, dim] ready to be scored against stores of this codec.

        Raises:
            InvalidInput: the query's width or a value does not fit.
        """

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """(arrays, info) from which `codec.restore` makes the codec again."""

    def bytes_per_token(self) -> float:
        """Bytes a token takes in the store."""


def reconstruction_report(codec: Codec, values: Float32) -> dict[str, float]:
    """How near stored vectors are to their originals.

    Args:
        values: float32 [n >= 1, dim], unit length.
    Returns:
        cosine_mean, cosine_p1 (first percentile), cosine_min, mse (a dimension), bytes_per_token.
    """
    decoded = codec.decode(codec.encode(values))
    cosine = (decoded * values).sum(axis=1) / np.maximum(np.linalg.norm(decoded, axis=1), 1e-12)
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_p1": float(np.quantile(cosine, 0.01)),
        "cosine_min": float(cosine.min()),
        "mse": float(((decoded - values) ** 2).mean()),
        "bytes_per_token": codec.bytes_per_token(),
    }


def bytes_of(columns: tuple[ColumnSpec, ...]) -> float:
    """Bytes a token takes over all columns."""
    return float(sum(np.dtype(dtype).itemsize * (width or 1) for _, dtype, width in columns))
