"""Chooses the instruction set the kernels run with, once a process.

`LATEBOLT_ISA` forces one, so that each can be tested on any machine that has it.
"""

from __future__ import annotations

import functools
import os

from latebolt.errors import InvalidInput
from latebolt.kernels import host, targets

_AVX2 = {"avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe"}  # what LLVM calls x86-64-v3
_AVX512 = {*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni"}

# Best first. Each entry: features the machine must have (none = any machine), in LLVM's words.
NEEDS: dict[str, frozenset[str]] = {
    "amx_int8": frozenset({*_AVX512, "amx-tile", "amx-int8"}),
    "avx512_vnni": frozenset(_AVX512),
    "avx_vnni": frozenset({*_AVX2, "avxvnni"}),
    "avx2": frozenset(_AVX2),
    "neon_dot": frozenset({"neon", "dotprod"}),
    "neon": frozenset({"neon"}),
    "portable": frozenset(),
}


def available() -> list[str]:
    """Instruction sets this machine can run, best first."""
    return [isa for isa, needs in NEEDS.items() if needs <= host.features() and _allowed(isa)]


def _allowed(isa: str) -> bool:
    """Whether the system lets this process use it; asked only where the machine has it."""
    return isa not in targets.TILED or host.tiles_allowed()


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


def in_tiles() -> bool:
    """Whether products of bytes are made in tiles, 16 document tokens with 16 of the query at once."""
    return active() in targets.TILED
