"""Runs the small graphs of `gpu/graphs` on a device: vectors go there in blocks that fit a budget, or lie
there already, and what comes out may stay. What the graphs are for, says `codes`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.codec.coding import Placed
from latebolt.devices import CUDA_PROVIDER, Device
from latebolt.errors import InvalidInput, OutOfMemory, RuntimeUnavailable
from latebolt.gpu.finding import explain, make_ready
from latebolt.onnx_runtime import is_failure_of_device, is_out_of_memory, onnxruntime

logger = logging.getLogger(__name__)

GRAPHS: Final = Path(__file__).parent / "graphs"
HALVINGS: Final = 2  # blocks become this many times half as long before a device has too little memory
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


class DeviceGraphs:
    """The graphs on one device, each loaded with its first use. Thread-safe.

    Args:
        device: where; "cpu" runs the same graphs on ONNX Runtime's CPU provider, for tests.
        budget: bytes that a block may take beside what it is made of.
    """

    def __init__(self, device: Device, budget: int) -> None:
        self.device, self._budget = device, budget
        self._lock = threading.Lock()
        self._sessions: dict[str, Any] = {}

    def session(self, graph: str) -> Any:
        """The onnxruntime.InferenceSession of one of the graphs."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = _started(GRAPHS / f"{graph}.onnx", self.device)
            return self._sessions[graph]

    def place(self, array: npt.NDArray[Any]) -> Any:
        """An array as an onnxruntime.OrtValue on the device."""
        kept, device = np.ascontiguousarray(array), self.device
        try:
            return onnxruntime().OrtValue.ortvalue_from_numpy(kept, device.kind, device.number)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_little(kept.nbytes) from error

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
        work: Callable[[Any, slice], Outputs],
        nothing: Outputs,
    ) -> Outputs:
        """What `work` gives for blocks of vectors that fit the budget, one behind the other.

        Args:
            work: is given float32 [some, dim] on the device, and which of the vectors they are.
            nothing: what there is for no vectors.
        Raises:
            OutOfMemory: not even blocks that are `HALVINGS` times half as long fit.
        """
        vectors = _Vectors(self, values)
        found, done, halvings = [nothing], 0, 0
        while done < len(vectors):
            rows = max(1, self._budget // bytes_a_token)
            part = slice(done, min(done + rows, len(vectors)))
            try:
                found.append(work(vectors.block(part.start, part.stop), part))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if halvings == HALVINGS or rows == 1:
                    raise self._too_little(bytes_a_token * rows) from error
                halvings += 1
                self._budget = rows // 2 * bytes_a_token  # for later ones, too
                logger.warning(
                    'device "%s": little memory; now %d token vectors at a time', self.device, rows // 2
                )
            else:
                done += rows
        return {name: np.concatenate([each[name] for each in found]) for name in nothing}

    def _too_little(self, n_bytes: int) -> OutOfMemory:
        return OutOfMemory(
            f'device "{self.device}": there is not enough memory to make codes, which take '
            f"{max(1, n_bytes >> 20)} MB more at a time. Free some (other programs, a smaller model), or "
            'make them on the CPU: device="cpu".'
        )


class _Vectors:
    """Vectors as blocks on a device, wherever they are."""

    def __init__(self, graphs: DeviceGraphs, values: Float32 | Placed) -> None:
        self._graphs, self._values = graphs, values
        if not isinstance(values, Placed):
            self._n = len(values)
            return
        whole, kind = values.values, values.values.data_type()
        if whole.device_name() != graphs.device.kind or kind not in _DTYPES:
            raise InvalidInput(
                f"token vectors should be an array, or float32 or float16 on {graphs.device}, got {kind} on "
                f"{whole.device_name()}."
            )
        *outer, dim = whole.shape()
        self._whole = View(whole.data_ptr(), _DTYPES[kind], (math.prod(outer), dim))
        self._n = self._whole.shape[0] if values.places is None else len(values.places)

    def __len__(self) -> int:
        return self._n

    def block(self, start: int, stop: int) -> Any:
        """Float32 [stop - start, dim], as an input of `DeviceGraphs.run`."""
        values, graphs = self._values, self._graphs
        if not isinstance(values, Placed):
            return graphs.place(np.asarray(values[start:stop], np.float32))
        if values.places is not None:
            graph = "take_half" if self._whole.dtype is np.float16 else "take_single"
            places = graphs.place(values.places[start:stop])
            return graphs.run(graph, {"whole": self._whole, "places": places}, ["values"], stay=True)[0]
        part = self._whole.rows(start, stop)
        if part.dtype is np.float32:
            return part
        return graphs.run("widen", {"whole": part}, ["values"], stay=True)[0]


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
        # Where a product only chooses among centroids, float32 sums settle what its rounding to 10 bits
        # leaves open, and tensor cores take a fraction of the time.
        cuda = {
            "device_id": device.number,
            "use_tf32": "1" if graph.stem == "nearest" else "0",
            "arena_extend_strategy": "kSameAsRequested",
        }
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
