"""Begins to load a model: finds its folder, chooses a graph, and loads that on a thread of its own.

ONNX Runtime loads and optimises a graph without the GIL, which all else needs that an encoder waits for: its
tokenizer, its kernels, and in a fresh process the imports of modules, for which this one needs few.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from latebolt import memory
from latebolt.contract import Head
from latebolt.cpus import available_cpus
from latebolt.devices import Device, named
from latebolt.encoder import few_texts, model_folder
from latebolt.encoder.model import Model
from latebolt.encoder.model_folder import ModelFolder
from latebolt.encoder.session import WAYS_TO_NEED_LESS, Session
from latebolt.errors import InvalidInput, OutOfMemory
from latebolt.onnx_runtime import onnxruntime

logger = logging.getLogger(__name__)


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
    name: str | Path,
    precision: str | None,
    dim: int | None,
    devices: tuple[Device, ...],
    threads: int | None,
) -> Loading:
    """Begin to load a model.

    Args:
        name, precision, dim, threads: see `Encoder.load`.
        devices: see `devices.resolve`.
    Raises:
        ModelError: no such model, precision or head.
        InvalidInput: threads is no number of threads.
        RuntimeUnavailable: no ONNX Runtime.
        OutOfMemory: the process may not have as much memory as the model takes.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InvalidInput(f"threads should be at least 1, got {threads!r}.")
    folder = model_folder.find(name)
    head = folder.contract.head(dim)
    precision = precision or fastest(folder.contract.graphs, devices[0].is_cpu)
    if precision == "int8" and not devices[0].is_cpu:
        logger.warning(
            '%s on "%s": its int8 graph is made for CPUs, and ONNX Runtime runs most of it there, with '
            "copies to the GPU and back. Export the checkpoint with fp16, which a GPU runs (docs/gpu.md).",
            folder.name,
            named(devices),
        )
    _check_memory(folder, precision)
    if memory.is_small():
        memory.do_with_little()
    model, n_threads = Model(folder, precision, devices), threads or available_cpus()
    onnxruntime()  # whose import needs the GIL, too
    worker = ThreadPoolExecutor(1, thread_name_prefix="latebolt-load")
    graph = worker.submit(model.open, head, n_threads)
    worker.shutdown(wait=False)
    return Loading(model, head, n_threads, graph)


def fastest(precisions: Collection[str], on_cpu: bool) -> str:
    """The precision that a model runs at unless another is asked for.

    Args:
        precisions: those that it has.
    """
    order = ("int8", "fp32", "fp16") if on_cpu else ("fp16", "fp32", "int8")
    return next(name for name in order if name in precisions)


def _check_memory(folder: ModelFolder, precision: str) -> None:
    """Refuse a model for which this process can never have enough memory.

    Asked beforehand, because its tokenizer would end the process instead of raising an error.

    Raises:
        OutOfMemory: see above.
        ModelError: a file is missing.
    """
    limit = memory.ceiling()
    if limit is None:
        return
    _, graph = folder.graph_file(precision)
    n_graph = sum((folder.path / part.file).stat().st_size for part in graph.parts)
    # For a few texts there is a tokenizer that takes a fraction.
    n_tokenizer = 0 if few_texts.are_expected() else _tokenizer_bytes(folder)
    need = memory.least_bytes(n_tokenizer, n_graph)
    if need > limit:
        raise OutOfMemory(
            f'model "{folder.name}" needs at least {need / 1e6:.0f} MB, and this process may have '
            f"{limit / 1e6:.0f} MB (control group or ulimit). {WAYS_TO_NEED_LESS}"
        )


def _tokenizer_bytes(folder: ModelFolder) -> int:
    path = folder.path / "tokenizer.json"
    return path.stat().st_size if path.is_file() else 0
