"""ONNX Runtime sessions of the exporter: CPU only, as the runtime opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latebolt.onnx_runtime import onnxruntime


def open_file(file: Path | bytes, threads: int = 0, rearrange: bool = True) -> Any:
    """A session over an ONNX file, or over the bytes of one.

    Args:
        threads: 0 takes all cores.
        rearrange: keep a copy of every weight in the order that products read it in: faster, and as large
            as the weights again.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Shapes vary with every text: planning memory per shape would keep a plan for each length.
    options.enable_mem_pattern = False
    # On a busy machine, threads that wait by spinning take the cores from those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "0" if rearrange else "1")
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
