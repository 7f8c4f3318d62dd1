"""Residual codes of vectors whose centroids are known: what is left, on a scale of its own for each vector.

The vector's residual is divided by a width that fits its own codes best, and two factors, of the centroid and
of the residual, turn what the codes say into the nearest direction. A far vector then has as fine codes as a
near one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Float32, Int64
from latebolt.kernels import native
from latebolt.kernels.maxsim import address
from latebolt.kernels.shapes import N_FACTORS

_NS_A_DIMENSION = 4  # about, on one thread


class ResidualCodes(NamedTuple):
    """codes uint8 [n, dim * bits / 8], packed as in `codec.residual_codec`; norms uint8 [n], numbers of
    factors; pairs float32 [n, 2], the best factors of centroid and residual, of which `norms` are the
    nearest.
    """

    codes: npt.NDArray[np.uint8]
    norms: npt.NDArray[np.uint8]
    pairs: Float32


def encode_residual(
    values: Float32,
    cells: Int64,
    centroids: Float32,
    spread: Float32,
    weights: Float32,
    unit: float,
    factors: Float32 | None = None,
    n_threads: int | None = None,
) -> ResidualCodes:
    """Codes of vectors.

    Args:
        values: float32 [n, dim]; cells: int64 [n], each one's centroid, float32 [n_centroids, dim].
        spread: float32 [dim], above 0; weights: float32 [2, 4 or 16], ascending: a code of a dimension stands
            for weights[code] * spread, times what the vector's residual is multiplied by.
        unit: root mean square of residual / spread that the weights are made for.
        factors: float32 [N_FACTORS, 2], those there are to choose from; None to find the best only.
    """
    values, cells = np.ascontiguousarray(values, np.float32), np.ascontiguousarray(cells, np.int64)
    n, dim = values.shape
    bits = len(weights).bit_length() - 1
    edges = ((weights[1:] + weights[:-1]) / 2).astype(np.float32)
    steps = np.array([*np.diff(weights, prepend=0), unit], np.float32)
    found = ResidualCodes(
        np.empty((n, dim * bits // 8), np.uint8), np.zeros(n, np.uint8), np.empty((n, 2), np.float32)
    )
    kernel = native.kernel(f"encode_residual:{dim}x{bits}")

    def work(first: int, last: int) -> None:
        scratch = np.empty(3 * dim + N_FACTORS + dim // 4 + 1, np.float32)
        kernel(
            address(values), address(cells), address(centroids), address(spread), address(edges),
            address(steps), 0 if factors is None else address(factors), address(found.pairs),
            address(found.codes), address(found.norms), address(scratch), first, last,
        )  # fmt: skip

    threads.run(np.arange(n + 1), _NS_A_DIMENSION * dim, work, n_threads)
    return found
