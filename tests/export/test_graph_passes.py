"""Each pass over a fused graph keeps its outputs and does what it is for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from latebolt.errors import ExportError
from latebolt_export.graph import codes, cpu_graph, half, quantize, smooth
from latebolt_export.graph.onnx_edit import Wiring, head_nodes, set_nodes
from latebolt_export.graph.outliers import carry_past
from latebolt_export.graph.tensors import twin

SAME = {"rtol": 0, "atol": 2e-6}


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


def quantized(model, keep=(), isa="auto"):
    made = twin(model)
    quantize.quantize(made, keep, isa)
    return made


def cosine(expected, found):
    return np.concatenate([(a * b).sum(-1).ravel() for a, b in zip(expected, found, strict=True)])


@pytest.fixture
def plain(fused):
    """The fused graph on the operators that are fast on a CPU."""
    cpu_graph.split_fused(fused)
    return fused


def with_outlier(model, wiring_name="layers.0/mlp/up"):
    """Make one channel of a normalisation fifty times larger without changing what the graph computes."""
    wiring = Wiring(model)
    matmul = next(node for node in wiring.weighted() if wiring_name in node.name)
    norm = wiring.producer[matmul.input[0]]
    for name in norm.input[1:3]:
        value = wiring.value(name).copy()
        value[5] *= 50
        wiring.replace(name, value)
    weight = wiring.value(matmul.input[1]).copy()
    weight[5] /= 50
    wiring.replace(matmul.input[1], weight)
    return matmul


def test_split_graph_computes_the_same(embedder, fused, run, ids):
    before = [run(fused, [one]) for one in ids]
    cpu_graph.split_fused(fused)
    assert not operators(fused)["SkipLayerNormalization"]
    assert not operators(fused)["BiasGelu"]
    assert (operators(fused)["Sum"], operators(fused)["Gelu"]) == (4, 2)
    for one, expected in zip(ids, before, strict=True):
        for a, b in zip(expected, run(fused, [one]), strict=True):
            np.testing.assert_allclose(b, a, **SAME)


def opened(model, folder):
    """How often each operator stands in the graph that ONNX Runtime makes of it for a session."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "opened.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return operators(onnx.load(folder / "opened.onnx"))


def test_split_graph_is_not_fused_back_when_a_session_opens(plain, tmp_path):
    assert not opened(plain, tmp_path)["SkipLayerNormalization"]


def test_biases_are_folded_into_the_integer_products_when_a_session_opens(plain, tmp_path):
    made = opened(quantized(plain, quantize.head_matmuls(plain)), tmp_path)
    assert made["Add"] == operators(plain)["Add"] - 2 * 6  # layers, biased products of each
    assert (made["BiasGelu"], made["Gelu"]) == (0, 2)


def test_mask_free_branch_equals_the_masked_one(plain, run, ids):
    cpu_graph.long_texts(plain, ())
    assert operators(plain)["If"] == 2
    short, longer = ids[1], ids[2]
    padded = short + [0] * (len(longer) - len(short))
    mask = [[1] * len(short) + [0] * (len(longer) - len(short)), [1] * len(longer)]
    together = run(plain, [padded, longer], mask)
    for alone, among in zip(run(plain, [short]), together, strict=True):
        np.testing.assert_allclose(among[0, : len(short)], alone[0], **SAME)
    for alone, among in zip(run(plain, [longer]), together, strict=True):
        np.testing.assert_allclose(among[1], alone[0], **SAME)


def test_head_nodes_end_at_the_last_normalisation(plain):
    assert Counter(node.op_type for node in head_nodes(plain))["MatMul"] == 1
    assert quantize.head_matmuls(plain) == {"/projections.0/layers.0/linear/MatMul"}


def test_folding_scales_changes_no_bit_of_a_product(plain, run, ids, tmp_path):
    texts = [np.array(one) for one in ids]
    with_outlier(plain)
    before = [run(plain, [one]) for one in ids]
    scales = smooth.find_scales(plain, texts, tmp_path, quantize.head_matmuls(plain))
    assert all(np.all(np.exp2(np.round(np.log2(s.scale))) == s.scale) for s in scales.values())
    smooth.fold(plain, scales, tmp_path / "smoothed.bin")
    for one, expected in zip(ids, before, strict=True):
        for a, b in zip(expected, run(plain, [one]), strict=True):
            np.testing.assert_allclose(b, a, **SAME)


def test_scales_undo_an_outlier_channel(plain, ids, tmp_path):
    matmul = with_outlier(plain)
    scales = smooth.find_scales(plain, [np.array(one) for one in ids], tmp_path)
    found = scales[matmul.input[0]]
    assert matmul.name in found.matmuls
    assert found.error < 0.2 * found.plain_error
    assert np.argmax(found.scale) == 5


def table_times_weight(table, weight):
    """A graph of one lookup, one MatMul and its bias."""
    constants = {"table": table, "weight": weight, "bias": np.zeros(weight.shape[1], np.float32)}
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"], "lookup"),
            helper.make_node("MatMul", ["rows", "weight"], ["product"], "matmul"),
            helper.make_node("Add", ["product", "bias"], ["out"], "add"),
        ],
        "small",
        [rows(name, onnx.TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")],
        [rows("out", onnx.TensorProto.FLOAT, ["batch", "tokens", weight.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_channel_that_no_scale_can_tame_gets_a_side_path(run, ids, tmp_path):
    # One token's value in channel 9 is so large that, scaled down, its weights would swamp their columns.
    random = np.random.default_rng(5)
    table = random.standard_normal((91, 64)).astype(np.float32)
    table[4, 9] = 500
    model = table_times_weight(table, random.standard_normal((64, 48)).astype(np.float32))
    texts = [np.array(one) for one in ids]
    (found,) = smooth.find_scales(model, texts, tmp_path).values()
    assert found.outliers.tolist() == [9]
    assert found.error < 0.1 * found.plain_error
    before = [run(model, [one])[0] for one in ids]
    sides = smooth.fold(model, {"rows": found}, tmp_path / "smoothed.bin")
    assert not np.any(Wiring(model).value("weight")[9])
    made = quantized(model, sides)
    assert (operators(made)["MatMul"], operators(made)["MatMulInteger"]) == (1, 1)
    for one, expected in zip(ids, before, strict=True):
        np.testing.assert_allclose(run(model, [one])[0], expected, rtol=1e-5, atol=1e-3)
        found_norm = np.linalg.norm(run(made, [one])[0] - expected) / np.linalg.norm(expected)
        assert found_norm < 0.02  # two roundings to eight bits, about 0.7 % each


@pytest.mark.parametrize("follower", ["sum", "gelu"])
def test_a_side_path_joins_behind_the_bias(plain, run, ids, follower):
    wiring = Wiring(plain)
    part = "mlp/down" if follower == "sum" else "mlp/up"
    matmul = next(node for node in wiring.weighted() if f"layers.1/{part}" in node.name)
    before = run(plain, [ids[2]])
    tensor, channels = matmul.input[0], np.array([1, 4])
    path = carry_past(plain, wiring, tensor, channels)
    assert bool(path.after) == (follower == "gelu")
    nodes = []
    for node in plain.graph.node:
        front = path.before if node.name == matmul.name else []
        nodes += [*front, node, *(path.after if node.name == path.end else [])]
    set_nodes(plain, nodes)
    for a, b in zip(before, run(plain, [ids[2]]), strict=True):
        np.testing.assert_allclose(b, a, **SAME)


def test_products_of_bytes_are_those_of_floats():
    random = np.random.default_rng(6)
    weights, _ = codes.by_column(random.standard_normal((90, 40)).astype(np.float32), True)
    rows = random.integers(0, 256, (30, 90)).astype(np.uint8)
    zero = random.integers(0, 256, (30, 1)).astype(np.float32)
    expected = (rows - zero).astype(int) @ weights.astype(int)
    np.testing.assert_array_equal(smooth._integer_product(rows, zero, weights), expected)
    np.testing.assert_array_equal(smooth._float_product(rows, zero, weights), expected)


def test_a_scale_that_does_not_pay_is_left_out(plain, ids, tmp_path):
    for found in smooth.find_scales(plain, [np.array(one) for one in ids], tmp_path).values():
        assert np.all(found.scale == 1) or found.error <= smooth.WORTH * found.plain_error


def test_int8_keeps_the_heads_float_and_nothing_else(plain):
    made = quantized(plain, quantize.head_matmuls(plain))
    count = operators(made)
    assert (count["MatMul"], count["MatMulInteger"]) == (1, 12)
    tables = {t.name: t for t in made.graph.initializer if len(t.dims) == 2 and t.dims[1] > 1}
    floats = [name for name, tensor in tables.items() if tensor.data_type == onnx.TensorProto.FLOAT]
    assert len(floats) == 2  # the head and the position table
    assert tables["encoder.words.weight_int8"].data_type == onnx.TensorProto.INT8


def looked_up(table, embeddings):
    """The rows that a graph with this word table gives for every id, and how it keeps the table."""
    model = table_times_weight(table, np.eye(table.shape[1], dtype=np.float32))
    kept = quantize.quantize(model, {"matmul"}, embeddings=embeddings)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.arange(len(table)).reshape(3, -1)
    return session.run(None, {"input_ids": ids, "attention_mask": ids})[0].reshape(table.shape), kept, model


@pytest.mark.parametrize("width", [32, 96])
def test_int4_looks_up_the_rows_that_its_codes_stand_for(width):
    table = np.random.default_rng(6).standard_normal((30, width)).astype(np.float32)
    table[7] = 0
    rows, kept, model = looked_up(table, "int4")
    packed, steps = codes.by_block([table])
    whole = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    unpacked = whole.reshape(30, -1, codes.BLOCK) * steps.astype(np.float32)[..., None]
    np.testing.assert_array_equal(rows, unpacked.reshape(30, width))
    assert (cosine([table[:7]], [rows[:7]]) / np.linalg.norm(table[:7], axis=1) ** 2 > 0.9).all()
    assert kept == "int4"
    stored = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert stored["table_int4"] == [30, width // 2]
    assert "table" not in stored


def test_int8_looks_up_its_own_codes():
    table = np.random.default_rng(6).standard_normal((30, 48)).astype(np.float32)
    rows, kept, _ = looked_up(table, "int8")
    whole, steps = codes.by_row([table])
    np.testing.assert_array_equal(rows, whole * steps)
    assert kept == "int8"


def test_a_table_that_cannot_have_int4_is_refused_with_its_width():
    table = np.zeros((30, 48), np.float32)
    with pytest.raises(ExportError, match=r"blocks of 32 weights, .* table is 48 wide.*--embeddings int8"):
        looked_up(table, "int4")


def test_a_graph_without_a_word_table_is_refused_int4_and_says_so_of_int8():
    model = table_times_weight(np.zeros((30, 32), np.float32), np.eye(32, dtype=np.float32))
    model.graph.node[0].input[1] = "attention_mask"
    with pytest.raises(ExportError, match=r"the graph looks none up.*--embeddings int8"):
        quantize.quantize(model, {"matmul"}, embeddings="int4")
    assert quantize.quantize(model, {"matmul"}) == "float32"


def test_int8_is_close_and_smoothing_brings_it_closer(plain, run, ids, tmp_path):
    with_outlier(plain, "layers.0/mlp/up")
    with_outlier(plain, "layers.1/mlp/up")
    expected = [run(plain, [one]) for one in ids]
    keep = quantize.head_matmuls(plain)

    def mean_cosine(model):
        made = quantized(model, keep)
        return np.mean(
            np.concatenate([cosine(e, run(made, [o])) for e, o in zip(expected, ids, strict=True)])
        )

    evened = twin(plain)
    scales = smooth.find_scales(evened, [np.array(one) for one in ids], tmp_path, keep)
    smooth.fold(evened, scales, tmp_path / "smoothed.bin")
    rough, fine = mean_cosine(plain), mean_cosine(evened)
    assert fine > 0.99
    assert 1 - fine < 0.5 * (1 - rough)


def test_half_is_close_and_speaks_float32(fused, run, ids, tmp_path):
    made = half.to_half(fused, tmp_path / "half.bin")
    assert {value.type.tensor_type.elem_type for value in made.graph.output} == {onnx.TensorProto.FLOAT}
    assert {value.type.tensor_type.elem_type for value in made.graph.input} == {onnx.TensorProto.INT64}
    heads = {name for node in head_nodes(fused) for name in node.input}
    for tensor in made.graph.initializer:
        if tensor.name.endswith("weight") and tensor.name not in heads:
            assert tensor.data_type == onnx.TensorProto.FLOAT16
    for one in ids:
        found = run(made, [one])
        assert cosine(run(fused, [one]), found).min() > 0.999
        np.testing.assert_allclose(np.linalg.norm(found[0], axis=-1), 1, atol=1e-5)


def test_half_outputs_are_the_rounded_float_ones(fused, run, ids, tmp_path):
    wide = half.to_half(fused, tmp_path / "a.bin")
    made = half.to_half(fused, tmp_path / "b.bin", half_outputs=True)
    onnx.checker.check_model(made)
    assert {value.type.tensor_type.elem_type for value in made.graph.output} == {onnx.TensorProto.FLOAT16}
    for expected, found in zip(run(wide, [ids[1]]), run(made, [ids[1]]), strict=True):
        np.testing.assert_array_equal(found, expected.astype(np.float16))
