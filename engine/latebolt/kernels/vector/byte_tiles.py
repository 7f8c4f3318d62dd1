"""Tiles of bytes: exact integer dot products of some document tokens with the query's lanes.

They end in scores, folded into maxima, or in the number of the best row (the nearest centroid).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.vector.instructions import (
    FLOAT,
    I8,
    I16,
    I32,
    I64,
    const,
    declare,
    loop,
    shuffle,
    splat,
)
from latebolt.kernels.vector.lanes import interleave, repeat, sum_parts
from latebolt.kernels.vector.maxima import fold_max


def tile_u8(width: int, vectors: int, tokens: int, dim: int, isa: str, parts: int = 1) -> Any:
    """Intrinsic `tile(query, scales, biases, document, rows, shares, norms, best)` over `tokens` tokens.

    query: int8 [dim / 4][width * vectors][4]; scales float32 and biases int32 [width * vectors];
    document: uint8 [tokens][dim], 0..127; rows: int64 [tokens], addresses of float32 [width * vectors];
    shares, norms: float32 [tokens]; best: float32 [width * vectors],
    best[lane] = max(best[lane], shares[t] * rows[t][lane] + norms[t] * scales[lane] * (dot - biases[lane])).

    parts: for few query tokens, so many lanes (2 or 4) that one of them has, each with a share of the
    dimensions; `vectors` is 1 and `tokens` a multiple of parts. Lane q * parts + p has query token q: query
    int8 [dim / 4 / parts][width][4], group g of part p being dimensions 4 * (g * parts + p) and the 3 after;
    of rows the first width / parts columns are read; best[q * parts + p] is the best of the tokens t = p
    (mod parts).
    """

    @intrinsic
    def tile(
        typingctx: Any, query: Any, scales: Any, biases: Any, document: Any, rows: Any, shares: Any,
        norms: Any, best: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            ints, floats = ir.VectorType(I32, width), ir.VectorType(FLOAT, width)
            bytes_ = ir.VectorType(I8, 4 * width)
            lanes = builder.inttoptr(args[0], bytes_.as_pointer())
            document_ = builder.inttoptr(args[3], I32.as_pointer())

            step = dot_step(builder, lanes, document_, width, vectors, tokens, dim, isa, parts)
            zero = ir.Constant(ints, [0] * width)
            sums = loop(builder, const(dim // 4 // parts), [zero] * (tokens * vectors), step)
            # From here on a vector has `parts` document tokens of every query token.
            sums = [sum_parts(builder, sums[t : t + parts]) for t in range(0, len(sums), parts)]

            scales_, best_ = (builder.inttoptr(args[i], floats.as_pointer()) for i in (1, 7))
            biases_ = builder.inttoptr(args[2], ints.as_pointer())
            rows_ = builder.inttoptr(args[4], I64.as_pointer())
            shares_, norms_ = (builder.inttoptr(args[i], FLOAT.as_pointer()) for i in (5, 6))
            fma = declare(builder, f"llvm.fmuladd.v{width}f32", floats, [floats] * 3)
            scored: list[Any] = []
            for t in range(0, tokens, parts):
                rows_here = [
                    builder.load(builder.gep(rows_, [const(t + part)]), align=8) for part in range(parts)
                ]
                share, norm = (
                    repeat(builder, builder.gep(each, [const(t)]), width, parts) for each in (shares_, norms_)
                )
                for v in range(vectors):
                    bias = builder.load(builder.gep(biases_, [const(v)]), align=4)
                    exact = builder.sitofp(builder.sub(sums[t // parts * vectors + v], bias), floats)
                    scale = builder.load(builder.gep(scales_, [const(v)]), align=4)
                    centre = interleave(
                        builder, [builder.add(row, const(4 * width * v)) for row in rows_here], width
                    )
                    residual = builder.fmul(builder.fmul(exact, scale), norm)
                    scored.append(builder.call(fma, [share, centre, residual]))
            fold_max(builder, best_, scored, vectors)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return tile


def argmax_parts(width: int, vectors: int, tokens: int, parts: int, dim: int, isa: str) -> Any:
    """Intrinsic `search(query, rows, n_rounds, found)`: the best row of each of `parts` interleaved parts.

    query: int8 [dim / 4][width * vectors][4]; rows: uint8 [n_rounds * parts][dim], 0..127, n_rounds >= 1;
    found: int32 [parts][width * vectors], for part t the row i = t (mod parts) with the largest dot
    product, the first of equals. `parts` is a multiple of `tokens`, the rows scored together.
    """

    @intrinsic
    def search(typingctx: Any, query: Any, rows: Any, n_rounds: Any, found: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            ints, bytes_ = ir.VectorType(I32, width), ir.VectorType(I8, 4 * width)
            lanes = builder.inttoptr(args[0], bytes_.as_pointer())
            groups = dim // 4
            zero, lowest = ir.Constant(ints, [0] * width), ir.Constant(ints, [-(2**31)] * width)

            n = parts * vectors

            def score_round(number: Any, state: list[Any]) -> list[Any]:
                state = list(state)
                first = builder.mul(number, const(parts))
                for part in range(0, parts, tokens):
                    row = builder.add(first, const(part))
                    document = builder.inttoptr(
                        builder.add(args[1], builder.mul(row, const(dim))), I32.as_pointer()
                    )
                    step = dot_step(builder, lanes, document, width, vectors, tokens, dim, isa)
                    sums = loop(builder, const(groups), [zero] * (tokens * vectors), step)
                    for i, total in enumerate(sums):
                        slot = part * vectors + i
                        here = splat(
                            builder, builder.trunc(builder.add(row, const(i // vectors)), I32), width
                        )
                        better = builder.icmp_signed(">", total, state[slot])
                        state[slot] = builder.select(better, total, state[slot])
                        state[n + slot] = builder.select(better, here, state[n + slot])
                return state

            state = loop(builder, args[2], [lowest] * n + [zero] * n, score_round)
            out = builder.inttoptr(args[3], ints.as_pointer())
            for i, row in enumerate(state[n:]):
                builder.store(row, builder.gep(out, [const(i)]), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return search


def dot_step(
    builder: ir.IRBuilder,
    lanes: Any,
    document: Any,
    width: int,
    vectors: int,
    tokens: int,
    dim: int,
    isa: str,
    parts: int = 1,
) -> Any:
    """The body of a loop over groups of 4 dimensions, `parts` of them at once (see `tile_u8`):
    sums[t * vectors + v] += rows t . lanes v."""
    bytes_ = ir.VectorType(I8, 4 * width)

    def step(group: Any, sums: list[Any]) -> list[Any]:
        base = builder.mul(group, const(vectors))
        queries = [
            builder.load(builder.gep(lanes, [builder.add(base, const(v))]), align=4) for v in range(vectors)
        ]
        new = []
        for t in range(tokens):
            at = builder.add(builder.mul(group, const(parts)), const(t * dim // 4))
            four = builder.bitcast(repeat(builder, builder.gep(document, [at]), width, parts), bytes_)
            new += [dot4(builder, sums[t * vectors + v], four, q, width, isa) for v, q in enumerate(queries)]
        return new

    return step


def dot4(builder: ir.IRBuilder, total: Any, document: Any, query: Any, width: int, isa: str) -> Any:
    """total[lane] + the dot product of 4 bytes a lane, exact in int32.

    document: i8 [4 * width], 0..127 so that neither 16-bit pair sums (AVX2) nor signed bytes (ARM) overflow;
    query: i8 [4 * width], -127..127.
    """
    sums = ir.VectorType(I32, width)
    if isa in ("avx512_vnni", "avx_vnni"):
        name = f"llvm.x86.avx512.vpdpbusd.{32 * width}"
        return builder.call(
            declare(builder, name, sums, [sums, document.type, document.type]), [total, document, query]
        )
    if isa == "avx2":
        pairs, ones = ir.VectorType(I16, 16), ir.Constant(ir.VectorType(I16, 16), [1] * 16)
        first = declare(builder, "llvm.x86.avx2.pmadd.ub.sw", pairs, [document.type] * 2)
        second = declare(builder, "llvm.x86.avx2.pmadd.wd", sums, [pairs, pairs])
        return builder.add(total, builder.call(second, [builder.call(first, [document, query]), ones]))
    if isa == "neon_dot":
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return builder.call(
            declare(builder, name, sums, [sums, document.type, document.type]), [total, document, query]
        )
    # 127 * 127 * 2 fits 16 bits, so pairs are summed there before they are widened.
    if isa == "neon":
        eight, shorts = ir.VectorType(I8, 8), ir.VectorType(I16, 8)
        multiply = declare(builder, "llvm.aarch64.neon.smull.v8i16", shorts, [eight] * 2)
        halves = [
            builder.call(multiply, [shuffle(builder, each, each, order) for each in (document, query)])
            for order in (list(range(8)), list(range(8, 16)))
        ]
        pairs = builder.call(declare(builder, "llvm.aarch64.neon.addp.v8i16", shorts, [shorts] * 2), halves)
        widened = declare(builder, "llvm.aarch64.neon.saddlp.v4i32.v8i16", sums, [shorts])
        return builder.add(total, builder.call(widened, [pairs]))
    shorts = ir.VectorType(I16, 4 * width)
    products = builder.mul(builder.zext(document, shorts), builder.sext(query, shorts))
    none = ir.Constant(shorts, ir.Undefined)
    part = [
        builder.shuffle_vector(products, none, ir.Constant(sums, [4 * lane + i for lane in range(width)]))
        for i in range(4)
    ]
    pairs = builder.add(part[0], part[1]), builder.add(part[2], part[3])
    return builder.add(total, builder.add(builder.sext(pairs[0], sums), builder.sext(pairs[1], sums)))
