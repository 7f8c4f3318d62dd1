"""Begins to load a model: finds its folder, chooses a graph, and loads that on a thread of its own.

ONNX Runtime loads and optimises a graph without the GIL, which all else needs that an encoder waits for: its
tokenizer, its kernels, and in a fresh process the imports of modules, for which this one needs few.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from latebolt.contract import Head
from latebolt.cpus import available_cpus
from latebolt.encoder import model_folder
from latebolt.encoder.model import Model
from latebolt.encoder.session import Session
from latebolt.errors import InvalidInput
from latebolt.onnx_runtime import onnxruntime


@dataclass(frozen=True)
class Loading:
    """A model whose graph is being loaded.

    Args:
        graph: its session, or what keeps it from being one.
    """

    model: Model
    head: Head
    threads: int
    graph: Future[Session]


def begin(
    name: str | Path, precision: str | None, dim: int | None, device: tuple[str, int], threads: int | None
) -> Loading:
    """Begin to load a model.

    Args:
        name, precision, dim, threads: see `Encoder.load`.
        device: see `session.resolve_device`.
    Raises:
        ModelError: no such model, precision or head.
        InvalidInput: threads is no number of threads.
        RuntimeUnavailable: no ONNX Runtime.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InvalidInput(f"threads should be at least 1, got {threads!r}.")
    folder = model_folder.find(name)
    head = folder.contract.head(dim)
    order = ("int8", "fp32", "fp16") if device[0] == "cpu" else ("fp16", "fp32", "int8")
    fastest = next(name for name in order if name in folder.contract.graphs)
    model, n_threads = Model(folder, precision or fastest, device), threads or available_cpus()
    onnxruntime()  # whose import needs the GIL, too
    worker = ThreadPoolExecutor(1, thread_name_prefix="latebolt-load")
    graph = worker.submit(model.session, head, n_threads)
    worker.shutdown(wait=False)
    return Loading(model, head, n_threads, graph)
