"""Turns a kernel written for numba into a C function, and keeps its machine code on disk.

numba compiles a kernel once a machine; the object code is stored in the cache folder and later
processes load it with llvmlite alone, so a warm start imports no numba (0.5 s and 60 MB less) and
calls run without the GIL. Kernels take only 64-bit integers: addresses, sizes and positions; this is
why a read-only or memory-mapped array needs no second compile.

Knows nothing of what a kernel computes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib
import logging
import os
import threading
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

from latebolt import caches
from latebolt.errors import RuntimeUnavailable
from latebolt.kernels import isa as isas
from latebolt.kernels.isa import llvm
from latebolt.kernels.shapes import N_ARGUMENTS

logger = logging.getLogger(__name__)

# The kernels' sources, files and folders: a change in any of them makes another cache folder.
_SOURCES = ("native.py", "isa.py", "shapes.py", "vector", "programs")
# Symbols a kernel's machine code may ask the process for; anything else would be numba's runtime.
_ALLOWED_SYMBOLS = {"memset", "memcpy", "memmove"}
_DIGEST = 16

# A fork waits so long for the kernel that another thread is compiling.
_FORK_WAITS_S = 60

_engines: list[Any] = []  # keeps loaded code alive
_loaded: dict[tuple[str, str], Callable[..., None]] = {}
_lock = threading.RLock()  # LLVM's JIT is not re-entrant


def cache_folder() -> Path:
    """Where object code is kept, a folder a `cache_key`; `caches` says which of it is trusted."""
    return caches.cache_folder("kernels")


@functools.cache
def _machine() -> tuple[str, str]:
    """CPU name and feature string as LLVM sees them."""
    return llvm().get_host_cpu_name(), llvm().get_host_cpu_features().flatten()


def sources() -> list[Path]:
    """The files that kernels are made from."""
    here = Path(__file__).parent
    named = [here / name for name in _SOURCES]
    return [path for each in named for path in ([each] if each.suffix else sorted(each.rglob("*.py")))]


def _numba_version() -> str:
    """By the name of the folder of metadata beside numba. To read what is in there takes 15 ms, and to import
    numba half a second."""
    spec = util.find_spec("numba")
    if spec is not None and spec.origin is not None:
        found = list(Path(spec.origin).parent.parent.glob("numba-*.dist-info"))
        if len(found) == 1:
            return found[0].name[len("numba-") : -len(".dist-info")]
    from importlib import metadata

    return metadata.version("numba")


@functools.cache
def cache_key(isa: str) -> str:
    """Names all that the machine code depends on: sources, compilers, CPU and instruction set."""
    import llvmlite

    digest = hashlib.blake2b(digest_size=12)
    for path in sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for part in (_numba_version(), llvmlite.__version__, *_machine(), isa):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


@functools.cache
def _initialise() -> None:
    llvm().initialize_native_target()
    llvm().initialize_native_asmprinter()


def target_machine(isa: str) -> Any:
    """LLVM target machine that emits no instruction beyond `isa` (the host's CPU otherwise)."""
    _initialise()
    triple, cpu, features = isas.llvm_target(isa, *_machine())
    llvm().initialize_all_targets()
    llvm().initialize_all_asmprinters()
    target = llvm().Target.from_triple(triple or llvm().get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small")


def _symbol(name: str) -> str:
    """A kernel's name in machine code and on disk."""
    return "latebolt_" + name.replace(":", "_")


def file_name(name: str) -> str:
    """What a kernel's object code is called on disk."""
    return f"{_symbol(name)}.o"


def compile_ir(name: str, isa: str) -> str:
    """Optimised LLVM IR of a kernel as numba makes it; see `_symbol` for its entry point."""
    try:
        from numba import cfunc, types
    except ImportError as error:
        raise RuntimeUnavailable(
            'numba could not be imported to compile the kernels. Run "pip install numba".'
        ) from error
    programs = importlib.import_module("latebolt.kernels.programs.build")
    function, n_arguments = programs.build(name, isa)
    signature = types.void(*[types.int64] * n_arguments)
    # `reassoc` and `contract` let float dot products vectorise; NaN and infinity stay meaningful.
    compiled = cfunc(signature, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    text = compiled.inspect_llvm().replace(compiled.native_name, _symbol(name))
    return text.replace(isas.STAND_IN, "")


def compile_object(name: str, isa: str) -> bytes:
    """Machine code of a kernel as a relocatable object file."""
    machine = target_machine(isa)
    module = llvm().parse_assembly(compile_ir(name, isa))
    module.triple = machine.triple
    module.verify()
    foreign = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    if foreign - _ALLOWED_SYMBOLS:
        raise AssertionError(f"kernel {name} needs {sorted(foreign)}; it must not call numba's runtime")
    return bytes(machine.emit_object(module))


def assembly(name: str, isa: str) -> str:
    """Assembly text of a kernel, for tests and for people who look."""
    machine = target_machine(isa)
    module = llvm().parse_assembly(compile_ir(name, isa))
    module.triple = machine.triple
    return str(machine.emit_assembly(module))


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
    """Machine code of a kernel and whether it came from the cache."""
    path = cache_folder() / cache_key(isa) / file_name(name)
    code = _read_cached(path)
    if code is not None:
        return code, True
    code = compile_object(name, isa)
    _write_cached(path, code)
    return code, False


def _load(name: str, isa: str) -> Callable[..., None]:
    code, _ = object_code(name, isa)
    _initialise()
    machine = llvm().Target.from_triple(llvm().get_process_triple()).create_target_machine(jit=True)
    engine = llvm().create_mcjit_compiler(llvm().parse_assembly(""), machine)
    engine.add_object_file(llvm().ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address = engine.get_function_address(_symbol(name))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * N_ARGUMENTS[name.partition(":")[0]])(address)


def kernel(name: str, isa: str | None = None) -> Callable[..., None]:
    """The compiled kernel as a C function over 64-bit integers; loaded once a process.

    Args:
        name: a key of `shapes.N_ARGUMENTS`, with `:...` where the kernel is compiled for a shape.
        isa: instruction set; the machine's best by default (see `isa.active`).
    """
    key = name, isa or isas.active()
    found = _loaded.get(key)  # without the lock, which another thread may hold for seconds
    if found is not None:
        return found
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(*key)
        return _loaded[key]


def get_ready() -> None:
    """Load what the first kernel of this process waits for, whichever it will be.

    For a while in which nothing else happens. What is amiss is told to whoever asks for a kernel.
    """
    with contextlib.suppress(Exception), _lock:
        _initialise()
        cache_key(isas.active())


def _before_fork() -> None:
    # A child forked in the middle of a compile would find LLVM's and numba's locks held by a thread that it
    # does not have, for ever. Bounded, for a fork that the compiling thread itself waits for.
    _fork.holds = _lock.acquire(timeout=_FORK_WAITS_S)


def _after_fork_in_parent() -> None:
    if _fork.holds:
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


_fork = threading.local()  # of the thread that forks
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
