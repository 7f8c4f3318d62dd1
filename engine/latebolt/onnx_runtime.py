"""Imports ONNX Runtime for all of latebolt, with its reports to its maker switched off.

From 1.29 on ONNX Runtime reports by default: it looks up a host of its maker's and leaves a device id and a
cache in the user's home. It decides when it is first loaded, so `import latebolt` sets the environment
variable that this process and all that it starts are told by, unless somebody has set it already.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from latebolt.errors import RuntimeUnavailable

# "1" is off; whoever wants the reports sets "0" before.
TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"
# How ONNX Runtime, and the C++ and CUDA libraries through it, say that they got no memory or no thread.
_ALLOCATION_FAILED: Final = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
    "is smaller than requested bytes",  # of a full arena: "Available memory of 0 is smaller than ..."
    "out of memory",
    "error_out_of_memory",  # CUDA_, as the driver's bindings say it
    "alloc_failed",  # CUBLAS_STATUS_ and CUDNN_STATUS_
    "pthread_create",
    "can't start new thread",
)


def switch_off_telemetry() -> None:
    """Tell an ONNX Runtime that is loaded later, and as far as it still listens one that already is."""
    said = os.environ.get(TELEMETRY)
    os.environ.setdefault(TELEMETRY, "1")
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None and said is None:
        # Its first report has gone out, but none follows. Present in every version, though its attributes are
        # not while it is only half imported.
        getattr(loaded, "disable_telemetry_events", lambda: None)()


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


def is_failure_of_device(error: BaseException) -> bool:
    """Whether a GPU or a library of CUDA refuses, as in "CUDA failure 100: no CUDA-capable device"."""
    return any(words in str(error).lower() for words in ("cuda failure", "cublas failure", "cudnn failure"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of ONNX Runtime's or NumPy's means that there was not enough memory."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _ALLOCATION_FAILED)
