"""What x86 CPUs say of themselves, which takes instructions that Python has no way to: code for the library,
and what is read with it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Leaf = Literal["1", "7", "7.1", "80000001"]
_LEAVES: dict[Leaf, tuple[int, int]] = {
    "1": (1, 0),
    "7": (7, 0),
    "7.1": (7, 1),
    "80000001": (0x80000001, 0),
}
_OSXSAVE = 27  # of the third register of leaf 1: there is `xgetbv`

CPUID, XGETBV = "latebolt_cpuid", "latebolt_xgetbv"
# LLVM's assembly. cpuid(out: int32 [4], leaf, subleaf); xgetbv(out: int32 [2]), register 0.
CODE = f"""
define void @{CPUID}(i64 %out, i64 %leaf, i64 %subleaf) {{
  %a = trunc i64 %leaf to i32
  %c = trunc i64 %subleaf to i32
  %r = call {{i32, i32, i32, i32}} asm sideeffect "cpuid", "={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}}"(i32 %a, i32 %c)
  %p = inttoptr i64 %out to ptr
  store {{i32, i32, i32, i32}} %r, ptr %p, align 4
  ret void
}}
define void @{XGETBV}(i64 %out) {{
  %r = call {{i32, i32}} asm sideeffect "xgetbv", "={{ax}},={{dx}},{{cx}}"(i32 0)
  %p = inttoptr i64 %out to ptr
  store {{i32, i32}} %r, ptr %p, align 4
  ret void
}}
"""  # noqa: E501


class Registers(NamedTuple):
    """leaves: of `cpuid`, registers a, b, c, d, zeros where there is no such leaf; xcr0: which registers the
    system keeps for a process, 0 where it does not say."""

    leaves: dict[Leaf, tuple[int, int, int, int]]
    xcr0: int


def read(library: Any) -> Registers:
    """The registers of this machine.

    Args:
        library: a loaded one for x86-64.
    """
    cpuid, xgetbv = _function(library[CPUID], 3), _function(library[XGETBV], 1)

    def leaf(number: int, sub: int = 0) -> tuple[int, int, int, int]:
        out = (ctypes.c_uint32 * 4)()
        cpuid(ctypes.addressof(out), number, sub)
        return out[0], out[1], out[2], out[3]

    none = (0, 0, 0, 0)
    leaves = dict.fromkeys(_LEAVES, none)
    for name, (number, sub) in _LEAVES.items():
        # Past the last one a CPU gives whatever it likes, so each range says where it ends.
        ends = leaf(number & 0x80000000)[0]
        if number <= ends and (sub == 0 or leaf(number)[0] >= sub):
            leaves[name] = leaf(number, sub)
    xcr0 = 0
    if leaves["1"][2] >> _OSXSAVE & 1:
        low = (ctypes.c_uint32 * 2)()
        xgetbv(ctypes.addressof(low))
        xcr0 = low[0]
    return Registers(leaves, xcr0)


def _function(function: Any, n_arguments: int) -> Callable[..., None]:
    function.argtypes, function.restype = [ctypes.c_int64] * n_arguments, None
    return function  # type: ignore[no-any-return]
