"""Fusion counts: a tool upgrade that stops a fusion must fail here."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

from latebolt.errors import ExportError
from latebolt_export.graph.fuse import check_counts, expected_counts
from latebolt_export.torch.trace import trace


def test_every_layer_is_fused(fused):
    count = Counter(node.op_type for node in fused.graph.node)
    assert count["MultiHeadAttention"] == 2
    assert count["SkipLayerNormalization"] == 4
    assert count["BiasGelu"] == 2
    assert count["LayerNormalization"] == 1  # behind the word table
    assert count["MatMul"] == 2 * 6 + 1  # q, k, v, out, two of the feed-forward part; one head
    assert count["Gather"] == 2  # word table, and the length out of a shape
    assert not count["Transpose"] + count["Constant"] + count["Softmax"]


def test_inputs_and_outputs_are_what_the_contract_says(fused):
    def shape(value):
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    values = [*fused.graph.input, *fused.graph.output]
    assert {value.name: shape(value) for value in values} == {
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "embeddings_16": ["batch", "tokens", 16],
        "embeddings_8": ["batch", "tokens", 8],
    }
    assert {value.type.tensor_type.elem_type for value in fused.graph.input} == {onnx.TensorProto.INT64}
    assert {value.type.tensor_type.elem_type for value in fused.graph.output} == {onnx.TensorProto.FLOAT}


def test_an_unfused_graph_is_refused(embedder, tmp_path):
    model = trace(embedder, tmp_path)
    with pytest.raises(ExportError, match=r"not fused: 0 SkipLayerNormalization \(expected 4\), 0 BiasGelu"):
        check_counts(model, expected_counts(embedder.encoder.plan))
