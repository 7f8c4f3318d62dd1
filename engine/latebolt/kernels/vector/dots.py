"""Dot products of two whole vectors, whose lanes are their dimensions, and sums of vectors in memory.

For rows that are many times as many as queries would fill lanes with: each product is of another pair.
"""

from __future__ import annotations

from typing import Any, Literal

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.vector.instructions import FLOAT, I8, declare, shuffle

_SUMS = 4  # running at a time: one would wait for itself


def dot(width: int, dim: int, rows: Literal["f32", "i8"]) -> Any:
    """Intrinsic `dot(values, row)` -> float32: of float32 [dim] and float32 or int8 [dim].

    Args:
        width: float32 lanes of a vector; narrower ones are taken where dim is no multiple of it.
        dim: a multiple of 4.
    """
    width, n_sums = _width(width, dim), _SUMS
    element = FLOAT if rows == "f32" else I8

    @intrinsic
    def product(typingctx: Any, values: Any, row: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(FLOAT, width)
            fma = declare(builder, f"llvm.fmuladd.v{width}f32", vector, [vector] * 3)
            sums: list[Any] = [ir.Constant(vector, [0.0] * width)] * min(n_sums, dim // width)
            for i in range(dim // width):
                a = _load(builder, args[0], FLOAT, width, i)
                b = _load(builder, args[1], element, width, i)
                if rows == "i8":
                    b = builder.sitofp(b, vector)
                sums[i % n_sums] = builder.call(fma, [a, b, sums[i % n_sums]])
            while len(sums) > 1:
                sums = [builder.fadd(*pair) if len(pair) == 2 else pair[0] for pair in _pairs(sums)]
            return _across(builder, sums[0], width)

        return types.float32(types.int64, types.int64), codegen

    return product


def add_to(width: int, dim: int) -> Any:
    """Intrinsic `add(out, values)`: out += values, float32 [dim] at both."""
    width = _width(width, dim)

    @intrinsic
    def add(typingctx: Any, out: Any, values: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            for i in range(dim // width):
                total = builder.fadd(*(_load(builder, at, FLOAT, width, i) for at in args))
                builder.store(total, _place(builder, args[0], FLOAT, width, i), align=4)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return add


def _width(width: int, dim: int) -> int:
    return next(each for each in (16, 8, 4) if each <= width and dim % each == 0)


def _place(builder: ir.IRBuilder, address: Any, element: Any, width: int, i: int) -> Any:
    pointer = builder.inttoptr(address, ir.VectorType(element, width).as_pointer())
    return builder.gep(pointer, [ir.Constant(ir.IntType(64), i)])


def _load(builder: ir.IRBuilder, address: Any, element: Any, width: int, i: int) -> Any:
    return builder.load(_place(builder, address, element, width, i), align=1 if element is I8 else 4)


def _pairs(values: list[Any]) -> list[list[Any]]:
    return [values[i : i + 2] for i in range(0, len(values), 2)]


def _across(builder: ir.IRBuilder, vector: Any, width: int) -> Any:
    """The sum of the lanes, halves upon halves."""
    while width > 1:
        width //= 2
        halves = (list(range(width)), list(range(width, 2 * width)))
        vector = builder.fadd(*(shuffle(builder, vector, vector, half) for half in halves))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
