"""Conversions of numbers: float16 to float32, dot products to bytes, and square roots as instructions.

float16 is widened by the CPU's instruction where there is one, else by moving bits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.vector.instructions import FLOAT, HALF, I8, I16, I32, declare, loop, splat


@intrinsic
def sqrt_f32(typingctx: Any, value: Any) -> Any:
    """`sqrt_f32(value)`: float32, as an instruction; NumPy's under numba would call the C library."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.call(declare(builder, "llvm.sqrt.f32", FLOAT, [FLOAT]), args)

    return types.float32(types.float32), codegen


def to_bytes(width: int) -> Any:
    """Intrinsic `to_bytes(values, least, scales, out)`: uint8 (value - least) * scale of `width` floats."""

    @intrinsic
    def convert(typingctx: Any, values: Any, least: Any, scales: Any, out: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            floats = ir.VectorType(FLOAT, width)
            values_, scales_ = (
                builder.load(builder.inttoptr(args[i], floats.as_pointer()), align=4) for i in (0, 2)
            )
            scaled = builder.fmul(builder.fsub(values_, splat(builder, args[1], width)), scales_)
            bytes_ = builder.trunc(
                builder.fptosi(scaled, ir.VectorType(I32, width)), ir.VectorType(I8, width)
            )
            builder.store(bytes_, builder.inttoptr(args[3], bytes_.type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.float32, types.int64, types.int64), codegen

    return convert


def widen_f16(isa: str) -> Any:
    """Intrinsic `widen(source, out, groups)`: 4 * groups float16 values become float32."""

    @intrinsic
    def widen(typingctx: Any, source: Any, out: Any, groups: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            source_ = builder.inttoptr(args[0], ir.VectorType(HALF, 4).as_pointer())
            out_ = builder.inttoptr(args[1], ir.VectorType(FLOAT, 4).as_pointer())

            def step(g: Any, state: list[Any]) -> list[Any]:
                value = builder.load(builder.gep(source_, [g]), align=2)
                builder.store(half_to_float(builder, value, 4, isa), builder.gep(out_, [g]), align=4)
                return []

            loop(builder, args[2], [], step)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), codegen

    return widen


def half_to_float(builder: ir.IRBuilder, value: Any, width: int, isa: str) -> Any:
    """float16 lanes as float32; finite values only where the CPU has no instruction for it."""
    if isa != "portable":
        return builder.fpext(value, ir.VectorType(FLOAT, width))
    # Without the instruction LLVM would call a C function that this process may not have. The exponent
    # is moved to float32's place and its bias (127 - 15 = 112) put right by a multiplication.
    ints, floats = ir.VectorType(I32, width), ir.VectorType(FLOAT, width)

    def all_lanes(number: int) -> ir.Constant:
        return ir.Constant(ints, [number] * width)

    bits = builder.zext(builder.bitcast(value, ir.VectorType(I16, width)), ints)
    magnitude = builder.shl(builder.and_(bits, all_lanes(0x7FFF)), all_lanes(13))
    scaled = builder.fmul(builder.bitcast(magnitude, floats), ir.Constant(floats, [2.0**112] * width))
    sign = builder.shl(builder.and_(bits, all_lanes(0x8000)), all_lanes(16))
    return builder.bitcast(builder.or_(builder.bitcast(scaled, ints), sign), floats)
