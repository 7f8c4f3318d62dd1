"""Starts ONNX Runtime's CUDA provider and numba's CUDA on one GPU, in a process of its own.

`python -m latebolt.gpu.probe 0` prints one line of JSON. Apart, because a broken installation may take its
process with it, and what ONNX Runtime says of it goes to stderr past Python.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from latebolt.devices import CUDA_PROVIDER
from latebolt.gpu.finding import make_ready
from latebolt.gpu.libraries import reason_in
from latebolt.onnx_runtime import onnxruntime

# y = x @ x of float32 [2, 2], opset 17: cuBLAS has to work for it. As onnx.helper.make_model writes it.
GRAPH: Final = bytes.fromhex(
    "08093a400a110a01780a017812017922064d61744d756c1201675a130a0178120e0a0c080112080a0208020a0208026213"
    "0a0179120e0a0c080112080a0208020a02080242040a001011"
)
_SECONDS: Final = 120.0  # for all of it; loading CUDA's libraries from a slow disk takes a while


@dataclass(frozen=True)
class Outcome:
    """How both went: "" where they work, else why not."""

    provider: str
    numba: str


def probe(number: int) -> Outcome:
    """Try a GPU in a child process, which is given some time and whose end, however it comes, is told."""
    command = [sys.executable, "-m", "latebolt.gpu.probe", str(number)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, errors="replace")
    except subprocess.TimeoutExpired:
        return Outcome(*[f"it gave no answer in {_SECONDS:.0f} s"] * 2)
    return read(done.returncode, done.stdout, done.stderr)


def read(code: int, stdout: str, stderr: str) -> Outcome:
    """What a child said, with ONNX Runtime's own words where its provider did not start."""
    try:
        said = Outcome(**json.loads(stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = stderr.strip().splitlines()
        return Outcome(*[f"the process that tried it {how}" + (f": {last[-1]}" if last else "")] * 2)
    reason = reason_in(stderr)
    return Outcome(f"{said.provider}: {reason}" if said.provider and reason else said.provider, said.numba)


def try_provider(number: int) -> str:
    """Multiply on the GPU by ONNX Runtime; "" where that is right."""
    try:
        make_ready()
        providers = [(CUDA_PROVIDER, {"device_id": number}), "CPUExecutionProvider"]
        session = onnxruntime().InferenceSession(GRAPH, providers=providers)
        if CUDA_PROVIDER not in session.get_providers():
            return "the CUDA provider did not start"
        x = np.array([[1, 2], [3, 4]], np.float32)
        [y] = session.run(None, {"x": x})
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return _first_line(error) or type(error).__name__
    return "" if np.array_equal(y, x @ x) else f"it multiplies wrongly: {y.tolist()}"


def try_numba(number: int) -> str:
    """Compile and run a kernel on the GPU by numba; "" where that is right."""
    try:
        from numba import cuda

        from latebolt.gpu.probe_kernel import double
    except ImportError:
        return "numba-cuda is not installed. Run \"pip install 'latebolt[gpu]'\"."
    try:
        if not cuda.is_available():
            return "numba sees no GPU"
        cuda.select_device(number)
        on_device = cuda.to_device(np.arange(4, dtype=np.int32))
        double[1, 32](on_device)
        found = on_device.copy_to_host().tolist()
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {_first_line(error)}"
    return "" if found == [0, 2, 4, 6] else f"it computes wrongly: {found}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")


if __name__ == "__main__":
    outcome = Outcome(try_provider(int(sys.argv[1])), try_numba(int(sys.argv[1])))
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
