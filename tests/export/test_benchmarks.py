"""Benchmarks that need the exporter run with --quick, and peers read a plain graph of the same weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import platformdirs
import pytest
import torch
from built import built, need, parts_of_the_export
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from quick_benchmarks import benchmark, run_quick

ASSETS = Path(platformdirs.user_cache_dir("latebolt", appauthor=False)) / "benchmarks" / "encode"


def test_peers_read_a_plain_graph_of_the_same_weights(tmp_path, monkeypatch):
    need("starter")
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


@pytest.fixture
def give(tmp_path_factory):
    """give(model, folder): the benchmark of encoders, which keeps its exports on the machine, has it."""

    def given(name, folder):
        if not (ASSETS / folder / "latebolt.json").exists():
            shutil.copytree(built(name, tmp_path_factory), ASSETS / folder, dirs_exist_ok=True)

    return given


@pytest.mark.slow
def test_quick_export_takes_a_few_times_the_memory_of_its_weights(tmp_path_factory):
    """Over the libraries, which alone are nearly four times as large as this model."""
    need("starter")
    parts = parts_of_the_export(tmp_path_factory)
    assert "cosine_mean" in run_quick("export", "--folder", parts)
    (row,) = json.loads((parts / "small.json").read_text())
    assert 1 < row["times"] < 4, row


# Each with a word that only a row of its own has, and the options that it is run with.
QUICK = {
    "encode": ("torch fp32", "--threads", 1),
    "frameworks": ("latebolt.adapters.ragatouille", "--threads", 1),
    "head": ("nDCG@10, dim 64",),
}


@pytest.mark.slow
def test_quick_vocabulary():
    need("multilingual")
    assert "more_tokens_percent" in run_quick("vocabulary")


def test_pieces_that_spell_another_text_are_not_counted(monkeypatch):
    vocabulary = benchmark("vocabulary", monkeypatch)
    text = vocabulary.Text.halved("tatoeba xxx", "xxx", 1, ["learned", "ab"])
    whole, less = (Tokenizer(WordLevel({"ab": 0, "[UNK]": 1}, "[UNK]")) for _ in range(2))
    vocabulary.check_spelling(whole, less, [text])
    less = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, "[UNK]"))
    with pytest.raises(SystemExit, match="tatoeba xxx is not spelt alike"):
        vocabulary.check_spelling(whole, less, [text])


def test_the_report_puts_languages_into_bands(monkeypatch):
    report = benchmark("report", monkeypatch)
    rows = [
        {"code": code, "language": language, "more_tokens_percent": percent}
        for code, language, percent in (
            ("a", "A", 0.0), ("b", "B", 1.0), ("c", "C", 1.01), ("d", "D", 16.2), ("e", "", 2.0),
        )
    ]  # fmt: skip
    found = report.table_vocabulary(rows)
    assert "| at most 1 % | A, B |\n| 1 to 3 % | C |\n" in found and found.endswith("| more | D (16 %) |")
    assert "all 5 languages half take at most 1.0 %" in found


@pytest.mark.slow
def test_quick_encoding_of_many_languages(give):
    need("multilingual")
    give("multilingual", "multilingual")
    rows = run_quick("encode", "--encoder", "multilingual", "--threads", 1)
    assert "multilingual, 384 wide" in rows and "x torch fp32" in rows


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_quick(name, give):
    need("starter")
    if name == "encode":
        give("starter", "model")
    said, *options = QUICK[name]
    assert said in run_quick(name, *options)


@pytest.mark.parametrize(("block", "level"), [(32, 4), (32, 1), (128, 4)])
def test_the_four_bits_of_small_graphs_are_those_that_the_runtime_multiplies(monkeypatch, block, level):
    """A matrix whose inner size is no multiple of a block: what is added to fill it up counts for nothing."""
    weight = np.random.default_rng(0).standard_normal((80, 24)).astype(np.float32)
    codes, steps = benchmark("small_graphs", monkeypatch).four_bits(weight, block)
    tensors = [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(steps, "steps")]
    node = helper.make_node(
        "MatMulNBits", ["x", "codes", "steps"], ["y"], domain="com.microsoft",
        K=80, N=24, bits=4, block_size=block, accuracy_level=level,
    )  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in "xy"]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    [product] = onnxruntime.InferenceSession(model).run(None, {"x": np.eye(80, dtype=np.float32)})
    error = np.abs(product - weight)
    assert error.max() < np.abs(steps).max() and 0 < error.mean() < 0.2 * np.abs(weight).mean()


# What runs on a GPU, at the smallest sizes without one.


def test_the_peer_of_pytorch_is_the_exporters_module(tmp_path, monkeypatch):
    """Of both architectures, in batches of mixed lengths."""
    models, peer = benchmark("gpu_models", monkeypatch), benchmark("torch_peer", monkeypatch)
    from latebolt_export.source import checkpoint, heads
    from latebolt_export.torch import module

    for name, write in (("small", models.write_bert), ("full", models.write_jina)):
        write(tmp_path / name, *models.QUICK_SIZES[name])
        found = checkpoint.load(tmp_path / name)
        ours = module.build(found, heads.choose(found.projections, (64,)))
        rng = np.random.default_rng(0)
        tokens = [
            SimpleNamespace(ids=rng.integers(5, 1000, n), attended=n, keep=None) for n in (3, 11, 7, 11, 1)
        ]
        runner = peer.Runner(tmp_path / name, 64, "float32", "cpu")
        for batch in (1, 2, 4):
            for one, vectors in zip(tokens, runner.vectors(tokens, batch), strict=True):
                expected = ours.run(one.ids, np.ones_like(one.ids))["embeddings_64"]
                np.testing.assert_allclose(vectors, expected, atol=2e-5)
