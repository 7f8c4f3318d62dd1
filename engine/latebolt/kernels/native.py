"""Gives kernels as C functions: from the library compiled ahead of time, else compiled on this machine.

Calls run without the GIL. Kernels take only 64-bit integers: addresses, sizes and positions. Knows nothing of
what a kernel computes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable

from latebolt.errors import RuntimeUnavailable
from latebolt.kernels import compiled, targets
from latebolt.kernels import isa as isas
from latebolt.kernels.ahead import loaded
from latebolt.kernels.shapes import N_ARGUMENTS

# A fork waits so long for the kernel that another thread is compiling.
_FORK_WAITS_S = 60

_loaded: dict[tuple[str, str], Callable[..., None]] = {}
_lock = threading.RLock()  # LLVM's JIT is not re-entrant


def kernel(name: str, isa: str | None = None) -> Callable[..., None]:
    """The compiled kernel as a C function over 64-bit integers; loaded once a process.

    Args:
        name: a key of `shapes.N_ARGUMENTS`, with `:...` where the kernel is compiled for a shape.
        isa: instruction set; the machine's best by default (see `isa.active`).
    Raises:
        RuntimeUnavailable: the library has no such shape, and numba to compile it is not installed.
    """
    key = name, targets.code_of(name, isa or isas.active())
    found = _loaded.get(key)  # without the lock, which another thread may hold for seconds
    if found is not None:
        return found
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(*key)
        return _loaded[key]


def _load(name: str, isa: str) -> Callable[..., None]:
    library = loaded.library()
    if library is not None:
        function = library.kernel(name, isa)
        if function is not None:
            return function
        dims = ", ".join(map(str, library.about.dims))
        why = f"the kernel {name} for {isa} is not in {library.path}, which has those of widths {dims}"
    else:
        why = loaded.why_not()
    if loaded.mode() == "ahead":
        raise RuntimeUnavailable(f"{why}, and LATEBOLT_KERNELS=ahead allows no other. Unset it.")
    try:
        address = compiled.load(name, isa)
    except RuntimeUnavailable as error:
        raise RuntimeUnavailable(f"{why}; {error}") from error
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * N_ARGUMENTS[name.partition(":")[0]])(address)


def describe() -> str:
    """Which way to kernels this process has, and why, in one sentence."""
    if loaded.library() is None:
        return f"compiled on this machine: {loaded.why_not()}"
    others = "no other allowed" if loaded.mode() == "ahead" else "what it lacks is compiled on this machine"
    return f"the library compiled ahead of time; {others}"


def get_ready() -> None:
    """Load what the first kernel of this process waits for, whichever it will be.

    For a while in which nothing else happens. What is amiss is told to whoever asks for a kernel.
    """
    with contextlib.suppress(Exception), _lock:
        isa = isas.active()
        if loaded.library() is None:
            compiled.get_ready(isa)


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
