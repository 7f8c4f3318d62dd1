"""The instructions of `instructions` as PTX, for a device; `simulated` says what each gives.

Source: "Parallel Thread Execution ISA", NVIDIA, sections on prmt, mma and shfl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

_LETTERS = {types.uint32: "r", types.int32: "r", types.int64: "l", types.float32: "f"}
_IR: dict[Any, Any] = {
    types.uint32: ir.IntType(32),
    types.int32: ir.IntType(32),
    types.int64: ir.IntType(64),
    types.float32: ir.FloatType(),
}


def _emit(text: str, results: list[Any], arguments: list[Any], together: bool = False) -> Callable[..., Any]:
    """What numba wants of an intrinsic: its signature, and code that runs `text`.

    Args:
        together: threads exchange something, so that it may neither be moved across branches nor dropped.
    """
    gives = results[0] if len(results) == 1 else types.UniTuple(results[0], len(results))
    signature = gives(*arguments)
    letters = ",".join([*("=" + _LETTERS[each] for each in results), *(_LETTERS[each] for each in arguments)])
    outs = [_IR[each] for each in results]
    kind = outs[0] if len(outs) == 1 else ir.LiteralStructType(outs)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = ir.FunctionType(kind, [_IR[each] for each in arguments])
        found = builder.call(ir.InlineAsm(function, text, letters, side_effect=together), args)
        if len(outs) == 1:
            return found
        parts = [builder.extract_value(found, i) for i in range(len(outs))]
        return context.make_tuple(builder, gives, parts)

    return lambda: (signature, codegen)


_U, _I, _F = types.uint32, types.int32, types.float32

_WORDS = _emit("mov.b64 {$0, $1}, $2;", [_U, _U], [types.int64])
_HALVES = _emit(
    "{ .reg .b16 l, h; mov.b32 {l, h}, $2; cvt.rn.f32.s16 $0, l; cvt.rn.f32.s16 $1, h; }", [_F, _F], [_U]
)


def _steps(n: int, mask: str, shifts: list[int]) -> str:
    """PTX that looks up levels of codes: for each shift of the word those of its low, then its high half."""
    lines = ["{ .reg .b32 s, u;"]
    for i, shift in enumerate(shifts):
        lines.append(f"shr.u32 s, ${n}, {shift}; and.b32 s, s, {mask}; shr.u32 u, s, 16;")
        lines.append(f"prmt.b32 ${2 * i}, ${n + 1}, 0, s; prmt.b32 ${2 * i + 1}, ${n + 1}, 0, u;")
    return " ".join([*lines, "}"])


def _steps4() -> str:
    """The same for codes of 4 bits: two tables of eight levels; a code's highest bit says which."""
    lines = ["{ .reg .b32 s, t, m, x, y;"]
    for i in range(2):
        lines.append(f"shr.u32 s, $2, {16 * i}; and.b32 t, s, 0x8888; and.b32 s, s, 0x7777;")
        # All bits of a byte where the code's highest is set: the sign of byte 1, else byte 0.
        lines.append("shr.u32 m, t, 3; or.b32 t, t, m; prmt.b32 m, 0x8000, 0, t;")
        lines.append("prmt.b32 x, $3, $4, s; prmt.b32 y, $5, $6, s;")
        # (y and m) or (x and not m), by the table of the three
        lines.append(f"lop3.b32 ${i}, m, y, x, 0xCA;")
    return " ".join([*lines, "}"])


_FOUR = _emit(
    "{ .reg .u64 a; cvta.to.global.u64 a, $4; ld.global.nc.v4.u32 {$0, $1, $2, $3}, [a]; }",
    [_U] * 4,
    [types.int64],
)
_LEVELS = [_U] * 5
_UNPACK1 = _emit(_steps(8, "0x11111111", [0, 1, 2, 3]), [_U] * 8, _LEVELS)
_UNPACK2 = _emit(_steps(4, "0x33333333", [0, 2]), [_U] * 4, _LEVELS)
_UNPACK4 = _emit(_steps4(), [_U] * 2, _LEVELS)
_MMA = _emit(
    "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
    "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
    [_I] * 4,
    [_U] * 6 + [_I] * 4,
    together=True,
)


def _shuffles(operation: str, steps: list[int]) -> str:
    lines = ["{ .reg .f32 o; mov.f32 $0, $1;"]
    lines += [f"shfl.sync.bfly.b32 o, $0, {step}, 31, 0xFFFFFFFF; {operation} $0, $0, o;" for step in steps]
    return " ".join([*lines, "}"])


_GROUP_MAX = _emit(_shuffles("max.f32", [4, 8, 16]), [_F], [_F], together=True)
_QUAD_SUM = _emit(_shuffles("add.f32", [1, 2]), [_F], [_F], together=True)
_WARP_SUM = _emit(_shuffles("add.f32", [1, 2, 4, 8, 16]), [_F], [_F], together=True)


@intrinsic
def words(context, pair):
    return _WORDS()


@intrinsic
def four(context, words, first):  # type: ignore[no-untyped-def]
    (_, codegen), array = _FOUR(), words

    def at(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(array)(context, builder, args[0]).data
        address = builder.add(builder.ptrtoint(data, ir.IntType(64)), builder.shl(args[1], ir.IntType(64)(2)))
        return codegen(context, builder, signature, [address])

    return types.UniTuple(_U, 4)(array, types.int64), at


@intrinsic
def halves(context, word):
    return _HALVES()


@intrinsic
def unpack1(context, codes, a, b, c, d):
    return _UNPACK1()


@intrinsic
def unpack2(context, codes, a, b, c, d):
    return _UNPACK2()


@intrinsic
def unpack4(context, codes, a, b, c, d):
    return _UNPACK4()


@intrinsic
def mma(context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    return _MMA()


@intrinsic
def group_max(context, value):
    return _GROUP_MAX()


@intrinsic
def quad_sum(context, value):
    return _QUAD_SUM()


@intrinsic
def warp_sum(context, value):
    return _WARP_SUM()
