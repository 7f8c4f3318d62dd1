"""One ONNX Runtime session over one graph: providers, threads, memory, named inputs and outputs.

The only module that imports onnxruntime. Takes token ids, gives token vectors; knows nothing of texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.errors import InvalidInput, ModelError, RuntimeUnavailable

Int64 = npt.NDArray[np.int64]

# Runs longer than this give their memory back, or one long document would set the size for good.
_LONG_TOKENS = 1024


def onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        RuntimeUnavailable: none is installed.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise RuntimeUnavailable(
            "onnxruntime is not installed. Run \"pip install 'latebolt[cpu]'\", or 'latebolt[gpu]' for CUDA."
        ) from error
    return ort


def resolve_device(device: str) -> tuple[str, int]:
    """("cpu" | "cuda", device number) for "cpu", "cuda", "cuda:1" or "auto".

    Raises:
        InvalidInput: another word.
        RuntimeUnavailable: CUDA was asked for and the installed onnxruntime has none.
    """
    if device == "cpu":
        return "cpu", 0
    has_cuda = "CUDAExecutionProvider" in onnxruntime().get_available_providers()
    if device == "auto":
        return ("cuda", 0) if has_cuda else ("cpu", 0)
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise InvalidInput(f'device should be "cpu", "cuda", "cuda:N" or "auto", got "{device}".')
    if not has_cuda:
        raise RuntimeUnavailable(
            f'device "{device}": the installed onnxruntime has no CUDA provider. '
            'Run "pip uninstall onnxruntime; pip install \'latebolt[gpu]\'", or use device="cpu".'
        )
    return "cuda", int(number or 0)


class Session:
    """A loaded graph. `run` may be called from several threads at once."""

    def __init__(self, file: Path, output: str, threads: int, device: tuple[str, int] = ("cpu", 0)) -> None:
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Shapes vary with every text: planning memory per shape would keep a plan for each length.
        options.enable_mem_pattern = False
        # Idle workers must not spin on the cores that the kernels and the other sessions use.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        kind, number = device
        providers: list[Any] = ["CPUExecutionProvider"]
        if kind == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
        try:
            self._session = ort.InferenceSession(str(file), options, providers=providers)
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(
                f"{file}: ONNX Runtime cannot load it ({reason}). Export the model again."
            ) from error
        if kind == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise RuntimeUnavailable(
                'device "cuda": the CUDA provider did not start (driver or CUDA libraries missing). '
                'Run "latebolt doctor", or use device="cpu".'
            )
        names = [node.name for node in self._session.get_outputs()]
        if output not in names:
            raise ModelError(f'{file}: has no output "{output}", only {", ".join(names)}. Export it again.')
        self._output = output
        self._shrink = ort.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def providers(self) -> list[str]:
        """Execution providers in use, first choice first."""
        return list(self._session.get_providers())

    def run(self, ids: Int64, attended: int) -> npt.NDArray[np.float32]:
        """Token vectors of one text.

        Args:
            ids: int64 [n].
            attended: the first so many tokens may be attended to.
        Returns:
            float32 [n, dim], unit length.
        """
        mask = np.ones((1, len(ids)), np.int64)
        mask[0, attended:] = 0
        feeds = {"input_ids": ids[None, :], "attention_mask": mask}
        options = self._shrink if len(ids) > _LONG_TOKENS else None
        values: npt.NDArray[np.float32] = self._session.run([self._output], feeds, options)[0][0]
        return values if values.dtype == np.float32 else values.astype(np.float32)
