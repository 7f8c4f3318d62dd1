"""The benchmarks run: each with --quick, which proves its outputs before it times them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("name", ("maxsim", "kmeans", "cold_start", "encode_memory"))
def test_quick(name):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3


def test_the_gpu_benchmark_refuses_in_one_line_where_there_is_no_gpu():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "encode_gpu.py"), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("encode_gpu: onnxruntime has no CUDA provider")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_server_keeps_its_word_under_rough_clients():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "serve.py"), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{'work'")]
    found = {row["work"]: row for row in rows}
    assert found.keys() == {"overhead", "search", "rerank", "mixed"}
    assert all(row["requests_per_s"] > 0 and not row["refused"] for row in rows if "refused" in row)
    mixed = found["mixed"]
    assert mixed["lost"] == 0 < mixed["acknowledged_before_kill"]
    assert mixed["thrown_out"] > 0 and mixed["own_faults"] == {} and mixed["classes"]["4xx"] > 0
    assert mixed["end"]["descriptors"] <= mixed["start"]["descriptors"] + 10


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("arguments", (["scale", "--work", "{folder}"], ["search"], ["qdrant"]))
def test_quick_on_real_collections(collections, tmp_path, arguments):
    name, *rest = (argument.format(folder=tmp_path) for argument in arguments)
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", *rest],
        capture_output=True,
        text=True,
        env={**os.environ, "LATEBOLT_DATA": str(collections)},
    )
    assert done.returncode == 0, done.stderr
    assert "p50_ms" in done.stdout and len(done.stdout.splitlines()) >= 3
    assert not list(tmp_path.glob("*000*"))  # what was built is removed
