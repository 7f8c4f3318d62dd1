"""The kernel cache: found again, rebuilt when damaged or not ours, harmless when it cannot be written; and
loading kernels while others are compiled."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import pytest

from latebolt.errors import InvalidInput
from latebolt.kernels import compiled, compiler, isa, native, targets
from latebolt.kernels.shapes import N_ARGUMENTS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path))
    monkeypatch.setenv("LATEBOLT_KERNELS", "jit")
    return tmp_path


def test_compiled_once_then_read(cache):
    first, was_cached = compiled.object_code("maxsim_float32", isa.active())
    assert not was_cached
    second, was_cached = compiled.object_code("maxsim_float32", isa.active())
    assert was_cached and second == first


def test_damaged_machine_code_is_never_loaded(cache):
    compiled.object_code("maxsim_float32", isa.active())
    [path] = cache.rglob("*.o")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    _, was_cached = compiled.object_code("maxsim_float32", isa.active())
    assert not was_cached
    _, was_cached = compiled.object_code("maxsim_float32", isa.active())
    assert was_cached


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "file"))
    code, was_cached = compiled.object_code("maxsim_float32", isa.active())
    assert code and not was_cached


def test_that_it_cannot_be_written_is_told_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(compiler, "compile_object", lambda *_: b"code")
    with caplog.at_level("INFO", "latebolt"):
        for name in sorted(N_ARGUMENTS):
            compiled.object_code(name, isa.active())
    [told] = caplog.messages
    assert str(tmp_path) in told and "LATEBOLT_CACHE" in told and len(N_ARGUMENTS) > 4


@pytest.mark.parametrize("place", (".o", "key", "kernels", "root"))
def test_machine_code_that_others_could_have_written_is_never_loaded(cache, place):
    if not hasattr(os, "geteuid"):
        pytest.skip("no owners of files on this system")
    name, planted = "byte_table", b"other machine code"
    compiled.object_code(name, isa.active())
    [path] = cache.rglob("*.o")
    path.write_bytes(hashlib.blake2b(planted, digest_size=compiled._DIGEST).digest() + planted)
    assert compiled.object_code(name, isa.active()) == (planted, True)  # no checksum protects from intent
    {".o": path, "key": path.parent, "kernels": path.parent.parent, "root": cache}[place].chmod(0o777)
    code, was_cached = compiled.object_code(name, isa.active())
    assert code != planted and not was_cached
    assert compiled.object_code(name, isa.active()) == (code, True)


@pytest.fixture
def slow_compile(cache, monkeypatch):
    """Compiling takes half a second in a thread that holds the lock; gives that thread."""
    begun = threading.Event()
    native.kernel("byte_table")
    real = compiler.compile_object

    def compile_object(name, isa_name):
        begun.set()
        time.sleep(0.5)
        return real(name, isa_name)

    monkeypatch.setattr(compiler, "compile_object", compile_object)
    monkeypatch.setattr(native, "_loaded", dict(native._loaded))
    native._loaded.pop(("fill_lists", targets.code_of("fill_lists", isa.active())), None)
    thread = threading.Thread(target=native.kernel, args=("fill_lists",))
    thread.start()
    begun.wait()
    yield thread
    thread.join()


def test_a_loaded_kernel_waits_for_no_compile(slow_compile):
    native.kernel("byte_table")
    assert slow_compile.is_alive()


def test_a_child_forked_during_a_compile_loads_and_compiles(slow_compile, in_child):
    def work():
        native.kernel("byte_table")
        native.kernel("gather_lists")
        return True

    native._loaded.pop(("gather_lists", targets.code_of("gather_lists", isa.active())), None)
    assert in_child(work)


def test_the_cache_knows_every_module_that_kernels_are_made_from():
    """One left out could change, and old machine code would go on running."""
    script = (
        "import sys, latebolt.kernels.compiler, latebolt.kernels.programs.build\n"
        "print(*(m.__file__ for name, m in sys.modules.items() if name.startswith('latebolt.kernels.')))"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    used = set(map(Path, made.stdout.split()))
    assert len(used) > 10 and used == set(compiler.sources())


def test_a_changed_source_makes_another_cache(tmp_path, monkeypatch):
    copies = [
        Path(shutil.copy(path, tmp_path / f"{i}{path.name}")) for i, path in enumerate(compiler.sources())
    ]
    monkeypatch.setattr(compiler, "sources", lambda: copies)
    keys = {compiled.cache_key.__wrapped__("avx2")}
    for path in copies:
        path.write_text(path.read_text() + "# changed")
        keys.add(compiled.cache_key.__wrapped__("avx2"))
    assert len(keys) == len(copies) + 1


def test_each_instruction_set_has_a_cache_of_its_own():
    assert len({compiled.cache_key(name) for name in isa.NEEDS}) == len(isa.NEEDS)


@pytest.mark.parametrize("name", ["maxsim_float32", "maxsim_float16"])
def test_arm_code_of_float_kernels_can_be_made_here(name):
    assert "fmla" in compiler.assembly(name, "neon_dot")


@pytest.mark.parametrize(
    ("isa_name", "instruction"),
    [
        ("neon_dot", "sdot"),
        ("neon", "sadalp"),
        ("amx_int8", "tdpbusd"),
        ("avx512_vnni", "vpdpbusd"),
        ("avx_vnni", "vpdpbusd"),
        ("avx2", "vpmaddubsw"),
    ],
)
def test_residual_code_uses_the_byte_dot_product(isa_name, instruction):
    if not isa_name.startswith("neon") and targets.host_is_arm():
        pytest.skip("code for x86-64 is made on x86-64")
    text = compiler.assembly("maxsim_residual:128x2", isa_name)
    assert text.count(instruction) >= 8  # 4 document tokens x 2 registers of query tokens
    assert ("tbl" if isa_name.startswith("neon") else "pshufb") in text


@pytest.mark.skipif(targets.host_is_arm(), reason="code for x86-64 is made on x86-64")
def test_the_tile_keeps_its_sums_in_512_bit_registers():
    text = compiler.assembly("maxsim_float32", "avx512_vnni")
    assert text.count("vfmadd231ps") >= 12 and "zmm" in text


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("LATEBOLT_ISA", "mmx")
    isa.active.cache_clear()
    with pytest.raises(InvalidInput, match="LATEBOLT_ISA"):
        isa.active()
    monkeypatch.undo()
    isa.active.cache_clear()


def test_numba_is_known_by_the_name_of_its_metadata(tmp_path, monkeypatch):
    assert compiled._numba_version() == metadata.version("numba")
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    for name, version in (("numba-1.2.3.dist-info", "1.2.3"), ("numba-1.2.4.dist-info", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 9.9.9\n")
        # Two of them, as an upgrade that was interrupted leaves them: then what is in there decides.
        assert compiled._numba_version() == (version or "9.9.9")


ONE_HOLE = """
import ctypes, mmap
from latebolt.kernels import compiled, isa
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
FLAGS, NO_REPLACE, SIZE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, 0x100000, 3 << 30
NAME = "maxsim_residual:128x2x1"

def fill_gaps():
    lines = open("/proc/self/maps").read().splitlines()
    spans = [[int(x, 16) for x in line.split()[0].split("-")] for line in lines]
    for (_, start), (stop, _) in zip(spans, spans[1:]):
        if start >= 1 << 46 and stop < 1 << 47 and stop > start:  # where mappings go, below the kernel's own
            libc.mmap(start, stop - start, 0, FLAGS | NO_REPLACE, -1, 0)

compiled.load(NAME, isa.active())
for pages in range(1, 9):  # one of these holes has room for the code and for nothing else
    start = libc.mmap(None, SIZE, 0, FLAGS, -1, 0)
    fill_gaps()
    libc.munmap(start + SIZE - pages * mmap.PAGESIZE, pages * mmap.PAGESIZE)
    compiled.load(NAME, isa.active())
print("loaded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="takes the address space as Linux gives it")
def test_kernels_load_where_the_address_space_is_full_of_mapped_files():
    """LLVM ended the process where a kernel's code and its constants came to lie more than 2 GB apart."""
    done = subprocess.run([sys.executable, "-c", ONE_HOLE], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "loaded\n", done.stderr[-2000:]
