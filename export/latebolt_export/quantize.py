"""Makes the int8 graph: MatMuls dynamic (uint8 activations, int8 weights), the word table int8 a row.

Heads and position table stay float32: they are 3 % of the size, and the heads' error would reach every
vector directly. Expects weights already smoothed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from latebolt_export.onnx_edit import Wiring, add_constant, head_nodes, set_nodes
from latebolt_export.requirements import quiet


def quantize(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """An int8 twin of a float32 graph.

    Args:
        model: left as it is.
        keep: names of MatMul nodes that stay float32.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    _quantize_word_table(twin)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            twin,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=list(keep),
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Shape inference does not know MultiHeadAttention; every tensor it asks about is float32.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
        made = onnx.load(path)
    del made.graph.value_info[:]  # shapes of tensors that no longer exist
    return made


def head_matmuls(model: onnx.ModelProto) -> set[str]:
    """Names of the MatMuls that project, which stay float32."""
    return {node.name for node in head_nodes(model) if node.op_type == "MatMul"}


def _quantize_word_table(model: onnx.ModelProto) -> None:
    wiring = Wiring(model)
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Gather" or node.input[0] not in wiring.constants or node.input[1] != "input_ids":
            nodes.append(node)
            continue
        table = wiring.value(node.input[0])
        step = np.maximum(np.abs(table).max(1, keepdims=True), 1e-12) / 127
        codes = add_constant(model, f"{node.input[0]}_int8", np.round(table / step).astype(np.int8))
        steps = add_constant(model, f"{node.input[0]}_scale", step.astype(np.float32))
        ids, made = node.input[1], [f"{node.name}_{part}" for part in ("codes", "scales", "float", "words")]
        nodes += [
            helper.make_node("Gather", [codes, ids], [made[0]], made[0]),
            helper.make_node("Gather", [steps, ids], [made[1]], made[1]),
            helper.make_node("Cast", [made[0]], [made[2]], made[2], to=TensorProto.FLOAT),
            helper.make_node("Mul", [made[2], made[1]], [node.output[0]], made[3]),
        ]
    set_nodes(model, nodes)
