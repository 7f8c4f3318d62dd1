"""Residual codes made on a device: the nearest centroid, which k-means looks for too, what is left, packing.

Small graphs of standard operators do it, which ONNX Runtime runs where the vectors lie, so that 35 bytes a
token come back and not 256 (at 128 dimensions, 2 bits). `export/latebolt_export/graph/device_codes.py` builds
them; they are the same for all indexes, whose centroids and tables are inputs that are loaded once. The codes
are those of `kernels`, except where two are equally good within rounding: there bytes choose among centroids,
here the device's matrix product does, which is the finer one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.codec.coding import Codes, Coding, Placed, Tables
from latebolt.codec.grouping import Nearest
from latebolt.devices import Device
from latebolt.gpu.device_graphs import DeviceGraphs, Outputs
from latebolt.kernels.shapes import CENTROID_PARTS, N_FACTORS

# Bytes that a block of tokens may take on the device beside the vectors: most of it are their scores with all
# centroids, 4 bytes each, so that 65,536 centroids take 2,000 tokens at a time.
BUDGET: Final = 512 << 20
_LIVE: Final = 6  # arrays of a token's width, or of its factors' errors, that are there at once


class DeviceCoding(DeviceGraphs):
    """See `codec.coding.Coding`. Its graphs are loaded with their first use, its first one at once.

    Args:
        device: where; "cpu" runs the same graphs on ONNX Runtime's CPU provider, for tests.
        budget: bytes, see `BUDGET`.
    Raises:
        RuntimeUnavailable: the device cannot be used.
    """

    def __init__(self, device: Device, budget: int = BUDGET) -> None:
        super().__init__(device, budget)
        self._last: DeviceCoder | None = None
        self._others: dict[Device, DeviceCoding] = {}
        self.session("nearest")

    def at(self, kind: str, number: int) -> Coding:
        """See `Coding`: the same on another GPU, where an encoder on several leaves vectors."""
        device = Device(kind, number)
        if device == self.device:
            return self
        with self._lock:
            if device not in self._others:
                self._others[device] = DeviceCoding(device, self._budget)
            return self._others[device]

    def nearest(self, centroids: Float32) -> Nearest:
        """See `Coding`."""
        return Centroids(self, centroids).nearest

    def points(self, blocks: Callable[[], Iterable[Float32]]) -> DevicePoints:
        """See `Coding`. They are loaded once and stay on the device."""
        return DevicePoints(self, blocks)

    def coder(self, tables: Tables) -> DeviceCoder:
        """See `Coding`. The last one is kept: an index that is added to again has its centroids there."""
        last = self._last
        if last is None or not _are_same(last.tables, tables):
            last = self._last = DeviceCoder(self, tables)
        return last


class Centroids:
    """Centroids that lie on a device, loaded with their first use."""

    def __init__(self, coding: DeviceCoding, centroids: Float32) -> None:
        self._coding, self._centroids = coding, centroids
        self.dim: int = centroids.shape[1]

    @functools.cached_property
    def placed(self) -> dict[str, Any]:
        """`centroids`, the last one repeated so that all parts are as long, and where each part `starts`."""
        padding = -len(self._centroids) % CENTROID_PARTS
        padded = np.concatenate([self._centroids, np.repeat(self._centroids[-1:], padding, axis=0)])
        starts = np.arange(CENTROID_PARTS, dtype=np.int64) * (len(padded) // CENTROID_PARTS)
        return {"centroids": self._coding.place(padded), "starts": self._coding.place(starts)}

    @property
    def bytes_a_token(self) -> int:
        """Its scores, and its candidates with their products."""
        return 4 * (len(self._centroids) + 2 * CENTROID_PARTS * self.dim)

    def find(self, values: Any) -> Any:
        """The nearest to each of a block of vectors, which stays on the device; one that repeats the last
        centroid may be among them, too."""
        return self._coding.run("nearest", {"values": values, **self.placed}, ["cell"], stay=True)[0]

    def cells(self, values: Float32 | Placed) -> npt.NDArray[Any]:
        """Uint16 [n], or uint32 where there are more than 65,536: the nearest to each of the vectors."""
        few = len(self._centroids) <= 65536
        name = "cell16" if few else "cell32"

        def work(block: Any, rows: slice) -> Outputs:
            inputs = {"values": block, **self.placed}
            return {name: self._coding.run("nearest", inputs, [name])[0]}

        nothing = {name: np.zeros(0, np.uint16 if few else np.uint32)}
        return self.own(self._coding.in_blocks(values, self.bytes_a_token, work, nothing)[name])

    def nearest(self, values: Float32) -> Int64:
        """Int64 [n], the nearest to each of float32 [n, dim]."""
        return self.cells(values).astype(np.int64)

    def own(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of centroids that were not repeated."""
        most = cells.dtype.type(len(self._centroids) - 1)
        return np.asarray(np.minimum(cells, most))


class DevicePoints:
    """See `codec.coding.Points`."""

    def __init__(self, coding: DeviceCoding, blocks: Callable[[], Iterable[Float32]]) -> None:
        self._coding, self._blocks = coding, blocks
        self._placed: list[Placed] = []

    def sums(self, centroids: Float32) -> tuple[Float32, Int64]:
        """See `Points`.

        Raises:
            OutOfMemory: the device has too little.
        """
        coding, there = self._coding, Centroids(self._coding, centroids)
        n, padded = len(centroids), -len(centroids) % CENTROID_PARTS + len(centroids)
        numbers = coding.place(np.arange(padded, dtype=np.int64))
        state = [coding.place(np.zeros(shape, np.float32)) for shape in ((padded, there.dim), (padded,))]

        def add(values: Any, rows: slice) -> Outputs:
            inputs = {"values": values, "cell": there.find(values), "numbers": numbers}
            before = dict(zip(("sums_before", "counts_before"), state, strict=True))
            state[:] = coding.run("sums", inputs | before, ["sums", "counts"], stay=True)
            return {}

        # Scores; then which centroid each token belongs to, as a bool, as a float, and that turned.
        n_bytes = there.bytes_a_token + 9 * padded
        for block in self._on_device():
            coding.in_blocks(block, n_bytes, add, {})
        sums, counts = (value.numpy() for value in state)
        # What repeats the last centroid counts as the last.
        sums[n - 1] += sums[n:].sum(axis=0)
        counts[n - 1] += counts[n:].sum()
        return np.asarray(sums[:n]), counts[:n].astype(np.int64)

    def _on_device(self) -> Iterable[Placed]:
        if not self._placed:
            self._placed = [Placed(self._coding.place(block)) for block in self._blocks()]
        return self._placed


class DeviceCoder:
    """See `codec.coding.Coder`. Vectors that lie on the device stay there."""

    def __init__(self, coding: DeviceCoding, tables: Tables) -> None:
        self.tables = tables
        self._coding, self._centroids = coding, Centroids(coding, tables.centroids)
        self._bits = len(tables.weights).bit_length() - 1

    @functools.cached_property
    def _placed(self) -> dict[str, Any]:
        spread, weights = self.tables.spread, self.tables.weights
        arrays: dict[str, npt.NDArray[Any]] = {
            "spread": spread,
            "edges": (weights[1:] + weights[:-1]) / 2,
            "weights": weights,
            "factors": self.tables.factors,
            "unit": np.array([self.tables.unit * self._centroids.dim**0.5]),
        }
        placed = {name: self._coding.place(array.astype(np.float32)) for name, array in arrays.items()}
        return {**placed, "centroids": self._centroids.placed["centroids"]}

    def nearest(self, values: Float32) -> Int64:
        """See `Coder`."""
        return self._centroids.nearest(values)

    def encode(self, values: Float32 | Placed) -> Codes:
        """See `Coder`.

        Raises:
            OutOfMemory: the device has too little.
        """
        dim, graph = self._centroids.dim, f"codes_{self._bits}"
        cells = self._centroids.cells(values)
        names = ["codes", "norm"]

        def work(block: Any, rows: slice) -> Outputs:
            cell = self._coding.place(cells[rows].astype(np.int64))
            inputs = {"values": block, "cell": cell, **self._placed}
            return dict(zip(names, self._coding.run(graph, inputs, names), strict=True))

        # In blocks of their own: they do not grow with the number of centroids.
        nothing = {"codes": np.zeros((0, dim * self._bits // 8), np.uint8), "norm": np.zeros(0, np.uint8)}
        found = self._coding.in_blocks(values, 4 * _LIVE * (dim + N_FACTORS), work, nothing)
        return Codes(cells, found["codes"], found["norm"])


def _are_same(some: Tables, others: Tables) -> bool:
    """Whether tables are those of one codec: its arrays themselves, which it makes no copies of."""
    return (
        all(getattr(some, name) is getattr(others, name) for name in ("centroids", "spread", "factors"))
        and some.unit == others.unit
        and np.array_equal(some.weights, others.weights)
    )
