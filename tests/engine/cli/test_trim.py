"""`latebolt trim` takes what no search reads, nothing that is read, and says what it would take first."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from latebolt import unread
from latebolt.cli.trim import trim_command


class Record:
    """A file of a distribution, as importlib.metadata gives it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def locate(self) -> Path:
        return self.path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Writes packages' files by their names, and has them found; none else are installed."""

    def install(**packages: dict[str, bytes]) -> Path:
        for files in packages.values():
            for name, content in files.items():
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

        def files(name: str) -> list[Record]:
            if name not in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return [Record(tmp_path / each) for each in packages[name]]

        monkeypatch.setattr("importlib.metadata.files", files)
        return tmp_path

    return install


RUNTIME = {
    "onnxruntime/capi/libonnxruntime.so.1.32.0": b"\x7fELF libonnxruntime.so.1",
    "onnxruntime/capi/libonnxruntime_providers_shared.so": b"\x7fELF",
    "onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so": b"\x7fELF libc.so.6",
}
NUMPY = {"numpy/tests/test_all.py": b"1", "numpy/testing/__init__.py": b"", "numpy/ma/tests/data.bin": b"12"}


def test_it_lists_and_then_removes(installed):
    root = installed(onnxruntime=RUNTIME, numpy=NUMPY)
    listed = json.loads(CliRunner().invoke(trim_command, ["--json"]).stdout)
    gone = {"onnxruntime/capi/libonnxruntime.so.1.32.0", "numpy/tests/test_all.py", "numpy/ma/tests/data.bin"}
    assert {Path(name).relative_to(root).as_posix() for name in listed["files"]} == gone
    assert not listed["removed"] and all((root / name).exists() for name in gone)
    done = CliRunner().invoke(trim_command, ["--yes"])
    assert done.exit_code == 0 and "removed 3 files" in done.stdout
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == {
        *RUNTIME,
        *NUMPY,
    } - gone
    assert not (root / "numpy/tests").exists() and unread.find() == []


def test_a_library_that_another_loads_stays(installed):
    module = "onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so"
    installed(onnxruntime={**RUNTIME, module: b"\x7fELF NEEDED libonnxruntime.so.1\0"})
    assert unread.find() == []


def test_where_nothing_is_installed_there_is_nothing_to_take(installed):
    installed()
    assert CliRunner().invoke(trim_command, []).stdout.startswith("0 files")


def test_it_finds_the_copy_that_is_installed_here():
    """What is known of ONNX Runtime's wheel is still so; where a newer one has no copy, that is known too."""
    capi = Path(importlib.metadata.distribution("onnxruntime").locate_file("onnxruntime/capi"))
    copies = set(capi.glob("libonnxruntime.so.*"))
    assert copies <= set(unread.find())
