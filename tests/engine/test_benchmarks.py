"""The benchmarks run: each with --quick, which proves its outputs before it times them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("name", ("maxsim", "kmeans", "cold_start"))
def test_quick(name):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3


@pytest.mark.slow
@pytest.mark.data
def test_quick_scale(collections, tmp_path):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "scale.py"), "--quick", "--work", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "LATEBOLT_DATA": str(collections)},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 and not list(tmp_path.glob("*000*"))
