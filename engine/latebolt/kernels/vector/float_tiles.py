"""Tiles of float32: dot products of some document tokens with the query's lanes, kept or folded into maxima.

Used for float32 and widened float16 vectors, and for a query's products with centroids.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.vector.instructions import FLOAT, LINE, const, declare, loop, prefetch, splat
from latebolt.kernels.vector.maxima import fold_max


def tile_f32(width: int, vectors: int, tokens: int) -> Any:
    """Intrinsic `tile(query, document, dim, best)`: fold `tokens` document tokens into the maxima.

    query: float32 [dim][width * vectors]; document: float32 [tokens][dim]; best: float32 [width * vectors],
    best[lane] = max(best[lane], query[:, lane] . document[t]) over the tile's tokens.
    """

    @intrinsic
    def tile(typingctx: Any, query: Any, document: Any, dim: Any, best: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(FLOAT, width)
            sums = float_sums(builder, args, width, vectors, tokens)
            fold_max(builder, builder.inttoptr(args[3], vector.as_pointer()), sums, vectors)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), codegen

    return tile


def products_f32(width: int, vectors: int, tokens: int, dim: int) -> Any:
    """Intrinsic `products(query, rows, out, stride)`: the dot products a tile would fold.

    query: float32 [dim][width * vectors]; rows: float32 [tokens][dim]; out[t * stride + lane], in float32.
    """

    @intrinsic
    def products(typingctx: Any, query: Any, rows: Any, out: Any, stride: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            sums = float_sums(builder, [*args[:2], const(dim)], width, vectors, tokens, tokens * dim)
            vector = ir.VectorType(FLOAT, width)
            for t in range(tokens):
                row = builder.add(args[2], builder.mul(args[3], const(4 * t)))
                slot = builder.inttoptr(row, vector.as_pointer())
                for v in range(vectors):
                    builder.store(sums[t * vectors + v], builder.gep(slot, [const(v)]), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return products


def float_sums(
    builder: ir.IRBuilder, args: Any, width: int, vectors: int, tokens: int, ahead: int = 0
) -> list[Any]:
    """Dot products of `tokens` rows with the query lanes; args: query, rows, dim (see `tile_f32`).

    ahead: fetch a line so many numbers ahead of the rows in every step; 0 fetches none.
    """
    vector = ir.VectorType(FLOAT, width)
    lanes = builder.inttoptr(args[0], vector.as_pointer())
    rows, dim = builder.inttoptr(args[1], FLOAT.as_pointer()), args[2]
    fma = declare(builder, f"llvm.fmuladd.v{width}f32", vector, [vector] * 3)

    def step(d: Any, sums: list[Any]) -> list[Any]:
        base = builder.mul(d, const(vectors))
        queries = [
            builder.load(builder.gep(lanes, [builder.add(base, const(v))]), align=4) for v in range(vectors)
        ]
        if ahead:
            place = builder.add(builder.mul(d, const(LINE // 4)), const(ahead))
            prefetch(builder, builder.gep(rows, [place]))
        new = []
        for t in range(tokens):
            at = builder.add(d, builder.mul(const(t), dim))
            value = splat(builder, builder.load(builder.gep(rows, [at]), align=4), width)
            new += [builder.call(fma, [value, q, sums[t * vectors + v]]) for v, q in enumerate(queries)]
        return new

    zero = ir.Constant(vector, [0.0] * width)
    return loop(builder, dim, [zero] * (tokens * vectors), step)
