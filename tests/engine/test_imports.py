"""What importing and running latebolt may load: never torch, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import latebolt

ENGINE = Path(latebolt.__file__).parent
FORBIDDEN = {"torch", "transformers", "optimum"}
COMMANDS = [
    "demo",
    "index",
    "watch",
    "search",
    "rerank",
    "encode",
    "adopt",
    "bundle",
    "info",
    "check",
    "compact",
    "eval",
    "cost",
    "doctor",
    "trim",
    "serve",
    "mcp",
]


def loaded_after(code: str) -> set[str]:
    """Top-level modules loaded by a fresh interpreter that ran `code`."""
    script = code + "\nimport sys; print(' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


FIRST_USES = """
import importlib, sys, threading, msgspec
from latebolt.{module} import {name}
module = sys.modules["latebolt.{module}"]
sys.setswitchinterval(1e-6)
for _ in range(40):
    kind = importlib.reload(module).{name}
    ready = threading.Barrier(8)
    def use():
        ready.wait()
        try:
            msgspec.convert(dict.fromkeys(kind.__struct_fields__[::-1]), kind)
        except msgspec.ValidationError:
            pass
    threads = [threading.Thread(target=use) for _ in range(8)]
    for each in threads: each.start()
    for each in threads: each.join()
"""


@pytest.mark.parametrize("place", ["contract.Contract", "index.format.layout.Manifest"])
def test_types_are_ready_before_threads_meet_at_them(place):
    module, _, name = place.rpartition(".")
    done = subprocess.run([sys.executable, "-c", FIRST_USES.format(module=module, name=name)])
    assert done.returncode == 0


def test_importing_latebolt_loads_nothing_heavy():
    loaded = loaded_after("import latebolt")
    assert not loaded & {*FORBIDDEN, "numpy", "numba", "llvmlite", "onnxruntime", "tokenizers", "click"}


def test_import_takes_less_than_half_a_second():
    code = "import time; t = time.process_time(); import latebolt; print(time.process_time() - t)"
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=10) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.5


def test_using_everything_loads_no_torch(tmp_path):
    code = f"""
import latebolt
encoder = latebolt.Encoder.load()
index = latebolt.Index.create({str(tmp_path / "i")!r}, encoder)
index.add(["a cat", "a dog"])
assert index.search("kitten")
assert encoder.rerank("kitten", ["a cat", "a dog"])
"""
    assert not loaded_after(code) & FORBIDDEN


@functools.cache
def loaded_by(*arguments):
    """Top-level modules that a command which needs nothing loads."""
    return loaded_after(f"from latebolt.cli import run; assert run({list(arguments)!r}) == 0")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_loads_torch(command):
    assert not loaded_by(command, "--help") & FORBIDDEN


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)])
def test_help_loads_nothing_heavy(arguments):
    heavy = {"numpy", "numba", "llvmlite", "onnxruntime", "tokenizers", "msgspec", "filelock"}
    assert not loaded_by(*arguments) & heavy


def test_what_needs_no_model_loads_no_runtime(tmp_path, encoder):
    latebolt.Index.create(tmp_path / "i", encoder).add(["a cat", "a dog"])
    code = f"from latebolt.cli import run; assert run(['info', {str(tmp_path / 'i')!r}]) == 0"
    assert not loaded_after(code) & {"onnxruntime", "llvmlite", "numba"}


def test_a_search_loads_nothing_that_only_others_need(tmp_path, encoder):
    """Locks are for writers, near names for those who mistype, and versions are told by folders' names."""
    latebolt.Index.create(tmp_path / "i", encoder).add(["a cat", "a dog"])
    code = f"from latebolt.cli import run; assert run(['search', {str(tmp_path / 'i')!r}, 'kitten']) == 0"
    loaded_after(code)  # compiles what is missing
    assert not loaded_after(code) & {"filelock", "difflib", "email", "socket", "numba"}


def test_a_warm_search_does_not_import_numba(tmp_path, encoder):
    latebolt.Index.create(tmp_path / "i", encoder).add(["a cat", "a dog"])
    code = f"""
import latebolt
assert latebolt.Index.open({str(tmp_path / "i")!r}).search("kitten")
import sys
assert not [name for name in sys.modules if name.startswith("latebolt.gpu")]
"""
    loaded_after(code)  # compiles what is missing
    assert "numba" not in loaded_after(code)


def test_the_engine_never_names_torch_in_an_import():
    """An adapter may, inside a function, for callers who ask for tensors."""
    for path in ENGINE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        inner = {
            node
            for function in ast.walk(tree)
            if "adapters" in path.parts and isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            allowed = {"torch"} if node in inner else set()
            assert not {name.split(".")[0] for name in names} & (FORBIDDEN - allowed), path


@pytest.mark.parametrize("adapter", ["stanford", "ragatouille"])
def test_an_adapter_that_can_give_tensors_loads_no_torch(adapter):
    assert not loaded_after(f"import latebolt.adapters.{adapter}") & FORBIDDEN
