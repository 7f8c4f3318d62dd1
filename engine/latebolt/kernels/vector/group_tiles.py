"""Vector loops of the two-level search for the nearest centroid: vectors as bytes, groups in order of their
dot products, and a group's centroids, of which the best of each part are kept.

Tokens lie in lanes where groups are chosen, and are rows where centroids are in lanes: whatever number of
tokens wants a group, only the last tile of them is not full.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.shapes import (
    BYTE_MOST,
    GROUP_BITS,
    GROUP_PARTS,
    LEVEL_MOST,
    LEVEL_ZERO,
    group_block,
    group_shift,
)
from latebolt.kernels.vector.byte_tiles import dot_step
from latebolt.kernels.vector.instructions import FLOAT, I8, I32, const, declare, loop, shuffle, splat

_ROUNDS = 12582912.0  # 1.5 * 2**23: added to a small number, it leaves it rounded in the lowest bits


def to_codes(dim: int, lanes: int) -> Any:
    """Intrinsic `codes(value, spread, lane, row)`: one vector times spread, as bytes twice.

    value, spread: float32 [dim]. lane: int8 [dim / 4][lanes][4], of which one lane is written, the largest at
    BYTE_MOST; row: uint8 [dim], LEVEL_ZERO more than the vector with its largest at LEVEL_MOST - LEVEL_ZERO.
    """
    width = next(each for each in (16, 8, 4) if dim % each == 0)

    @intrinsic
    def codes(typingctx: Any, value: Any, spread: Any, lane: Any, row: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            floats, ints = ir.VectorType(FLOAT, width), ir.VectorType(I32, width)
            bytes_ = ir.VectorType(I8, width)
            value_, spread_ = (builder.inttoptr(args[i], floats.as_pointer()) for i in (0, 1))
            fabs = declare(builder, f"llvm.fabs.v{width}f32", floats, [floats])

            def scaled(i: Any) -> Any:
                some = [builder.load(builder.gep(each, [i]), align=4) for each in (value_, spread_)]
                return builder.fmul(*some)

            def larger(a: Any, b: Any) -> Any:
                return builder.select(builder.fcmp_ordered(">", a, b), a, b)

            def most_of(i: Any, state: list[Any]) -> list[Any]:
                return [larger(builder.call(fabs, [scaled(i)]), state[0])]

            least = ir.Constant(floats, [1e-30] * width)
            [most] = loop(builder, const(dim // width), [least], most_of)
            while most.type.count > 1:
                half = most.type.count // 2
                parts = [shuffle(builder, most, most, list(range(at, at + half))) for at in (0, half)]
                most = larger(*parts)
            largest = builder.extract_element(most, ir.Constant(I32, 0))
            scales = [
                splat(builder, builder.fdiv(ir.Constant(FLOAT, float(top)), largest), width)
                for top in (BYTE_MOST, LEVEL_MOST - LEVEL_ZERO)
            ]
            magic = ir.Constant(floats, [_ROUNDS] * width)

            def rounded(i: Any, scale: Any) -> Any:
                return builder.bitcast(builder.fadd(builder.fmul(scaled(i), scale), magic), ints)

            def write(i: Any, state: list[Any]) -> list[Any]:
                # Of the sum's bits the lowest 8 are the rounded number's.
                fours = builder.bitcast(
                    builder.trunc(rounded(i, scales[0]), bytes_), ir.VectorType(I32, width // 4)
                )
                for j in range(width // 4):
                    at = builder.add(builder.mul(i, const(width * lanes)), const(4 * j * lanes))
                    place = builder.inttoptr(builder.add(args[2], at), I32.as_pointer())
                    builder.store(builder.extract_element(fours, ir.Constant(I32, j)), place, align=4)
                zero = ir.Constant(ints, [LEVEL_ZERO] * width)
                level = builder.trunc(builder.add(rounded(i, scales[1]), zero), bytes_)
                builder.store(
                    level, builder.gep(builder.inttoptr(args[3], bytes_.as_pointer()), [i]), align=1
                )
                return []

            loop(builder, const(dim // width), [], write)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return codes


def dots(width: int, vectors: int, tokens: int, dim: int, isa: str) -> Any:
    """Intrinsic `dots(query, rows, n_tiles, out)`: int32 [n_tiles * tokens][width * vectors].

    query: int8 [dim / 4][width * vectors][4]; rows: uint8 [n_tiles * tokens][dim], 0..127; n_tiles >= 1.
    """

    @intrinsic
    def products(typingctx: Any, query: Any, rows: Any, n_tiles: Any, out: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            ints, bytes_ = ir.VectorType(I32, width), ir.VectorType(I8, 4 * width)
            lanes = builder.inttoptr(args[0], bytes_.as_pointer())
            out_ = builder.inttoptr(args[3], ints.as_pointer())
            zero = ir.Constant(ints, [0] * width)

            def score(number: Any, state: list[Any]) -> list[Any]:
                row = builder.add(args[1], builder.mul(number, const(tokens * dim)))
                document = builder.inttoptr(row, I32.as_pointer())
                step = dot_step(builder, lanes, document, width, vectors, tokens, dim, isa)
                sums = loop(builder, const(dim // 4), [zero] * (tokens * vectors), step)
                first = builder.mul(number, const(tokens * vectors))
                for i, total in enumerate(sums):
                    builder.store(total, builder.gep(out_, [builder.add(first, const(i))]), align=4)
                return []

            loop(builder, args[2], [], score)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return products


def best_rows(width: int, vectors: int, count: int, dim: int) -> Any:
    """Intrinsic `best(scores, n_rows, out)`: the rows with the `count` largest scores in each lane, in order.

    scores: int32 [n_rows][width * vectors], dot products of bytes of `dim` dimensions, n_rows >= 1 and at
    most 2**GROUP_BITS; out: int32 [count][width * vectors], in whose lowest GROUP_BITS the row's number is,
    counted down from the largest such number: of equals the first row comes first. Of very many dimensions
    the lowest bits of a score do not count, see `shapes.group_shift`.
    """

    @intrinsic
    def best(typingctx: Any, scores: Any, n_rows: Any, out: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            ints = ir.VectorType(I32, width)
            scores_, out_ = (builder.inttoptr(args[i], ints.as_pointer()) for i in (0, 2))
            larger, smaller = (
                declare(builder, f"llvm.{name}.v{width}i32", ints, [ints, ints]) for name in ("smax", "smin")
            )
            down, up = (ir.Constant(ints, [bits] * width) for bits in (group_shift(dim), GROUP_BITS))
            for v in range(vectors):

                def fold(number: Any, state: list[Any], v: int = v) -> list[Any]:
                    at = builder.add(builder.mul(number, const(vectors)), const(v))
                    score = builder.load(builder.gep(scores_, [at]), align=4)
                    rank = builder.sub(const((1 << GROUP_BITS) - 1), number)
                    here = splat(builder, builder.trunc(rank, I32), width)
                    rest = builder.or_(builder.shl(builder.ashr(score, down), up), here)
                    new = []
                    for top in state:
                        new.append(builder.call(larger, [top, rest]))
                        rest = builder.call(smaller, [top, rest])
                    return new

                lowest = ir.Constant(ints, [-(2**31)] * width)
                for i, top in enumerate(loop(builder, args[1], [lowest] * count, fold)):
                    builder.store(top, builder.gep(out_, [const(i * vectors + v)]), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), codegen

    return best


def best_of_group(width: int, tokens: int, dim: int, isa: str) -> Any:
    """Intrinsic `search(rows, best, lanes, biases, members, n_blocks)`: tokens against a group's centroids.

    rows: uint8 [tokens][dim], 0..127; lanes: int8 [n_blocks][dim / 4][block][4], biases and members: int32
    [n_blocks][block], of the group's centroids, n_blocks >= 1, block as in `shapes.group_block`. best: int64
    [tokens], addresses of int32 [2][GROUP_PARTS]: for part t, of the places i = t (mod GROUP_PARTS), the
    largest bias + dot product that was found so far, and its member. The first of equals stays.
    """
    block = group_block(width)
    vectors, slots = block // width, GROUP_PARTS // width

    @intrinsic
    def search(
        typingctx: Any, rows: Any, best: Any, lanes: Any, biases: Any, members: Any, n_blocks: Any
    ) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            ints, bytes_ = ir.VectorType(I32, width), ir.VectorType(I8, 4 * width)
            document = builder.inttoptr(args[0], I32.as_pointer())
            addresses = builder.inttoptr(args[1], ir.IntType(64).as_pointer())
            biases_, members_ = (builder.inttoptr(args[i], ints.as_pointer()) for i in (3, 4))
            bests = [
                builder.inttoptr(builder.load(builder.gep(addresses, [const(t)]), align=8), ints.as_pointer())
                for t in range(tokens)
            ]
            places = [builder.gep(each, [const(i)]) for each in bests for i in range(2 * slots)]

            def block_of(array: Any, number: Any) -> list[Any]:
                first = builder.mul(number, const(vectors))
                slots = [builder.gep(array, [builder.add(first, const(v))]) for v in range(vectors)]
                return [builder.load(slot, align=4) for slot in slots]

            def score(number: Any, state: list[Any]) -> list[Any]:
                state = list(state)
                at = builder.add(args[2], builder.mul(number, const(block * dim)))
                here = builder.inttoptr(at, bytes_.as_pointer())
                step = dot_step(builder, here, document, width, vectors, tokens, dim, isa)
                sums = loop(builder, const(dim // 4), block_of(biases_, number) * tokens, step)
                for v, member in enumerate(block_of(members_, number)):
                    for t in range(tokens):
                        slot = 2 * slots * t + v % slots
                        total = sums[t * vectors + v]
                        better = builder.icmp_signed(">", total, state[slot])
                        state[slot] = builder.select(better, total, state[slot])
                        state[slot + slots] = builder.select(better, member, state[slot + slots])
                return state

            state = [builder.load(place, align=4) for place in places]
            for value, place in zip(loop(builder, args[5], state, score), places, strict=True):
                builder.store(value, place, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return search
