"""Single texts by CUDA graphs: the run of one text is recorded for a few lengths, and replayed with another
text's ids in the same places of memory, which spares launching every kernel anew.

What ONNX Runtime asks for (its CUDA provider's `enable_cuda_graph`): bound inputs and outputs whose addresses
stay, one `gpu_graph_id` a shape, all kernels on the GPU, and no other thread of the process at the GPU while
it records. It keeps recordings by thread, so that one thread makes and replays them all; and their memory may
be overwritten by any other run of their session, so that they have a session of their own, with the model's
weights once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32, Int64
from latebolt.devices import Device
from latebolt.onnx_runtime import onnxruntime

logger = logging.getLogger(__name__)

# Tokens of a text, filled up: what a query has by default, and what a longer one may have.
LENGTHS: Final = (32, 64, 128)
# Cosine that a replayed vector has with the one that an ordinary run gives, where the recording is sound.
LEAST_COSINE: Final = 0.99

_DTYPES: Final[dict[str, type[np.floating]]] = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


class FixedRun:
    """The run of one text of a fixed length, between buffers whose addresses stay.

    Args:
        session: an onnxruntime.InferenceSession.
        feeds: what it takes, int64 by name; of which `replay` replaces some.
        output: name and shape of what it gives.
        number: of the recording, from 1 on.
    """

    def __init__(
        self,
        session: Any,
        feeds: dict[str, Int64],
        output: tuple[str, tuple[int, ...]],
        device: Device,
        number: int,
    ) -> None:
        ort = onnxruntime()
        name, shape = output
        kind = next(node.type for node in session.get_outputs() if node.name == name)
        self._session, self._binding = session, session.io_binding()
        self._inputs = {
            each: ort.OrtValue.ortvalue_from_numpy(values, device.kind, device.number)
            for each, values in feeds.items()
        }
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), _DTYPES[kind], device.kind, device.number
        )
        for each, value in self._inputs.items():
            self._binding.bind_ortvalue_input(each, value)
        self._binding.bind_ortvalue_output(name, self._output)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))

    def replay(self, feeds: dict[str, Int64]) -> npt.NDArray[np.floating]:
        """What the graph gives for these inputs and the others as they were; the first time records it."""
        for name, values in feeds.items():
            self._inputs[name].update_inplace(values)
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._output.numpy())  # of the CPU it is the buffer itself


class Recordings:
    """Recorded runs of one text, one a length. Thread-safe; texts take turns.

    Args:
        make: of a length and the recording's number what makes float32 [tokens, dim] of ids and mask, int64
            [1, tokens].
        expected: an ordinary run of ids and mask.
        pad: the id that fills up.
        longest: tokens that the model takes.
    Raises:
        Exception: they cannot be made; whatever the runtime says.
    """

    def __init__(
        self,
        make: Callable[[int, int], Callable[[Int64, Int64], Float32]],
        expected: Callable[[Int64, Int64], Float32],
        pad: int,
        longest: int,
    ) -> None:
        self._pad, self._expected = pad, expected
        self._lengths = tuple(length for length in LENGTHS if length <= longest)
        self._thread = ThreadPoolExecutor(1, "latebolt-recorded")
        try:
            self._runs = self._thread.submit(self._record, make).result()
        except BaseException:
            self.close()
            raise

    def run(self, ids: Int64, attended: int) -> Float32 | None:
        """Float32 [n, dim], the vectors of a text; None for one that is longer than any recording.

        Args:
            ids, attended: see `Session.run`.
        """
        length = next((length for length in self._lengths if length >= len(ids)), None)
        if length is None:
            return None
        filled = np.full((1, length), self._pad)
        filled[0, : len(ids)] = ids
        mask = (np.arange(length) < attended).astype(np.int64)[None]
        return self._thread.submit(self._runs[length], filled, mask).result()[: len(ids)]

    def close(self) -> None:
        """End the thread; nothing can be replayed after it."""
        self._thread.shutdown(wait=False)

    def _record(
        self, make: Callable[[int, int], Callable[[Int64, Int64], Float32]]
    ) -> dict[int, Callable[[Int64, Int64], Float32]]:
        runs = {length: make(length, number) for number, length in enumerate(self._lengths, 1)}
        for length, run in runs.items():
            ids, mask = np.full((1, length), self._pad), np.ones((1, length), np.int64)
            run(ids, mask)  # records
            mask[0, length // 2 :] = 0
            self._check(run(ids, mask), ids, mask)
        return runs

    def _check(self, found: Float32, ids: Int64, mask: Int64) -> None:
        """Raise unless a replay gives what an ordinary run gives, of another mask than was recorded."""
        expected = self._expected(ids, mask)
        attended = int(mask.sum())
        cosine = (found[:attended] * expected[:attended]).sum(1)
        if not cosine.min() > LEAST_COSINE:  # NaN is not
            raise RuntimeError(
                f"a replay of {ids.size} tokens gives other vectors than a run (cosine {cosine.min():.3f})"
            )


def recorded(make: Callable[[], Recordings], name: str) -> Recordings | None:
    """Recordings, or None with a warning why there are none: single texts then run as others do."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - of a library, a driver and a device; nothing depends on it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning(
            'device "%s": single texts are not replayed from CUDA graphs (%s); they run as others',
            name,
            reason,
        )
        return None
