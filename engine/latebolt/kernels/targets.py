"""The instruction sets kernels are written for: their names, vector widths and LLVM's way of naming them.

What a kernel is compiled for depends on nothing but the instruction set and the architecture, never on the
machine that compiles: the same machine code everywhere, whether it was made ahead of time or here.
"""

from __future__ import annotations

import platform
from typing import Literal, NamedTuple

Architecture = Literal["x86_64", "aarch64"]

# Best first.
INSTRUCTION_SETS: dict[Architecture, tuple[str, ...]] = {
    "x86_64": ("amx_int8", "avx512_vnni", "avx_vnni", "avx2", "portable"),
    "aarch64": ("neon_dot", "neon", "portable"),
}
# float32 lanes of one vector register
WIDTH = {
    "amx_int8": 16,
    "avx512_vnni": 16,
    "avx_vnni": 8,
    "avx2": 8,
    "neon_dot": 4,
    "neon": 4,
    "portable": 4,
}
# AMX multiplies bytes, 16 rows with 16 at once, and does nothing else: what takes other instructions is the
# code for AVX-512. Instruction sets like that and the others, and families of kernels with code of their own.
TILED: dict[str, str] = {"amx_int8": "avx512_vnni"}
_IN_TILES = ("maxsim_bytes", "maxsim_residual", "nearest_centroid")
STAND_IN = "latebolt.stand.in."  # in front of another CPU's intrinsics; see vector.instructions.declare


class Target(NamedTuple):
    """Code generator: its CPU and features in LLVM's words."""

    cpu: str
    features: str


# Some CPUs' tuning would split every register of the tile in two, so it is told not to prefer 256 bits.
_TARGETS = {
    "amx_int8": Target("x86-64-v4", "+avx512vnni,+amx-tile,+amx-int8,-prefer-256-bit"),
    "avx512_vnni": Target("x86-64-v4", "+avx512vnni,-prefer-256-bit"),
    "avx_vnni": Target("x86-64-v3", "+avxvnni"),
    "avx2": Target("x86-64-v3", ""),
    "neon_dot": Target("generic", "+neon,+dotprod"),
    "neon": Target("generic", "+neon"),
    "portable": Target("generic", ""),
}

# numba only ever compiles for the architecture it runs on. Of code for another it makes what a CPU of this
# one with registers as wide would run: x86-64 with conversions of float16, which would else be calls.
FOREIGN = Target("x86-64", "+f16c,+prefer-128-bit")


def host_is_arm() -> bool:
    """Whether this machine is a 64-bit ARM."""
    return platform.machine().lower() in ("aarch64", "arm64")


def target_of(isa: str) -> Target:
    """What LLVM is told to make code for."""
    return _TARGETS[isa]


def code_of(name: str, isa: str) -> str:
    """The instruction set that a kernel is compiled for where `isa` is in use."""
    return isa if name.partition(":")[0] in _IN_TILES else TILED.get(isa, isa)


def architecture_of(isa: str) -> Architecture | None:
    """The architecture that an instruction set belongs to; None for one that all have."""
    [first, *others] = [each for each, sets in INSTRUCTION_SETS.items() if isa in sets]
    return None if others else first


def is_foreign(isa: str, architecture: Architecture | None = None) -> bool:
    """Whether this machine is of another architecture than the code is for (None: its own, where it can)."""
    wanted = architecture or architecture_of(isa)
    return wanted is not None and (wanted == "aarch64") != host_is_arm()
