"""Residual codes made on a device: the nearest centroid, which k-means looks for too, what is left, packing.

Small graphs of standard operators do it, which ONNX Runtime runs where the vectors lie, so that 35 bytes a
token come back and not 256 (at 128 dimensions, 2 bits). `export/latebolt_export/graph/device_codes.py` builds
them; they are the same for all indexes, whose centroids and tables are inputs that are loaded once. The codes
are those of `kernels`, except where two are equally good within rounding: there bytes choose among centroids,
here the device's matrix product does, which is the finer one.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.codec.coding import Codes, Coding, Nearest, Placed, Tables
from latebolt.devices import CUDA_PROVIDER, Device
from latebolt.errors import InvalidInput, OutOfMemory, RuntimeUnavailable
from latebolt.gpu.finding import explain, make_ready
from latebolt.kernels.shapes import CENTROID_PARTS, N_FACTORS
from latebolt.onnx_runtime import is_failure_of_device, is_out_of_memory, onnxruntime

logger = logging.getLogger(__name__)

GRAPHS: Final = Path(__file__).parent / "graphs"
# Bytes that a block of tokens may take on the device beside the vectors, most of it their scores with all
# centroids: 4 bytes each, so that 65,536 centroids take 1,000 tokens at a time.
BUDGET: Final = 256 << 20
HALVINGS: Final = 2  # blocks become this many times half as long before a device has too little memory
_LIVE: Final = 6  # arrays of a token's width, or of its factors' errors, that are there at once

_DTYPES: Final[Mapping[str, type[np.floating[Any]]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}

Outputs = Mapping[str, npt.NDArray[Any]]


class View(NamedTuple):
    """Rows of an OrtValue, which has to stay until they have been read."""

    pointer: int
    dtype: type[np.floating[Any]]
    shape: tuple[int, int]

    def rows(self, start: int, stop: int) -> View:
        """Some of them."""
        dim = self.shape[1]
        offset = start * dim * np.dtype(self.dtype).itemsize
        return View(self.pointer + offset, self.dtype, (stop - start, dim))


class DeviceCoding:
    """See `codec.coding.Coding`. Its graphs are loaded with their first use, its first one at once.

    Args:
        device: where; "cpu" runs the same graphs on ONNX Runtime's CPU provider, for tests.
        budget: bytes, see `BUDGET`.
    Raises:
        RuntimeUnavailable: the device cannot be used.
    """

    def __init__(self, device: Device, budget: int = BUDGET) -> None:
        self.device, self._budget = device, budget
        self._lock = threading.Lock()
        self._sessions: dict[str, Any] = {}
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

    def coder(self, tables: Tables) -> DeviceCoder:
        """See `Coding`. The last one is kept: an index that is added to again has its centroids there."""
        last = self._last
        if last is None or not _are_same(last.tables, tables):
            last = self._last = DeviceCoder(self, tables)
        return last

    def session(self, graph: str) -> Any:
        """The onnxruntime.InferenceSession of one of the graphs."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = _started(GRAPHS / f"{graph}.onnx", self.device)
            return self._sessions[graph]

    def place(self, array: npt.NDArray[Any]) -> Any:
        """An array as an onnxruntime.OrtValue on the device."""
        kept = np.ascontiguousarray(array)
        return onnxruntime().OrtValue.ortvalue_from_numpy(kept, self.device.kind, self.device.number)

    def run(
        self, graph: str, inputs: Mapping[str, Any], outputs: Sequence[str], stay: bool = False
    ) -> list[Any]:
        """Run a graph.

        Args:
            inputs: OrtValues, or views of some.
            stay: leave the outputs on the device, as OrtValues; else they are NumPy arrays.
        """
        session = self.session(graph)
        binding = session.io_binding()  # of this run alone, so that threads may run at once
        where = self.device.kind, self.device.number
        for name, value in inputs.items():
            if isinstance(value, View):
                binding.bind_input(name, *where, value.dtype, value.shape, value.pointer)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, *(where if stay else ("cpu", 0)))
        session.run_with_iobinding(binding)
        return list(binding.get_outputs()) if stay else list(binding.copy_outputs_to_cpu())

    def in_blocks(
        self,
        values: Float32 | Placed,
        bytes_a_token: int,
        work: Callable[[Any], Outputs],
        nothing: Outputs,
    ) -> Outputs:
        """What `work` gives for blocks of vectors that fit the budget, one behind the other.

        Args:
            work: is given float32 [some, dim] on the device.
            nothing: what there is for no vectors.
        Raises:
            OutOfMemory: not even blocks that are `HALVINGS` times half as long fit.
        """
        vectors = _Vectors(self, values)
        found, done, halvings = [nothing], 0, 0
        while done < len(vectors):
            rows = max(1, self._budget // bytes_a_token)
            try:
                found.append(work(vectors.block(done, min(done + rows, len(vectors)))))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if halvings == HALVINGS or rows == 1:
                    raise self._too_little(bytes_a_token * rows) from error
                halvings += 1
                self._budget = rows // 2 * bytes_a_token  # for later ones, too
                logger.warning(
                    'device "%s": little memory; codes of %d token vectors at a time', self.device, rows // 2
                )
            else:
                done += rows
        return {name: np.concatenate([each[name] for each in found]) for name in nothing}

    def _too_little(self, n_bytes: int) -> OutOfMemory:
        return OutOfMemory(
            f'device "{self.device}": there is not enough memory to make codes, which take about '
            f"{max(1, n_bytes >> 20)} MB beside the centroids. Free some (other programs, a smaller model), "
            'or make the codes on the CPU: device="cpu".'
        )


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

    def find(self, values: Any, stay: bool) -> Any:
        """The nearest of each of a block of vectors; a repeated last one may have its number, too."""
        return self._coding.run("nearest", {"values": values, **self.placed}, ["cell"], stay)[0]

    def nearest(self, values: Float32) -> Int64:
        """Int64 [n], the nearest to each of float32 [n, dim]."""
        found = self._coding.in_blocks(
            values,
            self.bytes_a_token,
            lambda block: {"cell": self.find(block, stay=False)},
            {"cell": np.zeros(0, np.int64)},
        )
        cells: Int64 = self.own(found["cell"])
        return cells

    def own(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of centroids that were not repeated."""
        most = cells.dtype.type(len(self._centroids) - 1)
        return np.asarray(np.minimum(cells, most))


class DeviceCoder:
    """See `codec.coding.Coder`. Vectors that lie on the device stay there."""

    def __init__(self, coding: DeviceCoding, tables: Tables) -> None:
        self.tables = tables
        self._coding, self._centroids = coding, Centroids(coding, tables.centroids)
        self._bits = len(tables.weights).bit_length() - 1
        self._cell = "cell16" if len(tables.centroids) <= 65536 else "cell32"

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
        dim = self._centroids.dim
        found = self._coding.in_blocks(
            values,
            self._centroids.bytes_a_token + 4 * _LIVE * (dim + N_FACTORS),
            self._encode_block,
            {
                self._cell: np.zeros(0, np.uint16 if self._cell == "cell16" else np.uint32),
                "codes": np.zeros((0, dim * self._bits // 8), np.uint8),
                "norm": np.zeros(0, np.uint8),
            },
        )
        return Codes(self._centroids.own(found[self._cell]), found["codes"], found["norm"])

    def _encode_block(self, values: Any) -> Outputs:
        cell = self._centroids.find(values, stay=True)
        names = [self._cell, "codes", "norm"]
        inputs = {"values": values, "cell": cell, **self._placed}
        return dict(zip(names, self._coding.run(f"codes_{self._bits}", inputs, names), strict=True))


class _Vectors:
    """Vectors as blocks on a device, wherever they are."""

    def __init__(self, coding: DeviceCoding, values: Float32 | Placed) -> None:
        self._coding, self._values = coding, values
        if not isinstance(values, Placed):
            self._n = len(values)
            return
        whole, kind = values.values, values.values.data_type()
        if whole.device_name() != coding.device.kind or kind not in _DTYPES:
            raise InvalidInput(
                f"token vectors should be an array, or float32 or float16 on {coding.device}, got {kind} on "
                f"{whole.device_name()}."
            )
        *outer, dim = whole.shape()
        self._whole = View(whole.data_ptr(), _DTYPES[kind], (math.prod(outer), dim))
        self._n = self._whole.shape[0] if values.places is None else len(values.places)

    def __len__(self) -> int:
        return self._n

    def block(self, start: int, stop: int) -> Any:
        """Float32 [stop - start, dim], as an input of `DeviceCoding.run`."""
        values, coding = self._values, self._coding
        if not isinstance(values, Placed):
            return coding.place(np.asarray(values[start:stop], np.float32))
        if values.places is not None:
            graph = "take_half" if self._whole.dtype is np.float16 else "take_single"
            places = coding.place(values.places[start:stop])
            return coding.run(graph, {"whole": self._whole, "places": places}, ["values"], stay=True)[0]
        part = self._whole.rows(start, stop)
        if part.dtype is np.float32:
            return part
        return coding.run("widen", {"whole": part}, ["values"], stay=True)[0]


def _are_same(some: Tables, others: Tables) -> bool:
    """Whether tables are those of one codec: its arrays themselves, which it makes no copies of."""
    return (
        all(getattr(some, name) is getattr(others, name) for name in ("centroids", "spread", "factors"))
        and some.unit == others.unit
        and np.array_equal(some.weights, others.weights)
    )


def _started(graph: Path, device: Device) -> Any:
    """An onnxruntime.InferenceSession of a graph.

    Raises:
        RuntimeUnavailable: the device does not start.
        OutOfMemory: it has too little to start.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # blocks are of many lengths
    providers: list[Any] = ["CPUExecutionProvider"]
    if not device.is_cpu:
        make_ready()
        # Only the scores that choose among centroids are a matrix product: float32 sums settle what its
        # rounding to 10 bits leaves open, and tensor cores take a fraction of the time.
        cuda = {"device_id": device.number, "use_tf32": "1", "arena_extend_strategy": "kSameAsRequested"}
        providers.insert(0, (CUDA_PROVIDER, cuda))
    try:
        session = ort.InferenceSession(str(graph), options, providers=providers)
    except Exception as error:
        said = str(error).strip().splitlines()[0]
        if is_out_of_memory(error):
            raise OutOfMemory(
                f'device "{device}": there is not enough memory to begin making codes. Free some, or make '
                'them on the CPU: device="cpu".'
            ) from error
        if not device.is_cpu and is_failure_of_device(error):
            raise RuntimeUnavailable(f'device "{device}": {explain(device.number, said)}') from error
        raise RuntimeUnavailable(
            f"{graph}: ONNX Runtime cannot load it ({said}). Install latebolt again."
        ) from error
    if not device.is_cpu and CUDA_PROVIDER not in session.get_providers():
        raise RuntimeUnavailable(f'device "{device}": {explain(device.number)}')
    return session
