"""AMX's instructions as ordinary code, so that kernels which use them run on any machine with AVX-512 VNNI.

`emulate()` puts functions in the place of the intrinsics in all code that is compiled from then on: the same
sums from the same tiles, and an end of the process where a CPU would refuse the instruction (a tile that is
not cut, or cuts that do not go together). What it cannot show is that the CPU does what is written here; on
one that has AMX, `test_tiles.py` runs the instructions themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir

from latebolt.kernels import compiled, host, isa, targets
from latebolt.kernels.vector import tiles
from latebolt.kernels.vector.instructions import I8, I32, I64, const

_STATE = ir.ArrayType(I8, 64 + 8 * 1024)  # how the tiles are cut, and what is in them


def emulate() -> None:
    """Make `amx_int8` an instruction set of this process, on a machine that has AVX-512 VNNI."""
    targets._TARGETS["amx_int8"] = targets.target_of("avx512_vnni")
    isa.NEEDS["amx_int8"] = isa.NEEDS["avx512_vnni"]
    host.tiles_allowed = lambda: True
    tiles.declare = _declare
    isa.active.cache_clear()
    # What is compiled now is kept apart from what a CPU with AMX runs.
    key, mine = compiled.cache_key, hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8).hexdigest()
    compiled.cache_key = lambda name: key(f"{name} emulated by {mine}" if name == "amx_int8" else name)


def _declare(builder: ir.IRBuilder, name: str, result: Any, arguments: list[Any]) -> Any:
    module, emulated = builder.module, "emulated." + name
    if emulated not in module.globals:
        function = ir.Function(module, ir.FunctionType(result, arguments), emulated)
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block("entry"))
        _BODIES[name](_Machine(body), *function.args)
        body.ret_void()
    return module.globals[emulated]


class _Machine:
    """Code that reads and writes the state of the tiles."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder, module = builder, builder.module
        if "emulated.tiles" not in module.globals:
            state = ir.GlobalVariable(module, _STATE, "emulated.tiles")
            state.initializer, state.linkage = ir.Constant(_STATE, None), "internal"
        self.state = builder.bitcast(module.globals["emulated.tiles"], I8.as_pointer())

    def cut(self, at: Any) -> Any:
        """A byte of how the tiles are cut."""
        return self.builder.zext(self.builder.load(self.builder.gep(self.state, [at])), I64)

    def rows(self, tile: Any) -> Any:
        return self.some(self.cut(self.builder.add(const(48), tile)))

    def row_bytes(self, tile: Any) -> Any:
        return self.some(self.cut(self.builder.add(const(16), self.builder.mul(const(2), tile))))

    def some(self, count: Any) -> Any:
        self.refuse(self.builder.icmp_unsigned("==", count, const(0)))
        return count

    def refuse(self, condition: Any) -> None:
        with self.builder.if_then(condition):
            trap = self.builder.module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), []))
            self.builder.call(trap, [])

    def place(self, tile: Any, row: Any, byte: Any) -> Any:
        at = self.builder.add(self.builder.mul(tile, const(1024)), self.builder.mul(row, const(64)))
        return self.builder.gep(self.state, [self.builder.add(const(64), self.builder.add(at, byte))])

    def each(self, count: Any, body: Callable[[Any], None]) -> None:
        """`body(i)` for i in 0..count-1."""
        i = self.builder.alloca(I64)
        self.builder.store(const(0), i)
        head, inside, done = (self.builder.append_basic_block(name) for name in ("head", "inside", "done"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self.builder.icmp_unsigned("<", self.builder.load(i), count), inside, done)
        self.builder.position_at_end(inside)
        body(self.builder.load(i))
        self.builder.store(self.builder.add(self.builder.load(i), const(1)), i)
        self.builder.branch(head)
        self.builder.position_at_end(done)

    def number(self, tile: Any) -> Any:
        return self.builder.zext(tile, I64)


def _configure(machine: _Machine, source: Any) -> None:
    build = machine.builder
    machine.each(const(64 + 8 * 1024), lambda i: build.store(I8(0), build.gep(machine.state, [i])))
    machine.each(
        const(64), lambda i: build.store(build.load(build.gep(source, [i])), build.gep(machine.state, [i]))
    )
    machine.refuse(build.icmp_unsigned("!=", machine.cut(const(0)), const(1)))


def _release(machine: _Machine) -> None:
    machine.each(
        const(64 + 8 * 1024), lambda i: machine.builder.store(I8(0), machine.builder.gep(machine.state, [i]))
    )


def _move(into_tile: bool) -> Callable[..., None]:
    def move(machine: _Machine, tile: Any, memory: Any, step: Any) -> None:
        build, tile = machine.builder, machine.number(tile)
        row_bytes = machine.row_bytes(tile)

        def row(r: Any) -> None:
            def byte(b: Any) -> None:
                outside = build.gep(memory, [build.add(build.mul(r, step), b)])
                ends = [outside, machine.place(tile, r, b)]
                source, target = ends if into_tile else reversed(ends)
                build.store(build.load(source), target)

            machine.each(row_bytes, byte)

        machine.each(machine.rows(tile), row)

    return move


def _multiply(machine: _Machine, sums: Any, left: Any, right: Any) -> None:
    """sums[m][n] += left[m][4k + i] (unsigned) * right[k][4n + i] (signed), over k and i."""
    build = machine.builder
    sums, left, right = (machine.number(each) for each in (sums, left, right))
    rows, row_bytes, inner = machine.rows(sums), machine.row_bytes(sums), machine.row_bytes(left)
    for a, b in (
        (machine.rows(left), rows),
        (machine.row_bytes(right), row_bytes),
        (build.mul(machine.rows(right), const(4)), inner),
    ):
        machine.refuse(build.icmp_unsigned("!=", a, b))

    def row(m: Any) -> None:
        def lane(n: Any) -> None:
            four = build.mul(n, const(4))
            place = build.bitcast(machine.place(sums, m, four), I32.as_pointer())

            def product(k: Any) -> None:
                group, i = build.udiv(k, const(4)), build.urem(k, const(4))
                a = build.zext(build.load(machine.place(left, m, k)), I32)
                b = build.sext(build.load(machine.place(right, group, build.add(four, i))), I32)
                build.store(build.add(build.load(place), build.mul(a, b)), place)

            machine.each(inner, product)

        machine.each(build.udiv(row_bytes, const(4)), lane)

    machine.each(rows, row)


_BODIES: dict[str, Callable[..., None]] = {
    "llvm.x86.ldtilecfg": _configure,
    "llvm.x86.tilerelease": _release,
    "llvm.x86.tileloadd64": _move(into_tile=True),
    "llvm.x86.tilestored64": _move(into_tile=False),
    "llvm.x86.tdpbusd": _multiply,
}
