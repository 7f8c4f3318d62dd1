"""LLVM vector code for the inner loops, as numba intrinsics over plain addresses.

Query tokens lie in vector lanes, so a document token's value is broadcast and no horizontal reduction
exists. A tile scores several document tokens at once: their independent accumulators hide the latency
of the multiply-add. Which loops there are and what they mean is in `programs.py`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT = ir.HalfType(), ir.FloatType()

_SCALARS = {
    "u8": (I8, types.int64, "zext"),
    "u16": (I16, types.int64, "zext"),
    "u32": (I32, types.int64, "zext"),
    "i64": (I64, types.int64, None),
    "f32": (FLOAT, types.float32, None),
}


def load_scalar(kind: str) -> Any:
    """Intrinsic `load(address)` -> int64 or float32, for kind u8, u16, u32, i64 or f32."""
    element, result, widen = _SCALARS[kind]

    @intrinsic
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            value = builder.load(builder.inttoptr(args[0], element.as_pointer()), align=1)
            return builder.zext(value, I64) if widen else value

        return result(types.int64), codegen

    return load


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


def tile_f32(width: int, vectors: int, tokens: int) -> Any:
    """Intrinsic `tile(query, document, dim, best)`: fold `tokens` document tokens into the maxima.

    query: float32 [dim][width * vectors]; document: float32 [tokens][dim]; best: float32 [width * vectors],
    best[lane] = max(best[lane], query[:, lane] . document[t]) over the tile's tokens.
    """

    @intrinsic
    def tile(typingctx: Any, query: Any, document: Any, dim: Any, best: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(FLOAT, width)
            lanes = builder.inttoptr(args[0], vector.as_pointer())
            rows = builder.inttoptr(args[1], FLOAT.as_pointer())
            dim_, best_ = args[2], builder.inttoptr(args[3], vector.as_pointer())
            fma = declare(builder, f"llvm.fmuladd.v{width}f32", vector, [vector] * 3)

            def step(d: Any, sums: list[Any]) -> list[Any]:
                base = builder.mul(d, const(vectors))
                queries = [
                    builder.load(builder.gep(lanes, [builder.add(base, const(v))]), align=4)
                    for v in range(vectors)
                ]
                new = []
                for t in range(tokens):
                    at = builder.add(d, builder.mul(const(t), dim_))
                    value = splat(builder, builder.load(builder.gep(rows, [at]), align=4), width)
                    new += [
                        builder.call(fma, [value, q, sums[t * vectors + v]]) for v, q in enumerate(queries)
                    ]
                return new

            zero = ir.Constant(vector, [0.0] * width)
            sums = loop(builder, dim_, [zero] * (tokens * vectors), step)
            fold_max(builder, best_, sums, vectors)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), codegen

    return tile


def decode_residual(per_byte: int) -> Any:
    """Intrinsic `decode(codes, table, centroid, inv_norm, out, n_bytes)`: one token vector.

    out[i] = (centroid[i] + table[codes[b]][i % per_byte]) * inv_norm, with b = i // per_byte;
    table: float32 [256][per_byte].
    """

    @intrinsic
    def decode(
        typingctx: Any, codes: Any, table: Any, centroid: Any, inv_norm: Any, out: Any, n_bytes: Any
    ) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(FLOAT, per_byte)
            codes_ = builder.inttoptr(args[0], I8.as_pointer())
            table_, centroid_, out_ = (builder.inttoptr(args[i], vector.as_pointer()) for i in (1, 2, 4))
            scale = splat(builder, args[3], per_byte)

            def step(b: Any, state: list[Any]) -> list[Any]:
                code = builder.zext(builder.load(builder.gep(codes_, [b])), I64)
                weights = builder.load(builder.gep(table_, [code]), align=4)
                centre = builder.load(builder.gep(centroid_, [b]), align=4)
                value = builder.fmul(builder.fadd(centre, weights), scale)
                builder.store(value, builder.gep(out_, [b]), align=4)
                return []

            loop(builder, args[5], [], step)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3, types.float32, types.int64, types.int64), codegen

    return decode


def widen(kind: str) -> Any:
    """Intrinsic `widen(source, scale, out, groups)`: 4 * groups values become float32 * scale.

    kind: "f16" (float16; scale is not looked at) or "i8" (int8).
    """
    element = HALF if kind == "f16" else I8

    @intrinsic
    def convert(typingctx: Any, source: Any, scale: Any, out: Any, groups: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            wide = ir.VectorType(FLOAT, 4)
            source_ = builder.inttoptr(args[0], ir.VectorType(element, 4).as_pointer())
            out_ = builder.inttoptr(args[2], wide.as_pointer())
            factor = splat(builder, args[1], 4)

            def step(g: Any, state: list[Any]) -> list[Any]:
                value = builder.load(builder.gep(source_, [g]), align=1)
                if kind == "f16":
                    value = builder.fpext(value, wide)
                else:
                    value = builder.fmul(builder.sitofp(value, wide), factor)
                builder.store(value, builder.gep(out_, [g]), align=4)
                return []

            loop(builder, args[3], [], step)
            return context.get_dummy_value()

        return types.void(types.int64, types.float32, types.int64, types.int64), codegen

    return convert


def const(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(I64, value)


def splat(builder: ir.IRBuilder, value: Any, width: int) -> Any:
    """A vector with the value in every lane."""
    empty = ir.Constant(ir.VectorType(value.type, width), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(I32, 0))
    everywhere = ir.Constant(ir.VectorType(I32, width), [0] * width)
    return builder.shuffle_vector(first, empty, everywhere)


def declare(builder: ir.IRBuilder, name: str, result: Any, arguments: list[Any]) -> Any:
    """The LLVM intrinsic of that name, declared once a module."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


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
    new = step(i, state)
    following = builder.add(i, const(1))
    i.add_incoming(following, builder.block)
    for phi, value in zip(state, new, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, done)
    builder.position_at_end(done)
    return new


def fold_max(builder: ir.IRBuilder, best: Any, sums: list[Any], vectors: int) -> None:
    """best[v] = max(best[v], sums of every token's vector v)."""
    for v in range(vectors):
        slot = builder.gep(best, [const(v)])
        top = builder.load(slot, align=4)
        for value in sums[v::vectors]:
            top = builder.select(builder.fcmp_ordered(">", value, top), value, top)
        builder.store(top, slot, align=4)
