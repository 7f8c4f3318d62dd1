"""Kernels compiled ahead of time: the same bits as compiled here, used only if they fit, and then
nothing of the compilers is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from latebolt import Index, TokenVectors
from latebolt.errors import InvalidInput, LateboltError, RuntimeUnavailable
from latebolt.kernels import build, compiled, compiler, host, isa, names, native, targets
from latebolt.kernels.ahead import link, loaded, manifest, objects, registers
from latebolt.kernels.centroids import (
    centroid_levels,
    centroid_scores,
    maxsim_centroids,
    nearest,
    nearest_cells,
)
from latebolt.kernels.groups import grouped_centroids, nearest_grouped
from latebolt.kernels.list_centroids import StoredTokens, choose_lists, cluster, decode, nearest_list
from latebolt.kernels.lists import count_lists, fill_lists, gather
from latebolt.kernels.maxsim import (
    ResidualArrays,
    maxsim_arrays,
    maxsim_bytes,
    maxsim_residual,
    residual_query,
)
from latebolt.kernels.residual import encode_residual
from latebolt.kernels.shapes import MAX_QUERY_TOKENS, N_ARGUMENTS

DIM = 64  # whose kernels other tests have compiled
LINUX = sys.platform == "linux"
pytestmark = pytest.mark.skipif(not LINUX, reason="libraries of kernels are for Linux")


def use(monkeypatch: pytest.MonkeyPatch, kernels: str | Path, isa_name: str = "") -> None:
    """This process begins anew with its kernels."""
    monkeypatch.setenv("LATEBOLT_KERNELS", str(kernels))
    monkeypatch.setenv("LATEBOLT_ISA", isa_name)
    monkeypatch.setattr(native, "_loaded", {})
    loaded._found.cache_clear()
    host.features.cache_clear()
    isa.active.cache_clear()


@pytest.fixture(autouse=True)
def as_before():
    yield
    loaded._found.cache_clear()
    host.features.cache_clear()
    isa.active.cache_clear()


def outputs() -> dict[str, np.ndarray]:
    """What every kernel makes of the same numbers."""
    rng = np.random.default_rng(7)
    offsets = np.array([0, 0, 3, 20, 29])
    query = rng.standard_normal((40, DIM)).astype(np.float32)
    values = rng.standard_normal((29, DIM)).astype(np.float32)
    spread = (rng.random(DIM) / 50).astype(np.float32)
    nine = rng.standard_normal((9, DIM)).astype(np.float32)
    cells = rng.integers(0, 9, 29).astype(np.uint16)
    found = {
        "float32": maxsim_arrays(query, values, offsets),
        "float16": maxsim_arrays(query, values.astype(np.float16), offsets),
        "bytes": maxsim_bytes(
            query,
            rng.integers(0, 128, (29, DIM)).astype(np.uint8),
            rng.random(29).astype(np.float32),
            offsets,
        ),
        "nearest": nearest(values, centroid_levels(nine)),
        "grouped": nearest_grouped(
            values, grouped_centroids(query, values[:16], np.arange(40)[:, None] % 16)
        ),
    }
    for bits in (1, 2, 4):
        weights = np.arange(2**bits, dtype=np.float32) - 1.5
        factors = rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32)
        made = encode_residual(values, cells.astype(np.int64), nine, spread, weights, 3.0, factors)
        found |= {f"{name} {bits}": getattr(made, name) for name in made._fields}
        levels = np.zeros(16, np.uint8)
        levels[: 2**bits] = np.linspace(0, 127, 2**bits)
        store = ResidualArrays(made.codes, cells, made.norms, factors, levels)
        for n_query in (1, 7, 12, 40):
            prepared = residual_query(query[:n_query], nine, spread)
            found[f"table {bits} {n_query}"] = prepared.table
            found[f"residual {bits} {n_query}"] = maxsim_residual(prepared, store, bits, offsets)
        tokens = StoredTokens(cells, made.codes, made.norms, factors, weights, spread, nine)
        found[f"decoded {bits}"] = vectors = decode(tokens, np.arange(29))
        starts = np.arange(0, 19, 2)
        found[f"clustered {bits}"] = own = cluster(vectors, np.array([0, 15, 29]), np.array([0, 9, 18]), 2)
        found[f"lists {bits}"] = np.empty(29, np.uint32)
        nearest_list(tokens, starts, own, found[f"lists {bits}"])
        looked, ends = np.array([[0, 9], [9, 18]]), np.array([0, 1, 2])
        found[f"chosen lists {bits}"] = choose_lists(query[:2], looked, ends, own, np.arange(19), 5, 0.01)
    scores = centroid_scores(nine @ query.T)
    found |= {
        "cells": np.stack(nearest_cells(scores, 4)),
        "byte table": scores.table,
        "centroids": maxsim_centroids(scores, cells, offsets),
    }
    counts = count_lists(cells, offsets, 9)
    lists = fill_lists(cells, offsets, 0, counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    probes = np.array(
        [[ends[c], ends[c + 1], 200 - c, token] for token in (1, 2) for c in range(token, 9, 2)]
    )
    gains = gather(lists, probes, 4)
    return {**found, "lists": lists, "rows": gains.rows, "sums": gains.sums}


class Made:
    """A library of the kernels that `outputs` asks for, on every instruction set of this machine, and what
    they made when they were compiled here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, dict[str, np.ndarray]] = {}
        self.kernels: list[objects.Wanted] = []
        with pytest.MonkeyPatch.context() as patch:
            use(patch, "jit")
            for name in isa.available():
                use(patch, "jit", name)
                self.outputs[name] = outputs()
                self.kernels += [objects.Wanted(*key) for key in native._loaded]
        self.kernels = list(dict.fromkeys(self.kernels))  # of instruction sets that share code
        scratch = folder / "objects"
        scratch.mkdir()
        for name, isa_name in self.kernels:
            code, _ = compiled.object_code(name, isa_name)
            (scratch / f"{compiler.symbol(name, isa_name)}.o").write_bytes(code)
        platform = manifest.this_platform()
        self.architecture = build.PLATFORMS[platform]
        if self.architecture == "x86_64":
            objects.write_registers(scratch)
        try:
            self.about = build.put_together(scratch, platform, folder, (DIM,), len(self.kernels))
        except RuntimeUnavailable as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("library"))


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> SimpleNamespace:
    """A folder with the library that a test may spoil."""
    for name in (manifest.LIBRARY, manifest.MANIFEST):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    return SimpleNamespace(
        folder=tmp_path,
        library=tmp_path / manifest.LIBRARY,
        manifest=tmp_path / manifest.MANIFEST,
        change=lambda **fields: (tmp_path / manifest.MANIFEST).write_bytes(
            msgspec.json.encode({**json.loads(msgspec.json.encode(made.about)), **fields})
        ),
    )


@pytest.fixture
def no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment that has neither numba nor llvmlite, and nothing compiled."""
    for name in [each for each in sys.modules if each.split(".")[0] in ("numba", "llvmlite")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("numba", "llvmlite"):
        monkeypatch.setitem(sys.modules, name, None)
    compiler.llvm.cache_clear()
    compiled.cache_key.cache_clear()


def test_the_library_makes_the_same_bits(made, monkeypatch):
    """Of every family of kernels, on every instruction set that this machine has."""
    assert {name.partition(":")[0] for name, _ in made.kernels} == N_ARGUMENTS.keys()
    monkeypatch.setattr(compiled, "load", None)  # nothing is compiled here
    for name, expected in made.outputs.items():
        use(monkeypatch, made.folder, name)
        found = outputs()
        assert found.keys() == expected.keys()
        for what, array in found.items():
            assert array.tobytes() == expected[what].tobytes(), (name, what)


def test_what_is_built_is_what_this_machine_compiles(made):
    """So the library above, of code from the cache, stands for one that is built."""
    name, isa_name = "byte_table", isa.available()[0]
    built = compiler.compile_object(name, isa_name, made.architecture)
    assert built == compiled.object_code(name, isa_name)[0]


def test_what_is_compiled_does_not_depend_on_who_uses_numba(monkeypatch):
    """Another CPU's tuning unrolls loops elsewise, and sums of floats change in their last bits."""
    from numba.core import config

    expected = compiler.compile_object("byte_table", "portable")
    compiler._numba_target.cache_clear()
    monkeypatch.setattr(config, "CPU_NAME", "x86-64-v3" if not targets.host_is_arm() else "cortex-a76")
    assert compiler.compile_object("byte_table", "portable") == expected
    assert config.CPU_NAME in ("x86-64-v3", "cortex-a76")


def test_the_library_shows_its_kernels_and_asks_for_nothing(made):
    def read(*options: str) -> str:
        done = subprocess.run(["readelf", *options, made.folder / manifest.LIBRARY], capture_output=True)
        return done.stdout.decode()

    try:
        symbols = [line.split() for line in read("--dyn-syms", "-W").splitlines()]
    except FileNotFoundError:
        pytest.skip("no readelf here")
    shown = {each[7] for each in symbols if len(each) == 8 and each[6] != "UND" and each[4] == "GLOBAL"}
    wanted = {compiler.symbol(name, isa_name) for name, isa_name in made.kernels}
    assert shown - {registers.CPUID, registers.XGETBV} == wanted
    asked = {each[7] for each in symbols if len(each) == 8 and each[6] == "UND" and each[0] != "0:"}
    assert asked <= compiler.ALLOWED_SYMBOLS
    assert "NEEDED" not in read("-d") and ".symtab" not in read("-S")


def test_a_search_with_the_library_loads_no_compiler(made, tmp_path, rng):
    index = Index.create(tmp_path / "i", None, dim=DIM)
    index.add_vectors(None, TokenVectors(rng.unit(400, DIM), np.arange(0, 401, 20)))
    code = f"""
import sys, numpy
from latebolt import Index
from latebolt.kernels import isa
index = Index.open({str(index.path)!r})
print(len(index.search_vectors(numpy.eye(7, {DIM}, dtype="float32"))), isa.active())
print({{name.split(".")[0] for name in sys.modules}} & {{"numba", "llvmlite"}})
"""
    ways = {"LATEBOLT_KERNELS": str(made.folder), "LATEBOLT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ways}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"10 {isa.available()[0]}", "set()"]
    assert not (tmp_path / "cache").exists()  # nothing was compiled and kept


def test_the_machine_is_known_as_llvm_knows_it(made, monkeypatch):
    use(monkeypatch, made.folder)
    assert loaded.library() is not None
    known = frozenset.union(*isa.NEEDS.values())
    expected = host.llvm_features() & known
    assert host.features() & known == expected
    from_library = isa.available()
    use(monkeypatch, "jit")
    assert loaded.library() is None and isa.available() == from_library


ALL = 2**32 - 1
EVERYTHING = registers.Registers(dict.fromkeys(("1", "7", "7.1", "80000001"), (ALL,) * 4), 0x600E7)


def without(leaf: str, register: int, *bits: int) -> registers.Registers:
    """A CPU that has everything but what some bits say."""
    found = list(EVERYTHING.leaves[leaf])
    found[register] = ALL & ~sum(1 << bit for bit in bits)
    return EVERYTHING._replace(leaves={**EVERYTHING.leaves, leaf: tuple(found)})


@pytest.mark.parametrize(
    ("given", "best"),
    [
        (EVERYTHING, "amx_int8"),
        (EVERYTHING._replace(xcr0=0x200E7), "avx512_vnni"),  # how tiles are cut is kept, not the tiles
        (EVERYTHING._replace(xcr0=0x60067), "avx_vnni"),  # tiles, and half of the 512-bit registers
        (without("7", 3, 24), "avx512_vnni"),  # no tiles
        (without("7", 3, 25), "avx512_vnni"),  # tiles of 16-bit floats alone
        (EVERYTHING._replace(xcr0=0x07), "avx_vnni"),  # the system keeps no 512-bit registers
        (EVERYTHING._replace(xcr0=0x67), "avx_vnni"),  # nor half of them
        (EVERYTHING._replace(xcr0=0x03), "portable"),  # nor 256-bit ones
        (EVERYTHING._replace(xcr0=0x00), "portable"),
        (without("1", 2, 27), "portable"),  # no OSXSAVE: what stands in XCR0 is nobody's word
        (without("7.1", 0, 4)._replace(xcr0=0x07), "avx2"),
        (without("7", 2, 11), "avx_vnni"),  # AVX-512 without its VNNI, as Skylake's
        (without("7", 1, 30, 31), "avx_vnni"),  # without bytes and narrower registers, as Knights Mill's
        (without("1", 2, 22), "portable"),  # no MOVBE, which the compiler may use
        (without("80000001", 2, 5), "portable"),  # no LZCNT, which would run as another instruction
    ],
)
def test_registers_that_the_system_does_not_keep_are_not_used(monkeypatch, given, best):
    monkeypatch.setattr(host, "features", lambda: host.x86_features(given))
    monkeypatch.setattr(host, "tiles_allowed", lambda: True)
    assert isa.available()[0] == best


def test_leaves_past_the_last_are_not_read():
    """A CPU that ends at leaf 1 gives whatever it likes for 7."""

    class Function:
        argtypes = restype = None

        def __call__(self, out: int, leaf: int, sub: int) -> None:
            import ctypes

            ends = {0: 1, 0x80000000: 0x80000000}
            values = [ends.get(leaf, 0xFFFFFFFF)] * 4
            if leaf == 1:
                values = [0, 0, 0, 0]  # no OSXSAVE, so XGETBV must not run
            ctypes.memmove(out, (ctypes.c_uint32 * 4)(*values), 16)

    found = registers.read({registers.CPUID: Function(), registers.XGETBV: lambda *_: 1 / 0} | {})
    assert found == registers.Registers(dict.fromkeys(("1", "7", "7.1", "80000001"), (0, 0, 0, 0)), 0)


def test_arm_is_known_by_the_auxiliary_vector():
    assert host.arm_features(1 << 1 | 1 << 20) == {"neon", "dotprod"}
    assert host.arm_features(1 << 1 | 1 << 4) == {"neon"}


@pytest.mark.parametrize(
    ("capabilities", "sets"),
    [(1 << 1 | 1 << 20, ["neon_dot", "neon", "portable"]), (1 << 1, ["neon", "portable"])],
)
def test_an_arm_cpu_is_known_without_llvm_and_library(monkeypatch, capabilities, sets):
    """LLVM 22 knows no dot product of Linux on ARM: kernels of twice the instructions would be chosen."""
    monkeypatch.setattr(targets, "host_is_arm", lambda: True)
    monkeypatch.setattr(host, "_auxiliary", lambda kind: capabilities if kind == 16 else 0)
    monkeypatch.setattr(host, "llvm_features", lambda: pytest.fail("LLVM was asked"))
    monkeypatch.setattr(host, "features", host.features.__wrapped__)
    assert isa.available() == sets


def test_another_system_on_arm_is_known_as_llvm_knows_it(monkeypatch):
    monkeypatch.setattr(targets, "host_is_arm", lambda: True)
    monkeypatch.setattr(host.ctypes, "CDLL", lambda name: object())  # as macOS' C library: no such function
    monkeypatch.setattr(host.loaded, "library", lambda: None)
    monkeypatch.setattr(host, "llvm_features", lambda: frozenset({"neon", "dotprod"}))
    assert host.features.__wrapped__() == {"neon", "dotprod"}


@pytest.mark.parametrize(
    "way", ("damaged", "cut", "gone", "other sources", "other platform", "newer", "no JSON")
)
def test_a_library_that_does_not_fit_is_left_alone_and_told_once(copy, way, monkeypatch, caplog):
    content = bytearray(copy.library.read_bytes())
    if way == "damaged":
        content[len(content) // 2] ^= 1
        copy.library.write_bytes(content)
    elif way == "cut":
        copy.library.write_bytes(content[:-1])
    elif way == "gone":
        copy.library.unlink()
    elif way == "no JSON":
        copy.manifest.write_bytes(copy.manifest.read_bytes()[:-9])
    else:
        copy.change(**{
            "other sources": {"sources": "0" * 24}, "other platform": {"platform": "linux-riscv64"},
            "newer": {"version": 2},
        }[way])  # fmt: skip
    use(monkeypatch, copy.folder)
    with caplog.at_level("WARNING", "latebolt"):
        for _ in range(2):
            assert callable(native.kernel("byte_table"))  # compiled here, as numba is there
        assert loaded.library() is None
    [told] = caplog.messages
    assert str(copy.folder) in told and "\n" not in told
    says = {
        "damaged": "damaged", "cut": "damaged", "gone": "cannot be read", "other sources": "other sources",
        "other platform": "linux-riscv64", "newer": "version 2", "no JSON": "no manifest",
    }[way]  # fmt: skip
    assert says in told and says in native.describe()


def test_no_library_at_all_is_no_fault(tmp_path, monkeypatch, caplog):
    use(monkeypatch, tmp_path)
    assert callable(native.kernel("byte_table")) and not caplog.messages
    assert str(tmp_path) in native.describe()


@pytest.mark.usefixtures("no_numba")
def test_a_shape_that_is_nowhere_says_what_to_install(made, monkeypatch, tmp_path):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path))
    use(monkeypatch, made.folder)
    assert callable(native.kernel("byte_table"))
    with pytest.raises(RuntimeUnavailable, match=r"maxsim_bytes:100 .* widths 64.*latebolt\[jit\]") as caught:
        maxsim_bytes(
            np.zeros((1, 100), np.float32), np.zeros((1, 100), np.uint8), np.ones(1, np.float32), np.arange(2)
        )
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_numba")
def test_without_library_and_numba_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path))
    use(monkeypatch, tmp_path)
    with pytest.raises(RuntimeUnavailable, match=r"no library of compiled kernels.*latebolt\[jit\]"):
        native.kernel("byte_table")
    native.get_ready()  # and who asks for a kernel is told


def test_the_way_can_be_forced(made, monkeypatch, tmp_path):
    use(monkeypatch, made.folder)
    assert loaded.library() is not None and "ahead of time" in native.describe()
    assert callable(native.kernel("maxsim_bytes:8", isa.active()))  # compiled here, as the library lacks it
    use(monkeypatch, "jit")
    assert callable(native.kernel("byte_table")) and "LATEBOLT_KERNELS=jit" in native.describe()
    monkeypatch.setattr(loaded, "PLACE", tmp_path)
    (tmp_path / manifest.this_platform()).symlink_to(made.folder)
    use(monkeypatch, "ahead")
    assert callable(native.kernel("byte_table"))
    with pytest.raises(RuntimeUnavailable, match="LATEBOLT_KERNELS=ahead"):
        native.kernel("maxsim_bytes:8")
    (tmp_path / manifest.this_platform()).unlink()
    use(monkeypatch, "ahead")
    with pytest.raises(RuntimeUnavailable, match="no library of compiled kernels"):
        native.kernel("byte_table", "portable")
    use(monkeypatch, "both")
    with pytest.raises(InvalidInput, match=r'LATEBOLT_KERNELS should be .*"both"'):
        loaded.library()


def test_the_command_builds_what_a_process_uses(tmp_path, monkeypatch, capsys):
    """One kernel of each instruction set, in two processes of its own; for ARM, too, where ld.lld is here."""
    here = manifest.this_platform()
    few = [
        objects.Wanted("maxsim_bytes:16", name) for name in targets.INSTRUCTION_SETS[build.PLATFORMS[here]]
    ]
    monkeypatch.setattr(objects, "wanted", lambda *_: few)
    assert build.main(["--out", str(tmp_path), "--dims", "16", "--jobs", "1"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told["kernels"] == len(few) and told["bytes"] == (tmp_path / here / "kernels.so").stat().st_size
    use(monkeypatch, tmp_path / here)
    for name in isa.available():
        assert loaded.library().kernel("maxsim_bytes:16", name) is not None
    assert [path.name for path in sorted((tmp_path / here).iterdir())] == ["kernels.json", "kernels.so"]


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    for arguments, says in ((["--dims", "12"], "multiples of 8, got 12"), (["--jobs", "0"], "at least 1")):
        with pytest.raises(SystemExit, match="2"):
            build.main(arguments)
        assert says in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert build.main(["--out", str(tmp_path / "file")]) == 1
    assert f"{tmp_path}/file" in capsys.readouterr().err
    monkeypatch.setattr(link.shutil, "which", lambda _: None)
    monkeypatch.setattr(link.util, "find_spec", lambda _: None)
    assert build.main(["--out", str(tmp_path)]) == 1
    assert "latebolt[build]" in capsys.readouterr().err
    monkeypatch.undo()
    (tmp_path / "no.o").write_bytes(b"no object")
    with pytest.raises(LateboltError, match="linker ended with"):
        link.link([tmp_path / "no.o"], build.PLATFORMS[manifest.this_platform()], tmp_path / "out.so")


def test_a_child_has_the_library_of_its_parent(made, monkeypatch, in_child):
    use(monkeypatch, made.folder)
    native.kernel("byte_table")

    def work() -> bool:
        native.kernel("byte_table")
        return native.kernel("fill_lists") is not None and outputs() is not None

    assert in_child(work)


def test_every_query_has_a_kernel():
    """Of any length, at any width of vectors: what is asked for is what libraries are built of."""
    for isa_name, width in targets.WIDTH.items():
        known = set(names.kernels_of([96], isa_name))
        for n in range(1, MAX_QUERY_TOKENS + 1):
            assert f"maxsim_centroids:{names.centroid_columns(n)}" in known
        for n in range(1, 2 * width):
            parts = names.residual_parts(n, 96, isa_name) if n <= width else 1
            assert names.residual_kernel(96, 2, 1 if n <= width else 2, parts) in known
    columns = sorted({names.centroid_columns(n) for n in range(1, MAX_QUERY_TOKENS + 1)})
    assert columns[:4] == [16, 32, 64, 96] and columns[-1] == MAX_QUERY_TOKENS and len(columns) < 40
    assert all(n <= names.centroid_columns(n) <= max(32, 1.25 * n + 32) for n in range(17, 8193))


def test_instruction_sets_are_known_everywhere():
    listed = {name for sets in targets.INSTRUCTION_SETS.values() for name in sets}
    assert listed == isa.NEEDS.keys() == targets.WIDTH.keys()
    assert list(isa.NEEDS)[-1] == "portable"
