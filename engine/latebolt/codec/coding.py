"""`Coding`: where vectors become codes, which is these kernels on the CPU or a device (`latebolt.gpu.codes`).

A codec says what its codes mean, a coding only where they are computed; all give the same codes, except where
two are equally good within rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.codec import lloyd
from latebolt.codec.grouping import Nearest, search
from latebolt.kernels.residual import encode_residual


class Tables(NamedTuple):
    """What residual codes are made with.

    centroids float32 [k >= 1, dim]; spread float32 [dim], above 0; weights float32 [2, 4 or 16], ascending;
    factors float32 [N_FACTORS, 2]; unit: root mean square of residual / spread that the weights are made for.
    """

    centroids: Float32
    spread: Float32
    weights: Float32
    factors: Float32
    unit: float


class Codes(NamedTuple):
    """cells int64, uint16 or uint32 [n], each vector's centroid; codes uint8 [n, dim * bits / 8], packed as
    in `codec.residual_codec`; norms uint8 [n], numbers of pairs of factors.
    """

    cells: npt.NDArray[Any]
    codes: npt.NDArray[np.uint8]
    norms: npt.NDArray[np.uint8]


class Placed(NamedTuple):
    """Vectors of unit length that lie on a device, such as an encoder's output.

    values: an onnxruntime.OrtValue of float32 or float16 [.., dim]; places: int64 [n], which of its rows, one
    behind the other, are meant; all for None.
    """

    values: Any
    places: Int64 | None = None

    def on_host(self) -> Float32:
        """Float32 [n, dim], copied from the device."""
        whole = self.values.numpy()
        rows = whole.reshape(-1, whole.shape[-1])
        return np.asarray(rows if self.places is None else rows[self.places], np.float32)


class Coder(Protocol):
    """Makes the codes of one codec."""

    def nearest(self, values: Float32) -> Int64:
        """Int64 [n]: the centroid with the largest dot product with each of the vectors [n, dim]."""

    def encode(self, values: Float32 | Placed) -> Codes:
        """Codes of vectors [n, dim]."""


class Points(Protocol):
    """Vectors that k-means looks at again and again."""

    def sums(self, centroids: Float32) -> tuple[Float32, Int64]:
        """Float32 [k, dim], the sum of the vectors that are nearest to each centroid; int64 [k], how many."""


class Coding(Protocol):
    """Where codes are computed. May be used by several threads at once."""

    def at(self, kind: str, number: int) -> Coding:
        """Where codes of vectors are computed that lie on a device, such as ("cuda", 0)."""

    def nearest(self, centroids: Float32) -> Nearest:
        """What finds the centroid of float32 [k >= 1, dim] with the largest dot product with each vector."""

    def points(self, blocks: Callable[[], Iterable[Float32]]) -> Points:
        """Vectors that are read in blocks, float32 [some, dim], as often as they are needed."""

    def coder(self, tables: Tables) -> Coder:
        """What makes the codes of a codec; may put off what is costly until it is asked for some."""


class KernelCoding:
    """On the CPUs of this process."""

    def at(self, kind: str, number: int) -> Coding:
        """Here, wherever they lie."""
        return self

    def nearest(self, centroids: Float32) -> Nearest:
        """See `Coding`; what it may miss, says `grouping.search`."""
        return search(centroids)

    def points(self, blocks: Callable[[], Iterable[Float32]]) -> Points:
        """See `Coding`."""
        return _KernelPoints(blocks)

    def coder(self, tables: Tables) -> Coder:
        """See `Coding`."""
        return _KernelCoder(tables)


class _KernelPoints:
    def __init__(self, blocks: Callable[[], Iterable[Float32]]) -> None:
        self._blocks = blocks

    def sums(self, centroids: Float32) -> tuple[Float32, Int64]:
        return lloyd.sums_of(self._blocks(), search(centroids), centroids)


class _KernelCoder:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    @functools.cached_property
    def _search(self) -> Nearest:
        # With the first vectors: who only searches never has any.
        return search(self._tables.centroids)

    def nearest(self, values: Float32) -> Int64:
        return self._search(values)

    def encode(self, values: Float32 | Placed) -> Codes:
        values = values.on_host() if isinstance(values, Placed) else values
        centroids, spread, weights, factors, unit = self._tables
        cells = self.nearest(values)
        found = encode_residual(values, cells, centroids, spread, weights, unit, factors)
        return Codes(cells, found.codes, found.norms)


KERNELS: Final = KernelCoding()
