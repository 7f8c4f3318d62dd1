"""Carries a few channels of a MatMul's input past quantisation, through a small float32 MatMul beside it.

    x @ W = x' @ W' + x[:, C] @ W[C],   x' and W' being x and W with the channels C set to zero.
Source: Dettmers et al., "LLM.int8()", NeurIPS 2022; here the channels are fixed at export.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from latebolt_export.graph.onnx_edit import Wiring, add_constant


@dataclass(frozen=True)
class SidePath:
    """Nodes to put in: `before`, the side MatMul last, in front of the MatMul; `after` behind `end`."""

    before: list[NodeProto]
    end: str  # name of a node
    after: list[NodeProto]


def carry_past(model: onnx.ModelProto, wiring: Wiring, tensor: str, channels: np.ndarray) -> SidePath:
    """Take these channels out of the weight of the one MatMul that reads `tensor`; returns their side path.

    The side path reads the tensor itself; keeping the channels out of the quantised input is left to the
    caller, as is putting the nodes in.
    """
    (matmul,) = (node for node in wiring.consumers[tensor] if node.op_type == "MatMul")
    weight = wiring.value(matmul.input[1]).copy()
    picked, side = f"{tensor}_outliers", f"{matmul.output[0]}_side"
    indices = add_constant(model, f"{picked}_channels", channels.astype(np.int64))
    rows = add_constant(model, f"{picked}_weight", weight[channels])
    weight[channels] = 0
    wiring.replace(matmul.input[1], weight)
    before = [
        helper.make_node("Gather", [tensor, indices], [picked], picked, axis=2),
        helper.make_node("MatMul", [picked, rows], [side], side),
    ]
    end, after = _join(wiring, matmul, side)
    return SidePath(before, end.name, after)


def _join(wiring: Wiring, matmul: NodeProto, side: str) -> tuple[NodeProto, list[NodeProto]]:
    """Add the side path behind the bias: as one more term of a sum that follows, else by a node of its own.

    Between MatMul and bias it would break ONNX Runtime's integer MatMul with bias.
    """
    end = matmul
    after = wiring.consumers.get(end.output[0], [])
    if len(after) == 1 and after[0].op_type == "Add" and set(after[0].input) & set(wiring.constants):
        end = after[0]
        after = wiring.consumers.get(end.output[0], [])
    if len(after) == 1 and after[0].op_type == "Sum":
        after[0].input.append(side)
        return end, []
    name = end.output[0]
    end.output[0] = f"{name}_without_outliers"
    return end, [helper.make_node("Add", [end.output[0], side], [name], f"{name}_with_outliers")]
