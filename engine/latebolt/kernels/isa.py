"""Chooses the instruction set the kernels are compiled for, once a process.

`LATEBOLT_ISA` forces one, so that each can be tested on any machine that has it. Knows only names,
vector widths and LLVM's way of naming targets.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from latebolt.errors import InvalidInput

# Best first. Each entry: features LLVM must report on the host (none = any machine).
NEEDS: dict[str, frozenset[str]] = {
    "avx512_vnni": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"}),
    "avx_vnni": frozenset({"avx2", "fma", "avxvnni"}),
    "avx2": frozenset({"avx2", "fma"}),
    "neon_dot": frozenset({"neon", "dotprod"}),
    "portable": frozenset(),
}
# float32 lanes of one vector register
WIDTH = {"avx512_vnni": 16, "avx_vnni": 8, "avx2": 8, "neon_dot": 4, "portable": 4}


STAND_IN = "latebolt.stand.in."  # in front of another CPU's intrinsics; see vector.instructions.declare


@functools.cache
def llvm() -> Any:
    """LLVM by llvmlite, imported with its first use: that takes 20 ms, and much of what reads an index has no
    kernel to load."""
    import llvmlite.binding

    return llvmlite.binding


def host_is_arm() -> bool:
    """Whether this machine is a 64-bit ARM."""
    return str(llvm().get_process_triple()).startswith(("aarch64", "arm64"))


@functools.cache
def host_features() -> frozenset[str]:
    """Features LLVM reports for this machine."""
    return frozenset(name for name, present in llvm().get_host_cpu_features().items() if present)


def available() -> list[str]:
    """Instruction sets this machine can run, best first."""
    return [isa for isa, needs in NEEDS.items() if needs <= host_features()]


@functools.cache
def active() -> str:
    """The instruction set in use: `LATEBOLT_ISA`, else the best available.

    Raises:
        InvalidInput: the forced one is unknown or this machine does not have it.
    """
    forced = os.environ.get("LATEBOLT_ISA", "")
    if not forced:
        return available()[0]
    if forced not in available():
        raise InvalidInput(
            f'LATEBOLT_ISA should be one of {", ".join(available())} on this machine, got "{forced}". '
            "Unset it to let latebolt choose."
        )
    return forced


def llvm_target(isa: str, host_cpu: str, host_features: str) -> tuple[str, str, str]:
    """(triple or "" for the host's, cpu, features) for LLVM's code generator.

    `prefer-256-bit` is switched off where 512-bit kernels are asked for: some CPUs' tuning would split
    every register of the tile in two.
    """
    if isa == "avx512_vnni":
        return "", host_cpu, host_features + ",-prefer-256-bit"
    if isa == "avx_vnni":
        return "", "x86-64-v3", "+avxvnni"
    if isa == "avx2":
        return "", "x86-64-v3", ""
    if isa == "neon_dot":
        # Elsewhere than on ARM this only serves to look at the code that would run there.
        triple = "" if host_is_arm() else "aarch64-unknown-linux-gnu"
        return triple, "generic", "+neon,+dotprod"
    return "", "", ""
