"""Compiles a kernel that is written for numba into an object file.

Kernels take only 64-bit integers: addresses, sizes and positions; this is why a read-only or memory-mapped
array needs no second compile, and why the machine code needs nothing of numba where it runs. Knows nothing
of what a kernel computes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latebolt import garbage
from latebolt.errors import RuntimeUnavailable
from latebolt.kernels import targets
from latebolt.kernels.targets import Architecture, Target

# The kernels' sources, files and folders: a change in any of them makes other machine code.
_SOURCES = ("compiler.py", "targets.py", "shapes.py", "vector", "programs")
# Symbols a kernel's machine code may ask the process for; anything else would be numba's runtime.
ALLOWED_SYMBOLS = frozenset({"memset", "memcpy", "memmove"})
_MISSING = "{} cannot be imported, and kernels are compiled with it. Run \"pip install 'latebolt[jit]'\"."


@functools.cache
def llvm() -> Any:
    """LLVM by llvmlite, imported with its first use: that takes 20 ms.

    Raises:
        RuntimeUnavailable: llvmlite is not installed.
    """
    try:
        import llvmlite.binding
    except ImportError as error:
        raise RuntimeUnavailable(_MISSING.format("llvmlite")) from error
    return llvmlite.binding


def sources() -> list[Path]:
    """The files that kernels are made from."""
    here = Path(__file__).parent
    named = [here / name for name in _SOURCES]
    return [path for each in named for path in ([each] if each.suffix else sorted(each.rglob("*.py")))]


def digest_of_sources(others: Iterable[str] = ()) -> str:
    """Names what kernels are made from, and whatever else they are made by."""
    digest = hashlib.blake2b(digest_size=12)
    for path in sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for part in others:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def symbol(name: str, isa: str) -> str:
    """A kernel's name in machine code."""
    return f"latebolt_{isa}_{name.replace(':', '_')}"


@functools.cache
def initialise() -> None:
    """Make LLVM ready to generate code for any machine, and to run this one's."""
    llvm().initialize_native_target()
    llvm().initialize_native_asmprinter()
    llvm().initialize_all_targets()
    llvm().initialize_all_asmprinters()


def target_machine(target: Target, architecture: Architecture | None = None) -> Any:
    """LLVM's code generator; for Linux on an architecture, or None for this machine."""
    initialise()
    triple = f"{architecture}-unknown-linux-gnu" if architecture else llvm().get_process_triple()
    return (llvm().Target.from_triple(triple)).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


@functools.cache
def _numba_target(target: Target) -> Any:
    """numba's compiler for that CPU. Its own is for this machine's, and would unroll and vectorise loops so
    that sums of floats differ from one machine to the next in their last bits."""
    from numba.core import registry
    from numba.core.compiler_lock import global_compiler_lock

    config: Any = importlib.import_module("numba.core.config")  # its names are made at run time
    made = registry.CPUTarget("cpu")
    with global_compiler_lock:
        kept = config.CPU_NAME, config.CPU_FEATURES
        try:
            # What NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say, and only asked when a context is made.
            config.CPU_NAME, config.CPU_FEATURES = target
            _ = made.target_context
        finally:
            config.CPU_NAME, config.CPU_FEATURES = kept
    return made


def compile_ir(name: str, isa: str, architecture: Architecture | None = None) -> str:
    """Optimised LLVM IR of a kernel as numba makes it; see `symbol` for its entry point.

    Raises:
        RuntimeUnavailable: numba is not installed.
    """
    try:
        from numba import types
        from numba.core.ccallback import CFunc
        from numba.core.sigutils import normalize_signature
    except ImportError as error:
        raise RuntimeUnavailable(_MISSING.format("numba")) from error
    programs = importlib.import_module("latebolt.kernels.programs.build")
    function, n_arguments = programs.build(name, isa)
    foreign = targets.is_foreign(isa, architecture)
    target = targets.FOREIGN if foreign else targets.target_of(isa)

    class Kernel(CFunc):
        _targetdescr = _numba_target(target)

    # `reassoc` and `contract` let float dot products vectorise; NaN and infinity stay meaningful.
    options = {"error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    signature = normalize_signature(types.void(*[types.int64] * n_arguments))
    compiled = Kernel(function, signature, locals={}, options=options)
    # numba makes objects by the hundred thousand: to look through them is an eighth of a compile.
    with garbage.none_collected():
        compiled.compile()
    text = compiled.inspect_llvm().replace(compiled.native_name, symbol(name, isa))
    return str(text).replace(targets.STAND_IN, "")


def _module(name: str, isa: str, architecture: Architecture | None) -> tuple[Any, Any]:
    """(a kernel's checked LLVM module, the code generator for it); its entry point is all that shows."""
    if architecture is None and targets.is_foreign(isa):
        architecture = targets.architecture_of(isa)
    machine = target_machine(targets.target_of(isa), architecture)
    module = llvm().parse_assembly(compile_ir(name, isa, architecture))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    for i, each in enumerate((*module.functions, *module.global_variables)):
        if not each.is_declaration and each.name != symbol(name, isa):
            # numba's names count what it has compiled before: without them a kernel is always the same bytes.
            each.linkage, each.name = "internal", f"latebolt.inner.{i}"
    module.verify()
    return module, machine


def compile_object(name: str, isa: str, architecture: Architecture | None = None) -> bytes:
    """Machine code of a kernel as a relocatable object file.

    Args:
        name: see `native.kernel`; isa: one of `targets.INSTRUCTION_SETS`.
        architecture: for Linux on it; None for this machine.
    Raises:
        RuntimeUnavailable: numba or llvmlite is not installed.
    """
    module, machine = _module(name, isa, architecture)
    foreign = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    if foreign - ALLOWED_SYMBOLS:
        raise AssertionError(f"kernel {name} needs {sorted(foreign)}; it must not call numba's runtime")
    return bytes(machine.emit_object(module))


def assembly(name: str, isa: str, architecture: Architecture | None = None) -> str:
    """Assembly text of a kernel, for tests and for people who look."""
    module, machine = _module(name, isa, architecture)
    return str(machine.emit_assembly(module))
