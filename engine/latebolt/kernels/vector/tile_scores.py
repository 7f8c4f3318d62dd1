"""What AMX's sums end in: scores, folded into maxima of each query token, or the number of the best row.

Sums are int32 [16][16 * vectors], as `tiles.products` leaves them. Scores are made by the same steps as in
`byte_tiles`, so both give the same floats.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.shapes import TILE_ROWS
from latebolt.kernels.vector.instructions import FLOAT, I8, I32, I64, const, declare, loop, splat

WIDTH = 16  # lanes of a row of sums
_INTS, _FLOATS = ir.VectorType(I32, WIDTH), ir.VectorType(FLOAT, WIDTH)


def fold_codes(vectors: int) -> Any:
    """Intrinsic `fold(sums, scales, rows, norms, factors, count, best)` over `count` >= 1 tokens.

    scales float32 [16 * vectors]; rows: int64 [count], addresses of float32 [16 * vectors]; norms: u8
    [count], rows of factors, float32 [][2]; best: float32 [16 * vectors],
    best[lane] = max(best[lane], factors[norms[t]][0] * rows[t][lane]
    + factors[norms[t]][1] * scales[lane] * sums[t][lane]).
    """

    @intrinsic
    def fold(
        typingctx: Any, sums: Any, scales: Any, rows: Any, norms: Any, factors: Any, count: Any, best: Any
    ) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            sums_, scales_, rows_, norms_, factors_, count_, best_ = args
            scale = [_load(builder, _FLOATS, scales_, v) for v in range(vectors)]
            fma = declare(builder, f"llvm.fmuladd.v{WIDTH}f32", _FLOATS, [_FLOATS] * 3)
            row_of = builder.inttoptr(rows_, I64.as_pointer())
            norm_of = builder.inttoptr(norms_, I8.as_pointer())
            pair_of = builder.inttoptr(factors_, FLOAT.as_pointer())

            def step(t: Any, top: list[Any]) -> list[Any]:
                row = builder.load(builder.gep(row_of, [t]), align=8)
                norm = builder.zext(builder.load(builder.gep(norm_of, [t])), I64)
                pair = builder.gep(pair_of, [builder.mul(norm, const(2))])
                share = splat(builder, builder.load(pair, align=4), WIDTH)
                factor = splat(builder, builder.load(builder.gep(pair, [const(1)]), align=4), WIDTH)
                new = []
                for v in range(vectors):
                    residual = builder.fmul(_scaled(builder, sums_, t, v, vectors, scale), factor)
                    score = builder.call(fma, [share, _load(builder, _FLOATS, row, v), residual])
                    new.append(_larger(builder, score, top[v]))
                return new

            _keep(builder, best_, loop(builder, count_, _start(builder, best_, vectors), step))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return fold


def fold_bytes(vectors: int) -> Any:
    """Intrinsic `fold(sums, scales, factors, count, best)` over `count` >= 1 tokens, whose factors are
    float32 [count]: best[lane] = max(best[lane], factors[t] * scales[lane] * sums[t][lane])."""

    @intrinsic
    def fold(typingctx: Any, sums: Any, scales: Any, factors: Any, count: Any, best: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            sums_, scales_, factors_, count_, best_ = args
            scale = [_load(builder, _FLOATS, scales_, v) for v in range(vectors)]
            factor_of = builder.inttoptr(factors_, FLOAT.as_pointer())

            def step(t: Any, top: list[Any]) -> list[Any]:
                factor = splat(builder, builder.load(builder.gep(factor_of, [t]), align=4), WIDTH)
                return [
                    _larger(
                        builder,
                        builder.fmul(_scaled(builder, sums_, t, v, vectors, scale), factor),
                        top[v],
                    )
                    for v in range(vectors)
                ]

            _keep(builder, best_, loop(builder, count_, _start(builder, best_, vectors), step))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return fold


def fold_best(vectors: int, parts: int) -> Any:
    """Intrinsic `fold(sums, first, best, found)`: 16 rows more of those whose best are looked for.

    first: the number of the first of them, a multiple of 16; best, found: int32 [parts][16 * vectors], of
    each part t of the rows i = t (mod parts) the largest sum so far and the row it is of, the first of
    equals. `parts` divides 16.
    """

    @intrinsic
    def fold(typingctx: Any, sums: Any, first: Any, best: Any, found: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            sums_, first_, best_, found_ = args
            base = splat(builder, builder.trunc(first_, I32), WIDTH)
            for v in range(vectors):  # one after the other: their state is all registers that there are
                slots = [part * vectors + v for part in range(parts)]
                top = [_load(builder, _INTS, best_, slot) for slot in slots]
                row_of = [_load(builder, _INTS, found_, slot) for slot in slots]
                for row in range(TILE_ROWS):
                    total = _load(builder, _INTS, sums_, row * vectors + v)
                    here = builder.add(base, ir.Constant(_INTS, [row] * WIDTH))
                    better, part = builder.icmp_signed(">", total, top[row % parts]), row % parts
                    top[part] = builder.select(better, total, top[part])
                    row_of[part] = builder.select(better, here, row_of[part])
                for slot, total, here in zip(slots, top, row_of, strict=True):
                    _store(builder, total, best_, slot)
                    _store(builder, here, found_, slot)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return fold


def _load(builder: ir.IRBuilder, kind: Any, address: Any, vector: int) -> Any:
    place = builder.add(address, const(4 * WIDTH * vector))
    return builder.load(builder.inttoptr(place, kind.as_pointer()), align=4)


def _scaled(builder: ir.IRBuilder, sums: Any, t: Any, v: int, vectors: int, scale: list[Any]) -> Any:
    row = builder.add(sums, builder.mul(t, const(4 * WIDTH * vectors)))
    return builder.fmul(builder.sitofp(_load(builder, _INTS, row, v), _FLOATS), scale[v])


def _larger(builder: ir.IRBuilder, value: Any, top: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", value, top), value, top)


def _start(builder: ir.IRBuilder, best: Any, vectors: int) -> list[Any]:
    return [_load(builder, _FLOATS, best, v) for v in range(vectors)]


def _keep(builder: ir.IRBuilder, best: Any, top: list[Any]) -> None:
    for v, value in enumerate(top):
        _store(builder, value, best, v)


def _store(builder: ir.IRBuilder, value: Any, address: Any, vector: int) -> None:
    place = builder.add(address, const(4 * WIDTH * vector))
    builder.store(value, builder.inttoptr(place, value.type.as_pointer()), align=4)
