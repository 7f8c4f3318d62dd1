"""Asks for the libraries of the `export` extra, so that a missing one is named with its pip line."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata

from latebolt.errors import RuntimeUnavailable

GRAPH_MODULES = ("onnx", "onnxruntime")
MODULES = ("torch", "safetensors")
LIBRARY_MODULES = ("transformers", "optimum.exporters.onnx")
DISTRIBUTIONS: tuple[str, ...] = ("torch", "onnx", "onnxruntime")
LIBRARY_DISTRIBUTIONS = (*DISTRIBUTIONS, "transformers", "optimum-onnx")


def need_export_libraries() -> None:
    """Load everything that reading and tracing a checkpoint uses.

    Raises:
        RuntimeUnavailable: one of them is not installed.
    """
    _need(MODULES, "exporting a checkpoint")


def need_graph_libraries() -> None:
    """Load what working on ONNX graphs uses: no torch.

    Raises:
        RuntimeUnavailable: one of them is not installed.
    """
    _need(GRAPH_MODULES, "an export")


def need_library_encoders(architecture: str) -> None:
    """Load what exports an encoder that is none of our own families.

    Raises:
        RuntimeUnavailable: one of them is not installed.
    """
    _need(LIBRARY_MODULES, f'exporting the architecture "{architecture}"', "export,optimum")


def _need(modules: Sequence[str], what: str, extra: str = "export") -> None:
    for name in modules:
        try:
            with quiet():
                importlib.import_module(name)
        except ImportError as error:
            raise RuntimeUnavailable(
                f"{what} needs {name}, which cannot be imported ({error}). "
                f"Install it with: pip install 'latebolt[{extra}]'"
            ) from error


def versions(distributions: Sequence[str] = DISTRIBUTIONS) -> dict[str, str]:
    """The installed version of each library that shapes an exported graph."""
    found = {}
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' tracer warnings and hints; errors still pass.

    They speak of torch's internals, and the parity report checks what they worry about.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
