"""Graphs in which texts share a run of a GPU: the vectors of the graph they are made of, and for the one that
needs a GPU its operators, held to the installed runtime's own schemas and to what its documentation says."""

from __future__ import annotations

import functools
from dataclasses import replace

import families
import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from packed_operators import evaluator
from traced import trace

from latebolt import Encoder, contract
from latebolt.contract import Graph, Head
from latebolt.devices import CPU
from latebolt.encoder.batch_runner import arrays
from latebolt.encoder.model import Model
from latebolt.encoder.session import Session
from latebolt.encoder.text import TokenIds
from latebolt.errors import ModelError
from latebolt_export import export_model
from latebolt_export.graph import fuse, gpu_graphs, half, tensors

PACKED = ("bert", "roberta", "xlm_roberta", "camembert", "distilbert", "jina_v2")
BIASED = ("modernbert", "jina_v1")
OUTPUT = "embeddings_16"
LENGTHS = (7, 2, 1, 13, 7)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """traced(family): its module, fused graph and folder, made once."""
    return functools.cache(
        lambda name: trace(getattr(families, name)(), name, tmp_path_factory.mktemp(f"gpu_{name}"))
    )


def texts(seed=1, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    made = []
    for n in lengths:
        keep = rng.random(n) < 0.7
        keep[0] = True
        made.append(TokenIds(rng.integers(3, 95, n), n, keep, False))
    return made


def feeds(model, tokens):
    ids, mask, kept = arrays(tokens, pad=1)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids) if mask is None else mask, "kept": kept}
    names = {value.name for value in model.graph.input}
    return {name: value for name, value in given.items() if name in names}


def one_by_one(model, folder, tokens):
    """The vectors that are kept of each text, by the graph that the others are made of."""
    session = tensors.open_session(model, folder)
    found = []
    for each in tokens:
        feed = {"input_ids": each.ids[None], "attention_mask": np.ones((1, len(each.ids)), np.int64)}
        found.append(session.run([OUTPUT], feed)[0][0][each.keep])
    return np.concatenate(found)


@pytest.mark.parametrize("family", [*PACKED, *BIASED])
def test_padded_and_equal_runs_give_the_vectors_of_texts_alone(traced, family):
    """On the CPU, in float32, where a difference would not hide in rounding."""
    made = traced(family)
    graphs, _ = gpu_graphs.make(made.fused)
    for form, lengths in (("padded", LENGTHS), ("equal", (9, 9, 9))):
        tokens = texts(lengths=lengths)
        [found] = tensors.open_session(graphs[form], made.folder).run([OUTPUT], feeds(graphs[form], tokens))
        assert found.shape == (1, sum(each.n_kept for each in tokens), 16)
        np.testing.assert_allclose(found[0], one_by_one(made.fused, made.folder, tokens), atol=2e-5)


@pytest.mark.parametrize("family", PACKED)
def test_ragged_runs_give_the_vectors_of_texts_alone(traced, family):
    """By what the operators' documentation says, in float32; of more tokens than positions there are."""
    made = traced(family)
    graph = inside(gpu_graphs.make(made.fused)[0]["ragged"])
    for lengths in (LENGTHS, (5,), (130, 120, 130, 99, 130, 60, 31) if family == "jina_v2" else (3, 3)):
        tokens = texts(2, lengths)
        [found] = evaluator(graph).run([OUTPUT], feeds(graph, tokens))
        np.testing.assert_allclose(found[0], one_by_one(made.fused, made.folder, tokens), atol=2e-5)


def test_half_precision_changes_little(traced):
    made = traced("jina_v2")
    halved = half.to_half(made.fused, made.folder / "half.bin", half_outputs=True)
    graphs, notes = gpu_graphs.make(halved)
    assert graphs.keys() == gpu_graphs.FORMS.keys() and not notes
    tokens = texts()
    expected = one_by_one(made.fused, made.folder, tokens)
    session = tensors.open_session(graphs["padded"], made.folder)
    found = [session.run([OUTPUT], feeds(graphs["padded"], tokens))[0]]
    ragged = inside(graphs["ragged"])
    found += evaluator(ragged).run([OUTPUT], feeds(ragged, tokens))
    for vectors in found:
        assert vectors.dtype == np.float16
        assert (vectors[0].astype(np.float32) * expected).sum(1).min() > 0.999


def inside(model):
    """The graph with all its constants in it."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for tensor in whole.graph.initializer:
        if tensors.is_outside(tensor):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(tensors.value(tensor)), tensor.name))
    return whole


@pytest.mark.parametrize("family", PACKED)
def test_the_runtime_takes_every_node_of_a_ragged_graph(traced, family):
    """Its own inference of types and shapes passes, in half precision; a CPU lacks the kernels alone."""
    made = traced(family)
    ragged = inside(gpu_graphs.make(half.to_half(made.fused, made.folder / "half.bin"))[0]["ragged"])
    onnx.checker.check_model(ragged)
    with pytest.raises(runtime.NotImplemented, match=r"kernel for com\.microsoft\.RemovePadding"):
        onnxruntime.InferenceSession(ragged.SerializeToString(), providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in ragged.graph.node]
    assert operators.count("RemovePadding") == operators.count("RestorePadding") == 1
    assert operators.count("PackedMultiHeadAttention") == len(made.plan.kinds)
    assert "MultiHeadAttention" not in operators
    for node in ragged.graph.node:
        if node.domain == "com.microsoft":
            check_against_schema(node)


def check_against_schema(node):
    """Inputs, outputs and attributes are those of the runtime's own schema of the operator."""
    [schema] = [
        each
        for each in runtime.get_all_operator_schema()
        if (each.domain, each.name) == (node.domain, node.op_type)
    ]
    assert len(node.input) <= len(schema.inputs) and len(node.output) <= len(schema.outputs)
    required = [i.name for i in schema.inputs if i.option == type(i.option).Single]
    given = [i.name for i, name in zip(schema.inputs, node.input, strict=False) if name]
    assert set(required) <= set(given), f"{node.op_type} lacks {set(required) - set(given)}"
    attributes = {attribute.name for attribute in node.attribute}
    assert attributes <= schema.attributes.keys()
    assert {name for name, a in schema.attributes.items() if a.required} <= attributes


@pytest.mark.parametrize("family", BIASED)
def test_biased_attention_has_no_ragged_graph_and_that_is_said(traced, family):
    graphs, notes = gpu_graphs.make(traced(family).fused)
    assert graphs.keys() == {"padded", "equal"}
    assert notes == [
        "no ragged graph for GPUs: packed attention with a bias on its scores (a window, ALiBi) keeps all of "
        "them in memory"
    ]


def test_somebody_elses_graph_has_them_once_its_attention_is_fused(foreign_graph, tmp_path):
    """It takes token types, its lengths are counted the other way round, and attention adds its biases."""
    plain = onnx.load(foreign_graph)
    graphs, notes = gpu_graphs.make(plain)
    assert not graphs.keys() & {"ragged", "equal"} and "attention was not fused" in notes[-1]
    fused = fuse.fuse(plain, attention=True, heads=4, hidden=32)
    graphs, notes = gpu_graphs.make(fused)
    assert graphs.keys() == gpu_graphs.FORMS.keys() and not notes
    tokens = texts()
    session = tensors.open_session(fused, tmp_path)
    expected = []
    for each in tokens:
        ids = each.ids[None]
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        expected.append(session.run(None, feed)[0][0][each.keep])
    for form, graph in graphs.items():
        if form == "equal":
            continue
        feed = feeds(graph, tokens)
        feed["token_type_ids"] = np.zeros_like(feed["input_ids"])
        opened = evaluator(inside(graph)) if form == "ragged" else tensors.open_session(graph, tmp_path)
        [found] = opened.run(None, feed)
        np.testing.assert_allclose(found[0], np.concatenate(expected), atol=1e-4)


def test_the_graph_they_are_made_of_stays_as_it_is(traced):
    fused = traced("bert").fused
    before = fused.SerializeToString()
    gpu_graphs.make(fused)
    assert fused.SerializeToString() == before


def test_graphs_share_their_constants_on_disk(traced, tmp_path, monkeypatch):
    """And a session opens each of them as the runtime does."""
    monkeypatch.setattr(tensors, "LARGE", 256)
    made = traced("bert")
    graphs, _ = gpu_graphs.make(made.fused)
    paths = {tmp_path / "model.onnx": made.fused} | {tmp_path / f"m_{f}.onnx": g for f, g in graphs.items()}
    files = tensors.save_together(paths)
    data = tmp_path / "model.onnx_data"
    assert files == [[path, data] for path in paths]
    whole = sum(np.asarray(tensors.value(tensor)).nbytes for tensor in made.fused.graph.initializer)
    assert data.stat().st_size < whole + len(made.fused.graph.initializer) * tensors.ALIGNMENT
    tokens = texts()
    ids, mask, kept = arrays(tokens, pad=1)
    session = Session(tmp_path / "m_padded.onnx", Graph("m_padded.onnx", 0, ""), Head(16, OUTPUT), 1)
    found = session.run_batch(ids, mask, kept)
    np.testing.assert_allclose(found, one_by_one(made.fused, made.folder, tokens), atol=2e-5)
    equal = Session(tmp_path / "m_equal.onnx", Graph("m_equal.onnx", 0, ""), Head(16, OUTPUT), 1)
    alone = equal.run(tokens[0].ids, len(tokens[0].ids))
    np.testing.assert_allclose(alone[tokens[0].keep], found[: tokens[0].n_kept], atol=2e-5)
    with pytest.raises(ValueError, match="takes no mask"):
        equal.run_batch(ids, mask, kept)


def test_an_export_names_its_graphs_and_runs_take_them(make, tmp_path):
    """On the CPU told to do as a GPU; on the CPU as it is, none of them is opened."""
    out = tmp_path / "out"
    made = export_model(make("stanford"), out, precisions=("fp16",))
    assert made.gpu_graphs.keys() == gpu_graphs.FORMS.keys()
    assert made.format_version == contract.FORMAT_VERSION and contract.read(out) == made
    encoder = Encoder.load(out, "fp16", threads=1)
    words = ["a b c", "", "hello world " * 20, "x", "y"]
    expected = encoder.encode_documents(words)
    assert encoder.with_gpu_runs(form="ragged").encode_documents(words).values.shape == expected.values.shape
    model = Model(encoder.folder, "fp16", (CPU,))
    model.shares_runs = True
    sharing = replace(encoder, _model=model)
    for form in ("padded", "equal"):
        found = sharing.with_gpu_runs(form=form).encode_documents(words)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        assert (found.values * expected.values).sum(1).min() > 0.999
    files = {session._file.name for session in model._others.values()}
    assert files == {"model_fp16_padded.onnx", "model_fp16_equal.onnx"}
    with pytest.raises(ModelError, match=r"model_fp16_ragged\.onnx: ONNX Runtime cannot load it"):
        sharing.with_gpu_runs(form="ragged").encode_documents(words)  # the CPU has none of its kernels
    model.close()
