"""AMX: the same answers as AVX-512's, bit for bit; used where the CPU has it and the system allows it, only.

On a CPU without it the tiles are emulated (`emulated_tiles.py`).
"""

from __future__ import annotations

import ctypes
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from latebolt import system
from latebolt.index.search import planning
from latebolt.kernels import compiler, host, isa, names, native, targets
from latebolt.kernels.vector.tiles import Layout

SAME = Path(__file__).with_name("same_in_tiles.py")
HAS_TILES = "amx_int8" in isa.available()


def run(*arguments: str, emulated: bool) -> str:
    """`same_in_tiles.py` in a process of its own, which may have code in the place of the instructions."""
    begin = "import emulated_tiles; emulated_tiles.emulate(); " if emulated else ""
    script = f"import sys, runpy; sys.path.insert(0, {str(SAME.parent)!r}); sys.argv[0] = {str(SAME)!r}; "
    script += f"{begin}runpy.run_path({str(SAME)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif("avx512_vnni" not in isa.available(), reason="what is compared with needs AVX-512 VNNI")
@pytest.mark.parametrize("seed", ["0", "1"])
def test_emulated_tiles_give_the_same_bits(seed):
    assert "87 answers are the same" in run(seed, emulated=True)


@pytest.mark.skipif(not HAS_TILES, reason="this CPU has no AMX")
@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_tiles_give_the_same_bits(seed):
    assert "87 answers are the same" in run(seed, emulated=False)


@pytest.mark.skipif(targets.host_is_arm(), reason="code for x86-64 is made on x86-64")
@pytest.mark.parametrize("name", ["maxsim_residual:128x2", "maxsim_residual:96x1x1", "maxsim_bytes:100"])
def test_tiles_are_given_back(name):
    """What is cut before the first product is released before the kernel returns, on every way out."""
    functions = re.split(r"@function$", compiler.assembly(name, "amx_int8"), flags=re.MULTILINE)
    [text] = [each for each in functions if "tdpbusd" in each]
    order = re.findall(r"^\s+(ldtilecfg|tdpbusd|tilerelease|retq)\b", text, re.MULTILINE)
    assert order.count("ldtilecfg") == 1 and order[0] == "ldtilecfg"
    returns = [i for i, each in enumerate(order) if each == "retq"]
    assert returns and all(order[i - 1] == "tilerelease" for i in returns)


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dim", [8, 60, 64, 100, 128, 192, 256, 1024])
def test_tiles_are_cut_for_every_width(dim, vectors):
    layout = Layout(vectors, dim)
    parts, cuts = layout.parts(), layout.cuts()
    assert [part.first for part in parts] == list(range(0, dim, 64)) and sum(p.size for p in parts) == dim
    assert set(cuts) <= set(range(8)) and set(range(vectors)) <= set(cuts)
    for i, part in enumerate(parts):
        assert cuts[part.document] == (16, part.size)
        for v in range(vectors):
            assert cuts[layout.query_tile(i, v)] == (part.size // 4, 64)
    held = {layout.query_tile(i, v) for i in range(len(parts)) for v in range(vectors)}
    assert not layout.holds_query() or len(held) == len(parts) * vectors


def test_only_what_multiplies_bytes_has_code_of_its_own(monkeypatch):
    everything = names.kernels_of([128], "amx_int8")
    own = names.compiled_for([128], "amx_int8")
    assert {name.partition(":")[0] for name in own} == {"maxsim_bytes", "maxsim_residual", "nearest_centroid"}
    assert set(everything) - set(own) <= set(names.compiled_for([128], "avx512_vnni"))
    loaded = []
    monkeypatch.setattr(native, "_loaded", {})
    monkeypatch.setattr(native, "_load", lambda name, code: loaded.append((name, code)))
    native.kernel("byte_table", "amx_int8")
    native.kernel("maxsim_bytes:128", "amx_int8")
    assert loaded == [("byte_table", "avx512_vnni"), ("maxsim_bytes:128", "amx_int8")]


class System:
    """Linux's answer to whoever asks for the tiles."""

    def __init__(self, answer: int) -> None:
        self.answer, self.asked = answer, []

    def __call__(self, name):
        return self

    @property
    def syscall(self):
        class Call:
            argtypes = restype = None

            def __call__(_, *arguments):  # noqa: N805
                self.asked.append(arguments)
                return self.answer

        return Call()


@pytest.fixture
def cpu_with_tiles(monkeypatch):
    """A process on Linux on such a CPU that has not asked yet."""
    monkeypatch.setattr(host, "features", lambda: frozenset.union(*isa.NEEDS.values()))
    monkeypatch.setattr(system.sys, "platform", "linux")
    monkeypatch.setattr(system.platform, "machine", lambda: "x86_64")
    for each in (host.tiles_allowed, isa.active):
        each.cache_clear()
    yield monkeypatch
    for each in (host.tiles_allowed, isa.active):
        each.cache_clear()


@pytest.mark.parametrize(("answer", "best"), [(0, "amx_int8"), (-1, "avx512_vnni")])
def test_the_system_is_asked_once_and_its_answer_holds(cpu_with_tiles, answer, best):
    system = System(answer)
    cpu_with_tiles.setattr(ctypes, "CDLL", system)
    assert [isa.available()[0] for _ in range(3)] == [best] * 3
    assert system.asked == [(158, 0x1023, 18)]


def test_a_system_that_is_not_linux_has_no_tiles(cpu_with_tiles):
    cpu_with_tiles.setattr(system.sys, "platform", "darwin")
    assert not host.tiles_allowed()


def test_a_cpu_without_tiles_is_not_asked_for_them(monkeypatch):
    monkeypatch.setattr(host, "features", lambda: isa.NEEDS["avx512_vnni"])
    monkeypatch.setattr(host, "tiles_allowed", lambda: pytest.fail("asked"))
    assert "amx_int8" not in isa.available()


def test_more_is_scored_exactly_where_that_is_cheaper():
    """In tiles, where the same segment would be pruned by the costs of AVX-512; never the reverse."""
    plain, tiled = planning.costs(in_tiles=False), planning.costs(in_tiles=True)
    ways = set()
    for n_query in (1, 8, 32, 100):
        for n_tokens in (10_000, 300_000, 1_200_000, 60_000_000):
            work = planning.Work(n_query, 128, 2, n_tokens, n_tokens // 100, 8192, 1.0, n_tokens)
            work = work._replace(share=1.0, n_stored=n_tokens)
            way = planning.decide(work, plain).way, planning.decide(work, tiled).way
            assert way != ("exact", "pruned")
            ways.add(way)
    assert ("pruned", "exact") in ways and ("pruned", "pruned") in ways


@pytest.mark.skipif(not HAS_TILES, reason="this CPU has no AMX")
def test_threads_and_forked_processes_have_the_permission(in_child):
    def work() -> bool:
        runpy.run_path(str(SAME))
        return True

    assert in_child(work)
