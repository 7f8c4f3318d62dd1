"""Benchmarks that need the exporter run with --quick, and peers read a plain graph of the same weights."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from latebolt_export import multilingual, starter
from quick_benchmarks import BENCHMARKS, benchmark, run_quick


def test_peers_read_a_plain_graph_of_the_same_weights(tmp_path, monkeypatch):
    if not importlib.util.find_spec(starter.MODULE):
        pytest.skip(f"needs the weights of {starter.PACKAGE}")
    encode = benchmark("encode", monkeypatch)
    encode.export_plainly(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert sum(node.op_type == "Softmax" for node in model.graph.node) == 6
    ids = np.array([[101, 7592, 2088, 102], [101, 7592, 102, 0]])
    mask = (ids > 0).astype(np.int64)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    with torch.no_grad():
        expected = encode.torch_colbert("sdpa")(torch.tensor(ids), torch.tensor(mask)).numpy()
    np.testing.assert_allclose(found[mask > 0], expected[mask > 0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_an_export_takes_a_few_times_the_memory_of_its_weights(tmp_path):
    """Over the libraries, which alone are nearly four times as large as this model."""
    if not importlib.util.find_spec(starter.MODULE):
        pytest.skip(f"needs the weights of {starter.PACKAGE}")
    command = [sys.executable, BENCHMARKS / "export.py", "--part", "small", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert 1 < row["times"] < 4, row


# Each with a word that only a row of its own has.
QUICK = {
    "encode": "torch fp32",
    "export": "cosine_mean",
    "frameworks": "latebolt.adapters.ragatouille",
    "head": "nDCG@10, dim 64",
}


@pytest.mark.slow
def test_quick_encoding_of_many_languages():
    if not importlib.util.find_spec(multilingual.PACKAGE):
        pytest.skip(f"needs the weights of {multilingual.PACKAGE}")
    rows = run_quick("encode", "--encoder", "multilingual")
    assert "multilingual, 384 wide" in rows and "x torch fp32" in rows


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_quick(name):
    if not importlib.util.find_spec(starter.MODULE):
        pytest.skip(f"needs the weights of {starter.PACKAGE}")
    assert QUICK[name] in run_quick(name)
