"""AMX's tiles: 16 document tokens' bytes times the query's lanes, exact int32 sums of 16 x 16 at once.

A tile is up to 16 rows of 64 bytes. One operand has document tokens as rows, 64 dimensions each; the other
has 16 groups of 4 dimensions as rows, in which a query token is a lane, as in memory; rows of the sums are
document tokens and their lanes query tokens, so that maxima stay in lanes (Intel, "Architecture Instruction
Set Extensions", chapter on AMX). How tiles are cut is set by `configure`, once a call of a kernel, and given
back by `release`: a thread that has tiles in use is slower to switch to and from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.shapes import TILE_BYTES, TILE_ROWS
from latebolt.kernels.vector.instructions import I8, I64, const, declare

_VOID, _POINTER = ir.VoidType(), I8.as_pointer()
_ROW_BYTES = TILE_BYTES // TILE_ROWS
_MOST_HELD = 4  # of the 8 tiles: the query's, where that is all of it


class _Part(NamedTuple):
    """Some dimensions of all: where they begin, how many, and the tile of the document's bytes for them."""

    first: int
    size: int
    document: int


class Layout(NamedTuple):
    """What the 8 tiles are used for, with `vectors` vectors of query lanes and vectors of `dim` dimensions.

    Tiles 0 and 1 hold the sums of each vector, 2 and 3 documents' bytes, 4 to 7 the query's.
    """

    vectors: int
    dim: int

    @property
    def lanes(self) -> int:
        """Query tokens of a block."""
        return _ROW_BYTES // 4 * self.vectors

    def parts(self) -> list[_Part]:
        """The dimensions, 64 at a time; fewer at the end have a tile of another cut."""
        whole, rest = divmod(self.dim, _ROW_BYTES)
        # Two tiles in turn, where no other cut takes one of them: the next is read while one is multiplied.
        parts = [_Part(_ROW_BYTES * i, _ROW_BYTES, 2 if rest else 2 + i % 2) for i in range(whole)]
        return parts + ([_Part(_ROW_BYTES * whole, rest, 3)] if rest else [])

    def holds_query(self) -> bool:
        """Whether a query of one block stays in tiles from the first document to the last."""
        return len(self.parts()) * self.vectors <= _MOST_HELD

    def query_tile(self, part: int, vector: int) -> int:
        """The tile of a part of the dimensions and a vector of the query's lanes."""
        if self.holds_query():
            return 4 + part * self.vectors + vector
        return (4 if self.parts()[part].size == _ROW_BYTES else 6) + vector

    def cuts(self) -> dict[int, tuple[int, int]]:
        """Of each tile in use its rows and the bytes of a row."""
        found = dict.fromkeys(range(self.vectors), (TILE_ROWS, _ROW_BYTES))
        for i, part in enumerate(self.parts()):
            found[part.document] = TILE_ROWS, part.size
            for v in range(self.vectors):
                found[self.query_tile(i, v)] = part.size // 4, _ROW_BYTES
        return found


def configure(layout: Layout) -> Any:
    """Intrinsic `configure(scratch)`: cuts the tiles, by the 64 bytes at an address, which it fills."""
    content = bytearray(64)
    content[0] = 1  # the palette of 8 tiles of 1 KB
    for tile, (rows, row_bytes) in layout.cuts().items():
        content[16 + 2 * tile : 18 + 2 * tile] = row_bytes.to_bytes(2, "little")
        content[48 + tile] = rows

    @intrinsic
    def run(typingctx: Any, scratch: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            for i in range(0, 64, 8):
                value = const(int.from_bytes(content[i : i + 8], "little", signed=True))
                place = builder.inttoptr(builder.add(args[0], const(i)), I64.as_pointer())
                builder.store(value, place, align=8)
            _call(builder, "ldtilecfg", builder.inttoptr(args[0], _POINTER))
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return run


@intrinsic
def release(typingctx: Any) -> Any:
    """`release()`: no tile is in use any more."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


def hold_query(layout: Layout) -> Any:
    """Intrinsic `hold(query)`: the query's block, int8 [dim / 4][16 * vectors][4], into its tiles, where
    `layout.holds_query()`."""

    @intrinsic
    def hold(typingctx: Any, query: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            for i in range(len(layout.parts())):
                for v in range(layout.vectors):
                    _load_query(builder, layout, args[0], i, v)
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return hold


def products(layout: Layout, holds: bool) -> Any:
    """Intrinsic `products(query, start, rows, out)`: sums of 16 rows and a block of the query.

    query: as `hold_query` has it, and read where it is not held; start: int32 [16 * vectors], what each
    lane's sums begin with; rows: uint8 [16][dim], all of it read; out: int32 [16][16 * vectors],
    start[lane] + row . lane.
    """

    @intrinsic
    def run(typingctx: Any, query: Any, start: Any, rows: Any, out: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            query_, start_, rows_, out_ = args
            wide = _ROW_BYTES * layout.vectors
            for v in range(layout.vectors):
                # Every row begins with the same numbers: rows that are 0 bytes apart.
                _move(builder, "tileloadd64", v, builder.add(start_, const(_ROW_BYTES * v)), 0)
            for i, part in enumerate(layout.parts()):
                place = builder.add(rows_, const(part.first))
                _move(builder, "tileloadd64", part.document, place, layout.dim)
                for v in range(layout.vectors):
                    tile = layout.query_tile(i, v) if holds else _load_query(builder, layout, query_, i, v)
                    _call(builder, "tdpbusd", _tile(v), _tile(part.document), _tile(tile))
            for v in range(layout.vectors):
                _move(builder, "tilestored64", v, builder.add(out_, const(_ROW_BYTES * v)), wide)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return run


def _load_query(builder: ir.IRBuilder, layout: Layout, query: Any, part: int, vector: int) -> int:
    """The tile that a part of the query's dimensions is in now, of a vector of its lanes."""
    wide = _ROW_BYTES * layout.vectors
    first = layout.parts()[part].first // 4 * wide + _ROW_BYTES * vector
    tile = layout.query_tile(part, vector)
    _move(builder, "tileloadd64", tile, builder.add(query, const(first)), wide)
    return tile


def _tile(number: int) -> ir.Constant:
    return ir.Constant(I8, number)


def _move(builder: ir.IRBuilder, name: str, tile: int, address: Any, step: int) -> None:
    """Between a tile and rows of memory that are `step` bytes apart."""
    _call(builder, name, _tile(tile), builder.inttoptr(address, _POINTER), const(step))


def _call(builder: ir.IRBuilder, name: str, *arguments: Any) -> None:
    kinds = [each.type for each in arguments]
    builder.call(declare(builder, f"llvm.x86.{name}", _VOID, kinds), arguments)
