"""LLVM vector code for the inner loops, as numba intrinsics over plain addresses.

Query tokens lie in vector lanes, so a document token's value is broadcast and no horizontal reduction
exists but one at the end of a tile, for queries of few tokens (`sum_parts`). A tile scores several document
tokens at once: their independent accumulators hide the latency of the multiply-add. Which loops there are
and what they mean is in `programs.py`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels import isa as isas
from latebolt.kernels.shapes import N_LEVELS

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT = ir.HalfType(), ir.FloatType()
LINE = 64  # bytes of a line of memory

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


@intrinsic
def sqrt_f32(typingctx: Any, value: Any) -> Any:
    """`sqrt_f32(value)`: float32, as an instruction; NumPy's under numba would call the C library."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.call(declare(builder, "llvm.sqrt.f32", FLOAT, [FLOAT]), args)

    return types.float32(types.float32), codegen


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


def unpack_codes(dim: int, bits: int, isa: str) -> Any:
    """Intrinsic `unpack(codes, weights, out)`: packed codes of one token to uint8 [dim] weights.

    Byte j of the n = dim * bits / 8 holds dimensions j, n + j, 2n + j, ... from its lowest bits up, so each
    bit field gives n neighbouring dimensions and nothing is interleaved. weights: uint8 [N_LEVELS].
    """
    n_bytes, fields = dim * bits // 8, 8 // bits

    @intrinsic
    def unpack(typingctx: Any, codes: Any, weights: Any, out: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            source, target = (builder.inttoptr(args[i], I8.as_pointer()) for i in (0, 2))
            table = builder.load(builder.inttoptr(args[1], ir.VectorType(I8, N_LEVELS).as_pointer()), align=1)
            at = 0
            while at < n_bytes:
                size = next(size for size in (32, 16, 8, 4, 2, 1) if size <= n_bytes - at)
                vector = ir.VectorType(I8, size)
                packed = builder.load(
                    builder.bitcast(builder.gep(source, [const(at)]), vector.as_pointer()), align=1
                )
                for field in range(fields):
                    code = builder.lshr(packed, ir.Constant(vector, [bits * field] * size))
                    code = builder.and_(code, ir.Constant(vector, [2**bits - 1] * size))
                    value = look_up(builder, table, code, size, bits, isa)
                    place = builder.gep(target, [const(field * n_bytes + at)])
                    builder.store(value, builder.bitcast(place, vector.as_pointer()), align=1)
                at += size
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    return unpack


def look_up(builder: ir.IRBuilder, table: Any, code: Any, size: int, bits: int, isa: str) -> Any:
    """table[code] for every byte of `code`; the table has N_LEVELS entries."""
    if isa == "portable":
        return _look_up_by_selection(builder, table, code, size, bits)
    wide = max(16, size)
    vector = ir.VectorType(I8, wide)
    lanes = ir.Constant(ir.VectorType(I32, wide), [i if i < size else 0 for i in range(wide)])
    code = builder.shuffle_vector(code, ir.Constant(code.type, ir.Undefined), lanes)
    if isa == "neon_dot":
        halves = [code] if wide == 16 else [_part(builder, code, 0), _part(builder, code, 16)]
        name = "llvm.aarch64.neon.tbl1.v16i8"
        shuffle = declare(builder, name, ir.VectorType(I8, 16), [ir.VectorType(I8, 16)] * 2)
        found = [builder.call(shuffle, [table, half]) for half in halves]
        both = ir.Constant(ir.VectorType(I32, wide), list(range(wide)))
        value = found[0] if wide == 16 else builder.shuffle_vector(found[0], found[1], both)
    else:
        name = "llvm.x86.ssse3.pshuf.b.128" if wide == 16 else "llvm.x86.avx2.pshuf.b"
        shuffle = declare(builder, name, vector, [vector, vector])
        repeated = ir.Constant(ir.VectorType(I32, wide), [i % 16 for i in range(wide)])
        spread = builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), repeated)
        value = builder.call(shuffle, [spread, code])
    cut = ir.Constant(ir.VectorType(I32, size), list(range(size)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), cut)


def _part(builder: ir.IRBuilder, value: Any, start: int) -> Any:
    lanes = ir.Constant(ir.VectorType(I32, 16), list(range(start, start + 16)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), lanes)


def _look_up_by_selection(builder: ir.IRBuilder, table: Any, code: Any, size: int, bits: int) -> Any:
    """A tree of selections, one level a bit: no instruction beyond comparison and blending."""
    vector = ir.VectorType(I8, size)
    values = [splat(builder, builder.extract_element(table, const(i)), size) for i in range(2**bits)]
    for bit in range(bits):
        masked = builder.and_(code, ir.Constant(vector, [1 << bit] * size))
        is_set = builder.icmp_unsigned("!=", masked, ir.Constant(vector, [0] * size))
        values = [builder.select(is_set, values[i + 1], values[i]) for i in range(0, len(values), 2)]
    return values[0]


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
    shorts = ir.VectorType(I16, 4 * width)
    products = builder.mul(builder.zext(document, shorts), builder.sext(query, shorts))
    none = ir.Constant(shorts, ir.Undefined)
    part = [
        builder.shuffle_vector(products, none, ir.Constant(sums, [4 * lane + i for lane in range(width)]))
        for i in range(4)
    ]
    pairs = builder.add(part[0], part[1]), builder.add(part[2], part[3])
    return builder.add(total, builder.add(builder.sext(pairs[0], sums), builder.sext(pairs[1], sums)))


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


def repeat(builder: ir.IRBuilder, place: Any, width: int, parts: int) -> Any:
    """The `parts` elements at a place again and again, in `width` lanes."""
    if parts == 1:
        return splat(builder, builder.load(place, align=4), width)
    few = ir.VectorType(place.type.pointee, parts)
    value = builder.load(builder.bitcast(place, few.as_pointer()), align=4)
    return shuffle(builder, value, value, [lane % parts for lane in range(width)])


def interleave(builder: ir.IRBuilder, rows: list[Any], width: int) -> Any:
    """Float lane q * len(rows) + p is number q of the row at address p."""
    vector = ir.VectorType(FLOAT, width // len(rows))
    found = [builder.load(builder.inttoptr(row, vector.as_pointer()), align=4) for row in rows]
    while len(found) > 1:  # one behind the other, in pairs
        found = [
            shuffle(builder, a, b, list(range(2 * a.type.count)))
            for a, b in zip(*[iter(found)] * 2, strict=True)
        ]
    if len(rows) == 1:
        return found[0]
    step = width // len(rows)
    order = [lane % len(rows) * step + lane // len(rows) for lane in range(width)]
    return shuffle(builder, found[0], found[0], order)


def sum_parts(builder: ir.IRBuilder, sums: list[Any]) -> Any:
    """Lane q * parts + p is the sum over `parts` lanes of query token q in vector p, `parts` being how many
    vectors there are: 1, 2 or 4."""
    parts, width = len(sums), sums[0].type.count
    if parts == 1:
        return sums[0]
    if parts == 2:
        halves = [[q + half + (0, width)[p] for q in range(0, width, 2) for p in (0, 1)] for half in (0, 1)]
        return builder.add(*(shuffle(builder, sums[0], sums[1], order) for order in halves))
    # Lanes two apart of two vectors, then both of these sums: two instructions and a sum each.
    low = [q + lane + (0, width)[p] for q in range(0, width, 4) for lane in (0, 1) for p in (0, 1)]
    pairs = [
        builder.add(shuffle(builder, a, b, low), shuffle(builder, a, b, [lane + 2 for lane in low]))
        for a, b in (sums[:2], sums[2:])
    ]
    low = [q + lane + (0, width)[p] for q in range(0, width, 4) for p in (0, 1) for lane in (0, 1)]
    a, b = pairs
    return builder.add(shuffle(builder, a, b, low), shuffle(builder, a, b, [lane + 2 for lane in low]))


def shuffle(builder: ir.IRBuilder, a: Any, b: Any, order: list[int]) -> Any:
    """Lanes of two vectors, those of the second counted on from the first's."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))


def max_rows_u8(lanes: int, count: int) -> Any:
    """Intrinsic `fold(table, rows, best)`: best[i] = max(best[i], table[row][i]) for `lanes` bytes and each
    of `count` rows, a tuple of int64: `best` is read and written once for all of them."""

    @intrinsic
    def fold(typingctx: Any, table: Any, rows: Any, best: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            # Addresses are counted in bytes: LLVM keeps vectors of 96 bytes 128 apart.
            rows_ = [
                builder.add(args[0], builder.mul(builder.extract_value(args[1], i), const(lanes)))
                for i in range(count)
            ]
            for at in range(0, lanes, LINE):
                size = min(LINE, lanes - at)
                vector = ir.VectorType(I8, size)
                maximum = declare(builder, f"llvm.umax.v{size}i8", vector, [vector, vector])
                places = [
                    builder.inttoptr(builder.add(base, const(at)), vector.as_pointer())
                    for base in (*rows_, args[2])
                ]
                found = [builder.load(place, align=1) for place in places]
                while len(found) > 1:
                    found.append(builder.call(maximum, [found.pop(0), found.pop(0)]))
                builder.store(found[0], places[-1], align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.UniTuple(types.int64, count), types.int64), codegen

    return fold


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
    """The LLVM intrinsic of that name, declared once a module.

    numba makes machine code for this CPU before we get to see the IR. Another CPU's intrinsic would end the
    process there, so it goes in as a stand-in that is renamed afterwards (`native.compile_ir`).
    """
    if name.startswith("llvm.aarch64") and not isas.host_is_arm():
        name = isas.STAND_IN + name
        llvm.add_symbol(name, 1)  # never called; only has to be found
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


@intrinsic
def fetch(typingctx: Any, address: Any) -> Any:
    """Intrinsic `fetch(address)`: see `prefetch`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        prefetch(builder, builder.inttoptr(args[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


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


def fold_max(builder: ir.IRBuilder, best: Any, sums: list[Any], vectors: int) -> None:
    """best[v] = max(best[v], sums of every token's vector v)."""
    for v in range(vectors):
        slot = builder.gep(best, [const(v)])
        top = builder.load(slot, align=4)
        for value in sums[v::vectors]:
            top = builder.select(builder.fcmp_ordered(">", value, top), value, top)
        builder.store(top, slot, align=4)
