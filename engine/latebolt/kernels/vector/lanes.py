"""Orders of vector lanes for queries of few tokens, whose dimensions are divided over several lanes each.

A document's values are repeated over the lanes, rows are interleaved, and shares are added up at the end.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from latebolt.kernels.vector.instructions import FLOAT, shuffle, splat


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
