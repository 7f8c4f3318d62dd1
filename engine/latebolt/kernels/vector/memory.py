"""Loads, stores, fills and prefetches at an address: what programs do with memory outside the vector loops.

A program takes only addresses, so numba's arrays and their checks are never in the way.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.vector.instructions import FLOAT, I8, I16, I32, I64, const, prefetch, splat

_SCALARS = {
    "u8": (I8, types.int64, "zext"),
    "u16": (I16, types.int64, "zext"),
    "u32": (I32, types.int64, "zext"),
    "i32": (I32, types.int64, "sext"),
    "i64": (I64, types.int64, None),
    "f32": (FLOAT, types.float32, None),
}


def load_scalar(kind: str) -> Any:
    """Intrinsic `load(address)` -> int64 or float32, for kind u8, u16, u32, i32, i64 or f32."""
    element, result, widen = _SCALARS[kind]

    @intrinsic
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            value = builder.load(builder.inttoptr(args[0], element.as_pointer()), align=1)
            return getattr(builder, widen)(value, I64) if widen else value

        return result(types.int64), codegen

    return load


def store_integer(kind: str) -> Any:
    """Intrinsic `store(address, value)`: the lowest bits of one int64, for kind u8, u32 or i64."""
    element, _, widens = _SCALARS[kind]

    @intrinsic
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            stored = builder.trunc(args[1], element) if widens else args[1]
            builder.store(stored, builder.inttoptr(args[0], element.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return store


@intrinsic
def store_f32(typingctx: Any, address: Any, value: Any) -> Any:
    """`store_f32(address, value)`: one float32."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], FLOAT.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), codegen


def fill_f32(width: int, vectors: int) -> Any:
    """Intrinsic `fill(address, value)`: width * vectors float32 of the same value."""

    @intrinsic
    def fill(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            base = builder.inttoptr(args[0], ir.VectorType(FLOAT, width).as_pointer())
            for v in range(vectors):
                builder.store(splat(builder, args[1], width), builder.gep(base, [const(v)]), align=4)
            return context.get_dummy_value()

        return types.void(types.int64, types.float32), codegen

    return fill


@intrinsic
def fetch(typingctx: Any, address: Any) -> Any:
    """Intrinsic `fetch(address)`: see `instructions.prefetch`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        prefetch(builder, builder.inttoptr(args[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen
