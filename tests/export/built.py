"""The built-in models as their recipes build them, in float32 beside int8: once for all workers.

The starter is built by the benchmark of exports, in a process whose memory that measures.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from as_found import as_found
from latebolt_export import multilingual, starter
from latebolt_export.judge import parity
from quick_benchmarks import BENCHMARKS

PRECISIONS = ("fp32", "int8")
COMPARED = 16  # texts that graphs are compared on, beside those of every length: half of what an export takes
NEEDS = {starter.NAME: (starter.MODULE,), multilingual.NAME: (multilingual.PACKAGE, "sentencepiece")}


def need(name: str) -> None:
    """Skip the test where the weights of a model, or what reads them, is not installed."""
    for module in NEEDS[name]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}, for the model {name}")


def built(name: str, temporary: pytest.TempPathFactory) -> Path:
    """A model's folder, which no test changes."""
    need(name)
    if name == starter.NAME:
        return parts_of_the_export(temporary) / "small"
    folder = _of_all_workers(temporary) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(parity, "TEXTS", COMPARED)
                multilingual.build_multilingual(folder, precisions=PRECISIONS)
    return folder


def parts_of_the_export(temporary: pytest.TempPathFactory) -> Path:
    """A folder of `benchmarks/export.py --quick` that has its first part, `small`: the starter."""
    folder = _of_all_workers(temporary) / "export"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            draft = folder.with_name("export-draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            command = [sys.executable, str(BENCHMARKS / "export.py"), "--quick", "--part", "small"]
            done = subprocess.run(
                [*command, "--folder", str(draft)], capture_output=True, text=True, env=as_found()
            )
            assert done.returncode == 0, done.stderr
            (draft / "small.json").write_text(json.dumps(json.loads(done.stdout.splitlines()[-1])))
            draft.rename(folder)
    return folder


def _of_all_workers(temporary: pytest.TempPathFactory) -> Path:
    own = temporary.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
