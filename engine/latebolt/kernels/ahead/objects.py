"""Machine code of all kernels of a platform, compiled by several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from latebolt.errors import RuntimeUnavailable
from latebolt.kernels import compiler, names, targets
from latebolt.kernels.ahead import registers
from latebolt.kernels.targets import Architecture

_AT_ONCE = 8  # kernels a task: numba's types are worked out anew for each, so little is saved by more


class Wanted(NamedTuple):
    """One kernel of a library."""

    name: str
    isa: str


def wanted(architecture: Architecture, dims: Sequence[int]) -> list[Wanted]:
    """All kernels of a platform for vectors of such widths."""
    return [
        Wanted(name, isa)
        for isa in targets.INSTRUCTION_SETS[architecture]
        for name in names.compiled_for(dims, isa)
    ]


def compile_all(
    kernels: Sequence[Wanted], architecture: Architecture, folder: Path, jobs: int
) -> Iterator[int]:
    """Write an object file for each kernel into a folder, and those that read registers; after some of them,
    how many that were.

    Raises:
        RuntimeUnavailable: numba or llvmlite is not installed, or this is an ARM that should make x86-64's.
    """
    if architecture == "x86_64":
        write_registers(folder)
    tasks = [kernels[i : i + _AT_ONCE] for i in range(0, len(kernels), _AT_ONCE)]
    if jobs == 1:
        for some in tasks:
            yield _compile(some, architecture, folder)
    else:
        # LLVM and numba are not forked: their locks and threads stay in one process.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts) as pool:
            futures = [pool.submit(_compile, some, architecture, folder) for some in tasks]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _leave_interrupts() -> None:
    """Ctrl-C is told to all processes of a terminal; the first ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _compile(kernels: Sequence[Wanted], architecture: Architecture, folder: Path) -> int:
    for name, isa in kernels:
        # A library for this machine's architecture is what this machine would compile.
        code = compiler.compile_object(name, isa, architecture)
        (folder / f"{compiler.symbol(name, isa)}.o").write_bytes(code)
    return len(kernels)


def write_registers(folder: Path) -> None:
    """Write the object file of `registers.CODE`, which every library for x86-64 has.

    Raises:
        RuntimeUnavailable: llvmlite is not installed, or this is an ARM.
    """
    if targets.host_is_arm():
        raise RuntimeUnavailable(
            "the library for x86-64 has instructions that llvmlite assembles on x86-64 alone. Build it on "
            "such a machine; that for ARM can be built on either."
        )
    machine = compiler.target_machine(targets.target_of("portable"), "x86_64")
    compiler.llvm().initialize_native_asmparser()
    module = compiler.llvm().parse_assembly(registers.CODE)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    (folder / "registers.o").write_bytes(bytes(machine.emit_object(module)))
