"""Files of installed packages that no encoding and no search reads: what a small device does without.

Finds and removes them, and nothing else; which package brings what is known here alone. They count as parts
of their packages, so an upgrade brings them back.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Packages whose wheels carry their own tests.
_TESTED: Final = ("numpy",)
# ONNX Runtime's distributions; those for CPUs and GPUs hold the same package.
_RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
# The library for C programs, a second copy of what the Python module has in it: 35 MB.
_FOR_C: Final = ("libonnxruntime.so.*", "libonnxruntime.*.dylib")


def find() -> list[Path]:
    """The files that are there, sorted."""
    return sorted({*_tests(), *_second_copies()})


def remove(files: list[Path]) -> int:
    """Remove files, and folders that are empty then; gives the bytes that are free now.

    Raises:
        OSError: the system refuses it; those before are gone.
    """
    freed = 0
    for file in files:
        size = file.stat().st_size
        file.unlink()
        freed += size
    for folder in sorted({file.parent for file in files}, key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    return freed


def _files(distribution: str) -> list[Path]:
    try:
        named = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [path for each in named if (path := Path(str(each.locate()))).is_file()]


def _tests() -> Iterator[Path]:
    for distribution in _TESTED:
        yield from (path for path in _files(distribution) if "tests" in path.parts[:-1])


def _second_copies() -> Iterator[Path]:
    for distribution in _RUNTIMES:
        files = _files(distribution)
        libraries = [path for path in files if path.parent.name == "capi" and _is_library(path)]
        for path in libraries:
            if any(path.match(pattern) for pattern in _FOR_C) and not _is_named(path, libraries):
                yield path


def _is_library(path: Path) -> bool:
    return any(suffix in (".so", ".dylib", ".pyd", ".dll") for suffix in path.suffixes)


def _is_named(library: Path, others: list[Path]) -> bool:
    """Whether another library may load this one: whoever does holds its name."""
    name = library.name.split(".")[0].encode() + b"."
    return any(name in other.read_bytes() for other in others if other != library)
