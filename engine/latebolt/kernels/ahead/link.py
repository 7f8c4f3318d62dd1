"""Makes one shared library of object files, by LLVM's linker: the one that PyPI's `ziglang` brings, which
links for every platform, or the system's own.

The library asks for nothing: it names no other library, and what a kernel may call of C (memset, memcpy,
memmove) is found in the process that loads it. So no version of glibc is too old, nor is another C library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import util
from pathlib import Path

from latebolt.errors import LateboltError, RuntimeUnavailable
from latebolt.kernels import targets
from latebolt.kernels.targets import Architecture

_MACHINES: dict[Architecture, str] = {"x86_64": "elf_x86_64", "aarch64": "aarch64linux"}
_HOW = ("-shared", "--strip-all", "--hash-style=gnu", "--build-id=none", "--gc-sections")
_SAFE = ("-z", "noexecstack", "-z", "relro", "-z", "now")


def linker(architecture: Architecture) -> tuple[str, ...]:
    """The command that links for an architecture.

    Raises:
        RuntimeUnavailable: there is none.
    """
    if util.find_spec("ziglang") is not None:
        return sys.executable, "-m", "ziglang", "ld.lld"
    # GNU's links for its own machine alone, and that is what a clone builds for.
    for name in ("ld.lld",) if targets.is_foreign("portable", architecture) else ("ld.lld", "ld"):
        found = shutil.which(name)
        if found is not None:
            return (found,)
    raise RuntimeUnavailable(
        f"there is no linker for {architecture}: neither PyPI's ziglang nor an ld.lld is here. "
        "Run \"pip install 'latebolt[build]'\"."
    )


def version(architecture: Architecture) -> str:
    """What the linker says it is."""
    done = subprocess.run([*linker(architecture), "--version"], capture_output=True, text=True)
    return (done.stdout.splitlines() or ["unknown"])[0]


def link(objects: Iterable[Path], architecture: Architecture, into: Path) -> None:
    """Write the library.

    Args:
        objects: files in a folder that is ours to write in; into: where the library goes.
    Raises:
        RuntimeUnavailable: there is no linker; LateboltError: it refuses.
    """
    objects = sorted(objects)  # the same library from the same objects
    folder = into.parent
    list_ = folder / "objects.list"
    list_.write_text("".join(f'"{path}"\n' for path in objects), encoding="utf-8")
    command = [
        *linker(architecture), *_HOW, *_SAFE, "-m", _MACHINES[architecture], "-o", str(into), f"@{list_}",
    ]  # fmt: skip
    # What the linker keeps for a next time goes where all of this goes.
    kept = {name: str(folder) for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **kept})
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no word"]
        raise LateboltError(f"the linker ended with {done.returncode}: {last[0]}")
