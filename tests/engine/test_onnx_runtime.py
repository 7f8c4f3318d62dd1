"""Nothing leaves the machine: ONNX Runtime reports to its maker unless it is told beforehand not to."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import latebolt
from latebolt.onnx_runtime import TELEMETRY

ENGINE = Path(latebolt.__file__).parent
EXPORT = ENGINE.parents[1] / "export" / "latebolt_export"

ENCODE = """
import time, latebolt
latebolt.Encoder.load("starter", threads=1).encode_queries(["hello"])
time.sleep(2)  # what reports, begins with it by now
"""


def child(home: Path, code: str, prefix: tuple[str, ...] = (), **environment: str) -> str:
    """What a process without settings prints, in an empty home.

    ONNX Runtime reports nothing where `CI` is set, so what it does elsewhere is looked at without.
    """
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k not in (TELEMETRY, "CI") and not k.startswith("XDG_")}
    own = {"HOME": str(home), "TMPDIR": str(home), **environment}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code], env={**kept, **own}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def left(home: Path) -> list[Path]:
    """Files that are not our own compiled kernels."""
    return [
        path for path in home.rglob("*") if path.is_file() and "latebolt" not in str(path.relative_to(home))
    ]


def test_encoding_leaves_nothing_in_a_fresh_home(tmp_path):
    child(tmp_path / "home", ENCODE)
    assert left(tmp_path / "home") == []


def test_whoever_wants_the_reports_keeps_them(tmp_path):
    """And so the test above sees what it looks for."""
    import onnxruntime

    if sys.platform == "win32" or tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 29):
        pytest.skip("this ONNX Runtime reports nothing, or elsewhere")
    # Not for the network: it ends before the first report would go.
    child(tmp_path / "home", ENCODE.replace("sleep(2)", "sleep(0)"), **{TELEMETRY: "0"})
    assert left(tmp_path / "home")


def test_encoding_opens_no_connection(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    child(tmp_path / "home", ENCODE, ("strace", "-f", "-qq", "-e", "trace=%network", "-o", str(trace)))
    calls = [line for line in trace.read_text().splitlines() if "AF_UNIX" not in line]
    assert not [line for line in calls if "AF_INET" in line]


@pytest.mark.parametrize(
    "first",
    (
        "import latebolt",
        "import latebolt.index.index",
        "import latebolt.cli",
        "import latebolt.serve.http.app",
        "import latebolt.adapters.stanford",
    ),
)
def test_it_is_off_before_anything_can_load_the_library(tmp_path, first):
    code = f"""
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            import os
            assert os.environ.get("{TELEMETRY}") == "1"
sys.meta_path.insert(0, Watch())
{first}
import onnxruntime, subprocess
assert subprocess.run([sys.executable, "-c", "import os; print(os.environ['{TELEMETRY}'])"]).returncode == 0
"""
    assert child(tmp_path / "home", code) == "1"


def test_a_library_that_is_loaded_already_is_told_by_its_own_switch(tmp_path):
    code = """
import onnxruntime
calls = []
onnxruntime.disable_telemetry_events = lambda: calls.append(1)
import latebolt
print(len(calls))
"""
    assert child(tmp_path / "home", code) == "1"
    assert child(tmp_path / "home", code, **{TELEMETRY: "0"}) == "0"


def test_one_module_imports_it():
    """Parts of it that only the exporter uses aside, whose package begins with latebolt."""
    found = []
    for path in [*ENGINE.rglob("*.py"), *EXPORT.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [path.name for name in names if name == "onnxruntime"]
    assert found == ["onnx_runtime.py"]
    if EXPORT.is_dir():
        body = ast.parse((EXPORT / "__init__.py").read_text()).body
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert isinstance(imports[1], ast.Import) and imports[1].names[0].name == "latebolt"
