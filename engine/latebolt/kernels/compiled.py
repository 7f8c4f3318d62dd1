"""Kernels that are compiled on this machine: machine code is kept on disk and loaded with LLVM.

numba compiles a kernel once a machine; the object code is stored in the cache folder and later processes load
it with llvmlite alone, so a warm start imports no numba (0.5 s and 60 MB less).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import sys
from importlib import util
from pathlib import Path
from typing import Any

from latebolt import caches
from latebolt.kernels import compiler
from latebolt.kernels.compiler import llvm

logger = logging.getLogger(__name__)

_DIGEST = 16

_engines: list[Any] = []  # keeps loaded code alive


def cache_folder() -> Path:
    """Where object code is kept, a folder a `cache_key`; `caches` says which of it is trusted."""
    return caches.cache_folder("kernels")


def _numba_version() -> str:
    """By the name of the folder of metadata beside numba. To read what is in there takes 15 ms, and to import
    numba half a second."""
    spec = util.find_spec("numba")
    if spec is not None and spec.origin is not None:
        found = list(Path(spec.origin).parent.parent.glob("numba-*.dist-info"))
        if len(found) == 1:
            return found[0].name[len("numba-") : -len(".dist-info")]
    from importlib import metadata

    try:
        return metadata.version("numba")
    except metadata.PackageNotFoundError:
        return "none"  # what was compiled with one is not found, and compiling says what is missing


@functools.cache
def cache_key(isa: str) -> str:
    """Names all that the machine code depends on: sources, compilers, kind of machine and instruction set."""
    llvm()
    import llvmlite

    machine = f"{sys.platform} {platform.machine()}"
    return compiler.digest_of_sources((_numba_version(), llvmlite.__version__, machine, isa))


def place(name: str, isa: str) -> Path:
    """Where a kernel's object code is kept."""
    return cache_folder() / cache_key(isa) / f"{compiler.symbol(name, isa)}.o"


def _read_cached(path: Path) -> bytes | None:
    """Object code kept at `path`; None when there is none, others could have written it, or it is damaged."""
    stored = caches.read(path)
    if stored is None:
        return None
    code = stored[_DIGEST:]
    # Damaged machine code would crash the process, so it is never loaded unchecked.
    if hashlib.blake2b(code, digest_size=_DIGEST).digest() != stored[:_DIGEST]:
        logger.warning("%s is damaged; compiling the kernel again", path)
        return None
    return code


def _write_cached(path: Path, code: bytes) -> None:
    """Keep object code; a folder that cannot be written only costs the next process a compile."""
    try:
        caches.write(path, hashlib.blake2b(code, digest_size=_DIGEST).digest() + code)
    except OSError as error:
        _tell_not_kept(cache_folder(), error.strerror or str(error))


@functools.cache  # once a process and folder: what hinders one kernel hinders all
def _tell_not_kept(folder: Path, why: str) -> None:
    logger.info(
        "kernels cannot be kept in %s (%s), and are compiled at each start. Name a folder that can be "
        "written in LATEBOLT_CACHE.",
        folder,
        why,
    )


def object_code(name: str, isa: str) -> tuple[bytes, bool]:
    """Machine code of a kernel and whether it came from the cache.

    Raises:
        RuntimeUnavailable: it would have to be compiled, and numba or llvmlite is not installed.
    """
    path = place(name, isa)
    code = _read_cached(path)
    if code is not None:
        return code, True
    code = compiler.compile_object(name, isa)
    _write_cached(path, code)
    return code, False


def load(name: str, isa: str) -> int:
    """The address of a kernel in this process, which keeps it.

    Raises:
        RuntimeUnavailable: it would have to be compiled, and numba or llvmlite is not installed.
    """
    code, _ = object_code(name, isa)
    compiler.initialise()
    machine = llvm().Target.from_triple(llvm().get_process_triple()).create_target_machine(jit=True)
    # Code and constants in one piece: where large files are mapped, as indexes are, the system may put them
    # more than 2 GB apart, for which LLVM would end the process.
    engine = llvm().create_mcjit_compiler(llvm().parse_assembly(""), machine, use_lmm=True)
    engine.add_object_file(llvm().ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(compiler.symbol(name, isa)))


def get_ready(isa: str) -> None:
    """Load what the first kernel waits for, whichever it will be."""
    compiler.initialise()
    cache_key(isa)
