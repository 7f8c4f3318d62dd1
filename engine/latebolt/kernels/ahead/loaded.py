"""The library of compiled kernels that this process uses, if there is one that fits.

`LATEBOLT_KERNELS` decides: "jit" leaves the library alone, "ahead" wants it and nothing else, a folder that
`python -m latebolt.kernels.build --out` wrote takes the place of the one in the package.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from latebolt.errors import InvalidInput
from latebolt.kernels import compiler
from latebolt.kernels.ahead import manifest, registers
from latebolt.kernels.ahead.manifest import Manifest, Problem
from latebolt.kernels.shapes import N_ARGUMENTS

logger = logging.getLogger(__name__)

Mode = Literal["auto", "jit", "ahead"]
# In the package, a folder a platform: a wheel has one or none, a clone those that were built in it.
PLACE = Path(__file__).parent / "built"


class Library:
    """A loaded library."""

    def __init__(self, folder: Path, about: Manifest) -> None:
        self.path = folder / manifest.LIBRARY
        self.about = about
        self._code: Any = ctypes.CDLL(str(self.path))

    def kernel(self, name: str, isa: str) -> Callable[..., None] | None:
        """A kernel as a C function over 64-bit integers; None where the library has no such shape."""
        try:
            function = self._code[compiler.symbol(name, isa)]
        except AttributeError:
            return None
        function.argtypes = [ctypes.c_int64] * N_ARGUMENTS[name.partition(":")[0]]
        function.restype = None
        return function  # type: ignore[no-any-return]

    def registers(self) -> registers.Registers:
        """What the CPU says of itself; of a library for x86-64."""
        return registers.read(self._code)


def mode() -> Mode:
    """Which of the two ways to kernels is wanted.

    Raises:
        InvalidInput: `LATEBOLT_KERNELS` is neither a way nor a folder.
    """
    return _wish()[0]


def library() -> Library | None:
    """The library of this process; None where there is none that fits, or none is wanted."""
    found = _found(_wish())
    return found if isinstance(found, Library) else None


def why_not() -> str:
    """Why there is no library, in one sentence; "" if there is one."""
    found = _found(_wish())
    return "" if isinstance(found, Library) else found.reason


def _wish() -> tuple[Mode, Path]:
    wish = os.environ.get("LATEBOLT_KERNELS", "")
    packed = PLACE / manifest.this_platform()
    if wish in ("jit", "ahead"):
        return ("jit" if wish == "jit" else "ahead"), packed
    if not wish:
        return "auto", packed
    if not Path(wish).is_dir():
        raise InvalidInput(
            'LATEBOLT_KERNELS should be "jit", "ahead" or a folder that `python -m latebolt.kernels.build` '
            f'has written, got "{wish}". Unset it to let latebolt choose.'
        )
    return "auto", Path(wish)


@functools.cache  # once a process: a library that is replaced meanwhile stays what it was
def _found(wish: tuple[Mode, Path]) -> Library | Problem:
    how, folder = wish
    if how == "jit":
        return Problem("LATEBOLT_KERNELS=jit leaves the library of kernels alone", expected=True)
    about = manifest.examine(folder)
    if isinstance(about, Manifest):
        try:
            return Library(folder, about)
        except OSError as error:
            about = Problem(f"{folder / manifest.LIBRARY} cannot be loaded: {error}")
    if not about.expected:
        logger.warning("kernels compiled ahead of time are not used: %s", about.reason)
    return about
