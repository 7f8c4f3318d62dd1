"""What stands beside a library of compiled kernels, and whether the library is the one that belongs here.

A library that was made from other sources, for another platform, or that is damaged must never run: its
kernels would be called with other arguments than they take, or crash the process.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from latebolt.kernels import compiler

VERSION: Final = 1
MANIFEST, LIBRARY = "kernels.json", "kernels.so"
_AGAIN = "Build it again with `python -m latebolt.kernels.build`."


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of one library: from which sources, with which compilers, for what."""

    version: int
    platform: str  # as `this_platform`
    sources: str  # `sources_digest`
    library: str  # `digest` of the file
    size: int  # bytes
    dims: tuple[int, ...]  # widths of vectors that it has all kernels for
    instruction_sets: tuple[str, ...]
    kernels: int  # how many there are
    made_with: dict[str, str]  # numba, llvmlite, the linker


class Problem(NamedTuple):
    """Why a library is not used, in one sentence; `expected` where there simply is none."""

    reason: str
    expected: bool = False


def this_platform() -> str:
    """Name of this machine's platform, as libraries and their folders are called."""
    return f"{sys.platform}-{platform.machine().lower()}"


def sources_digest() -> str:
    """Of the sources kernels are made from, arguments of each among them."""
    return compiler.digest_of_sources()


def digest(content: bytes) -> str:
    """Of a library's bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def examine(folder: Path) -> Manifest | Problem:
    """The manifest of the library in a folder, or why it must not be loaded."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Problem(f"{folder} has no library of compiled kernels", expected=True)
    except OSError as error:
        return Problem(f"{path} cannot be read: {error.strerror}")
    try:
        found = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        return Problem(f"{path} is no manifest of version {VERSION}: {error}. {_AGAIN}")
    if found.version != VERSION:
        return Problem(f"{path} is of version {found.version}, not {VERSION}. {_AGAIN}")
    if found.platform != this_platform():
        return Problem(f"{folder / LIBRARY} is for {found.platform}, not {this_platform()}")
    if found.sources != sources_digest():
        return Problem(f"{folder / LIBRARY} was made from other sources of the kernels. {_AGAIN}")
    try:
        content = (folder / LIBRARY).read_bytes()
    except OSError as error:
        return Problem(f"{folder / LIBRARY} cannot be read: {error.strerror}. {_AGAIN}")
    if len(content) != found.size or digest(content) != found.library:
        return Problem(f"{folder / LIBRARY} is damaged: its bytes are not those of {MANIFEST}. {_AGAIN}")
    return found
