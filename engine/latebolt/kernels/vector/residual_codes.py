"""Unpacking of residual codes: 1, 2 or 4 bits a dimension become bytes by a look-up in a table of levels.

The look-up is one byte shuffle where the instruction set has it, else a tree of selections.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from latebolt.kernels.shapes import N_LEVELS
from latebolt.kernels.vector.instructions import I8, I16, I32, LINE, const, declare, shuffle, splat

_SHUFFLES = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
_WIDE = ("amx_int8", "avx512_vnni")  # that look up 64 bytes at once


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
            if isa in _WIDE and dim % LINE == 0 and (n_bytes % LINE == 0 or n_bytes in (8, 16, 32)):
                _unpack_lines(builder, source, table, target, n_bytes, bits, isa)
                return context.get_dummy_value()
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


def _unpack_lines(
    builder: ir.IRBuilder, source: Any, table: Any, target: Any, n_bytes: int, bits: int, isa: str
) -> None:
    """Whole lines of 64 dimensions: several fields of few bytes at once, or one of 64."""
    pairs = ir.VectorType(I16, LINE // 2)
    beside = max(1, LINE // n_bytes)  # fields that a line has
    for at in range(0, n_bytes, LINE):
        size = min(n_bytes, LINE)
        place = builder.bitcast(builder.gep(source, [const(at)]), ir.VectorType(I8, size).as_pointer())
        packed = builder.load(place, align=1)
        line = builder.bitcast(shuffle(builder, packed, packed, list(range(size)) * beside), pairs)
        for field in range(0, 8 // bits, beside):
            # In pairs of bytes, for which there is an instruction; what one gets of the other is cut off.
            shifts = [bits * (field + i // size) for i in range(0, LINE, 2)]
            code = builder.bitcast(builder.lshr(line, ir.Constant(pairs, shifts)), ir.VectorType(I8, LINE))
            code = builder.and_(code, ir.Constant(code.type, [2**bits - 1] * LINE))
            value = look_up(builder, table, code, LINE, bits, isa)
            place = builder.gep(target, [const(field * n_bytes + at)])
            builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=1)


def look_up(builder: ir.IRBuilder, table: Any, code: Any, size: int, bits: int, isa: str) -> Any:
    """table[code] for every byte of `code`; the table has N_LEVELS entries."""
    if isa == "portable":
        return _look_up_by_selection(builder, table, code, size, bits)
    wide = max(16, size)
    vector = ir.VectorType(I8, wide)
    lanes = ir.Constant(ir.VectorType(I32, wide), [i if i < size else 0 for i in range(wide)])
    code = builder.shuffle_vector(code, ir.Constant(code.type, ir.Undefined), lanes)
    if isa in ("neon_dot", "neon"):
        halves = [code] if wide == 16 else [_part(builder, code, 0), _part(builder, code, 16)]
        name = "llvm.aarch64.neon.tbl1.v16i8"
        choose = declare(builder, name, ir.VectorType(I8, 16), [ir.VectorType(I8, 16)] * 2)
        found = [builder.call(choose, [table, half]) for half in halves]
        both = ir.Constant(ir.VectorType(I32, wide), list(range(wide)))
        value = found[0] if wide == 16 else builder.shuffle_vector(found[0], found[1], both)
    else:
        name = _SHUFFLES[wide]
        choose = declare(builder, name, vector, [vector, vector])
        repeated = ir.Constant(ir.VectorType(I32, wide), [i % 16 for i in range(wide)])
        spread = builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), repeated)
        value = builder.call(choose, [spread, code])
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
