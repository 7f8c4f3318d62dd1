"""The largest so far, which MaxSim keeps for each query token: of float scores, and of rows of bytes.

Equal or unordered values leave what is there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.vector.instructions import I8, LINE, const, declare


def fold_max(builder: ir.IRBuilder, best: Any, sums: list[Any], vectors: int) -> None:
    """best[v] = max(best[v], sums of every token's vector v)."""
    for v in range(vectors):
        slot = builder.gep(best, [const(v)])
        top = builder.load(slot, align=4)
        for value in sums[v::vectors]:
            top = builder.select(builder.fcmp_ordered(">", value, top), value, top)
        builder.store(top, slot, align=4)


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
