"""What the CPU of this machine can do and its system allows, in LLVM's words.

On Linux on ARM the system says it to each process. On x86-64 the library of compiled kernels reads the CPU's
registers where there is one; else LLVM is asked, which is there to compile.
"""

from __future__ import annotations

import ctypes
import functools

from latebolt import system
from latebolt.errors import RuntimeUnavailable
from latebolt.kernels import compiler, targets
from latebolt.kernels.ahead import loaded
from latebolt.kernels.ahead.registers import Leaf, Registers

# AT_HWCAP of Linux on ARM (asm/hwcap.h): bits of what it has.
_AT_HWCAP = 16
_ARM = {"neon": 1, "dotprod": 20}

# Where x86 says what it has: leaf of `cpuid`, register, bit; Intel's and AMD's manuals have the same.
_ALWAYS: dict[str, tuple[Leaf, int, int]] = {
    "bmi": ("7", 1, 3),
    "bmi2": ("7", 1, 8),
    "lzcnt": ("80000001", 2, 5),
    "movbe": ("1", 2, 22),
}
_WITH_AVX: dict[str, tuple[Leaf, int, int]] = {
    "fma": ("1", 2, 12),
    "f16c": ("1", 2, 29),
    "avx2": ("7", 1, 5),
    "avxvnni": ("7.1", 0, 4),
}
_WITH_AVX512: dict[str, tuple[Leaf, int, int]] = {
    "avx512f": ("7", 1, 16),
    "avx512dq": ("7", 1, 17),
    "avx512cd": ("7", 1, 28),
    "avx512bw": ("7", 1, 30),
    "avx512vl": ("7", 1, 31),
    "avx512vnni": ("7", 2, 11),
}
_WITH_TILES: dict[str, tuple[Leaf, int, int]] = {"amx-tile": ("7", 3, 24), "amx-int8": ("7", 3, 25)}
_OSXSAVE: tuple[Leaf, int, int] = ("1", 2, 27)
_AVX: tuple[Leaf, int, int] = ("1", 2, 28)
_YMM, _ZMM, _TILES = 0x6, 0xE0, 0x60000  # of XCR0: what of the wide registers the system keeps for a process


@functools.cache
def features() -> frozenset[str]:
    """Features of this machine: of x86-64 and 64-bit ARM those that kernels need, or all that LLVM knows.

    Raises:
        RuntimeUnavailable: LLVM would have to say, and llvmlite is not installed.
    """
    capabilities = _auxiliary(_AT_HWCAP) if targets.host_is_arm() else None
    if capabilities is not None:
        # Not LLVM: it reads /proc/cpuinfo, and the dot product is not among the words it knows there.
        return arm_features(capabilities)
    library = loaded.library()
    if library is None:
        try:
            return llvm_features()
        except RuntimeUnavailable as error:
            raise RuntimeUnavailable(f"{loaded.why_not()}; {error}") from error
    return x86_features(library.registers())


def llvm_features() -> frozenset[str]:
    """Features LLVM reports for this machine."""
    return frozenset(name for name, present in compiler.llvm().get_host_cpu_features().items() if present)


def arm_features(capabilities: int) -> frozenset[str]:
    """What a word of Linux's AT_HWCAP says."""
    return frozenset(name for name, bit in _ARM.items() if capabilities >> bit & 1)


def x86_features(registers: Registers) -> frozenset[str]:
    """What `cpuid` says, of wide registers only if the system keeps them for each process."""

    def has(place: tuple[Leaf, int, int]) -> bool:
        leaf, register, bit = place
        return bool(registers.leaves[leaf][register] >> bit & 1)

    found = {name for name, place in _ALWAYS.items() if has(place)}
    if has(_OSXSAVE) and has(_AVX) and registers.xcr0 & _YMM == _YMM:
        found |= {name for name, place in _WITH_AVX.items() if has(place)}
        if registers.xcr0 & _ZMM == _ZMM:
            found |= {name for name, place in _WITH_AVX512.items() if has(place)}
        if registers.xcr0 & _TILES == _TILES:
            found |= {name for name, place in _WITH_TILES.items() if has(place)}
    return frozenset(found)


@functools.cache  # once a process: its threads and the processes that it forks have the permission, too
def tiles_allowed() -> bool:
    """Whether the system keeps AMX's tiles for this process; see `system.keep_tiles`, which asks it."""
    return system.keep_tiles()


def _auxiliary(kind: int) -> int | None:
    """A word that Linux gives every process; None on other systems."""
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (AttributeError, TypeError, OSError):
        return None
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return int(getauxval(kind))
