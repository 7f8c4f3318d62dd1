"""The kernel cache: found again, rebuilt when damaged, harmless when it cannot be written."""

from __future__ import annotations

import pytest

from latebolt.errors import InvalidInput
from latebolt.kernels import isa, native


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path))
    return tmp_path


def test_compiled_once_then_read(cache):
    first, was_cached = native.object_code("maxsim_float32", isa.active())
    assert not was_cached
    second, was_cached = native.object_code("maxsim_float32", isa.active())
    assert was_cached and second == first


def test_damaged_machine_code_is_never_loaded(cache):
    native.object_code("maxsim_float32", isa.active())
    [path] = cache.rglob("*.o")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    _, was_cached = native.object_code("maxsim_float32", isa.active())
    assert not was_cached
    _, was_cached = native.object_code("maxsim_float32", isa.active())
    assert was_cached


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "file"))
    code, was_cached = native.object_code("maxsim_float32", isa.active())
    assert code and not was_cached


def test_each_instruction_set_has_a_cache_of_its_own():
    assert len({native.cache_key(name) for name in isa.NEEDS}) == len(isa.NEEDS)


@pytest.mark.parametrize("name", ["maxsim_float32", "maxsim_float16"])
def test_arm_code_of_float_kernels_can_be_made_here(name):
    assert "fmla" in native.assembly(name, "neon_dot")


@pytest.mark.parametrize(
    ("isa_name", "instruction"),
    [("neon_dot", "sdot"), ("avx512_vnni", "vpdpbusd"), ("avx_vnni", "vpdpbusd"), ("avx2", "vpmaddubsw")],
)
def test_residual_code_uses_the_byte_dot_product(isa_name, instruction):
    if isa_name != "neon_dot" and isa_name not in isa.available():
        pytest.skip(f"no {isa_name} on this machine")
    text = native.assembly("maxsim_residual:128x2", isa_name)
    assert text.count(instruction) >= 8  # 4 document tokens x 2 registers of query tokens
    assert ("tbl" if isa_name == "neon_dot" else "pshufb") in text


@pytest.mark.skipif("avx512_vnni" not in isa.available(), reason="no AVX-512 on this machine")
def test_the_tile_keeps_its_sums_in_512_bit_registers():
    text = native.assembly("maxsim_float32", "avx512_vnni")
    assert text.count("vfmadd231ps") >= 12 and "zmm" in text


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("LATEBOLT_ISA", "mmx")
    isa.active.cache_clear()
    with pytest.raises(InvalidInput, match="LATEBOLT_ISA"):
        isa.active()
    monkeypatch.undo()
    isa.active.cache_clear()
