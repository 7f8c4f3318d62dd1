"""The LLVM instructions that all vector code is made of: types, constants, a loop, another CPU's intrinsics.

Each function adds to the code that a builder is at and gives back the value.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from latebolt.kernels import targets

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT = ir.HalfType(), ir.FloatType()
LINE = 64  # bytes of a line of memory


def const(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(I64, value)


def splat(builder: ir.IRBuilder, value: Any, width: int) -> Any:
    """A vector with the value in every lane."""
    empty = ir.Constant(ir.VectorType(value.type, width), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(I32, 0))
    everywhere = ir.Constant(ir.VectorType(I32, width), [0] * width)
    return builder.shuffle_vector(first, empty, everywhere)


def shuffle(builder: ir.IRBuilder, a: Any, b: Any, order: list[int]) -> Any:
    """Lanes of two vectors, those of the second counted on from the first's."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))


def declare(builder: ir.IRBuilder, name: str, result: Any, arguments: list[Any]) -> Any:
    """The LLVM intrinsic of that name, declared once a module.

    numba makes machine code for this CPU before we get to see the IR. Another CPU's intrinsic would end the
    process there, so it goes in as a stand-in that is renamed afterwards (`compiler.compile_ir`).
    """
    if name.startswith("llvm.aarch64") and not targets.host_is_arm():
        name = targets.STAND_IN + name
        llvm.add_symbol(name, 1)  # never called; only has to be found
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def prefetch(builder: ir.IRBuilder, address: Any) -> None:
    """Ask for the line of memory at a pointer, which may be past the end of what there is."""
    pointer = builder.bitcast(address, I8.as_pointer())
    name, kinds = "llvm.prefetch.p0", [pointer.type, I32, I32, I32]
    read, keep, data = (ir.Constant(I32, value) for value in (0, 3, 1))
    builder.call(declare(builder, name, ir.VoidType(), kinds), [pointer, read, keep, data])


def loop(builder: ir.IRBuilder, count: Any, initial: list[Any], step: Any) -> list[Any]:
    """Run `step(i, state) -> state` for i in 0..count-1 (count >= 1), the state kept in registers."""
    entry = builder.block
    body, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(I64)
    i.add_incoming(const(0), entry)
    state = [builder.phi(value.type) for value in initial]
    for phi, value in zip(state, initial, strict=True):
        phi.add_incoming(value, entry)
    new: list[Any] = step(i, state)
    following = builder.add(i, const(1))
    i.add_incoming(following, builder.block)
    for phi, value in zip(state, new, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, done)
    builder.position_at_end(done)
    return new
