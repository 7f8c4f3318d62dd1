"""Rewrites a fused graph into the form that runs fastest on ONNX Runtime's CPU provider.

Four measured facts decide it (ONNX Runtime 1.32, MiniLM, 128 tokens, one thread):
SkipLayerNormalization is a scalar loop there, 200 us against 35 us for a sum and a LayerNormalization
(Sum, because an Add would be fused back when the session opens); a bias in an Add of its own is folded into
the integer MatMul, one inside MultiHeadAttention costs a copy; one inside BiasGelu is read again for every
value, 0.48 to 0.60 ns against 0.37 ns for Gelu; and MultiHeadAttention without a mask is flash attention,
with memory linear in the length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, helper

from latebolt_export.graph.long_attention import Blocks
from latebolt_export.graph.onnx_edit import Wiring, add_constant, set_nodes
from latebolt_export.source.architectures import Kind


def split_fused(model: onnx.ModelProto) -> None:
    """Part skip-normalisations and the biases of attention and GELU into plain nodes, in place."""
    wiring = Wiring(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "SkipLayerNormalization":
            nodes += _split_norm(node)
        elif node.op_type == "MultiHeadAttention" and len(node.input) > 3 and node.input[3]:
            nodes += _split_bias(model, node, wiring.value(node.input[3]))
        elif node.op_type == "BiasGelu":
            nodes += _split_gelu(node)
        else:
            nodes.append(node)
    set_nodes(model, nodes)


def _split_norm(node: NodeProto) -> list[NodeProto]:
    first, second, gamma, beta, bias = (*node.input, "")[:5]
    epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
    made = []
    if bias:
        made.append(helper.make_node("Add", [first, bias], [f"{node.name}_biased"], f"{node.name}_bias"))
        first = made[0].output[0]
    # In a pre-norm encoder the sum itself is read as well; the operator then gives it as fourth output.
    total = node.output[3] if len(node.output) > 3 else f"{node.name}_sum"
    made.append(helper.make_node("Sum", [first, second], [total], f"{node.name}_sum"))
    made.append(
        helper.make_node(
            "LayerNormalization",
            [made[-1].output[0], gamma, beta],
            [node.output[0]],
            node.name,
            axis=-1,
            epsilon=epsilon,
        )
    )
    return made


def _split_bias(model: onnx.ModelProto, node: NodeProto, bias: np.ndarray) -> list[NodeProto]:
    made = []
    for i, (letter, part) in enumerate(zip("qkv", bias.reshape(3, -1), strict=True)):
        name = add_constant(model, f"{node.name}_{letter}_bias", part)
        made.append(helper.make_node("Add", [node.input[i], name], [f"{name}_out"], f"{name}_add"))
        node.input[i] = made[-1].output[0]
    node.input[3] = ""
    return [*made, node]


def _split_gelu(node: NodeProto) -> list[NodeProto]:
    biased = f"{node.name}_biased"
    return [
        helper.make_node("Add", node.input, [biased], f"{node.name}_bias"),
        helper.make_node("Gelu", [biased], node.output, node.name, domain="com.microsoft"),
    ]


def long_texts(model: onnx.ModelProto, kinds: Sequence[Kind]) -> None:
    """Give every attention the form whose memory grows with the length, not with its square, in place.

    Full attention runs without its mask whenever no position is masked: an If on one flag, whose branches
    hold no weights. It costs nothing measurable at 16 tokens and gains 14 % at 512. Attention with a window
    or with ALiBi is rewritten in `blocks`.

    Args:
        kinds: of each MultiHeadAttention, in graph order; a graph from elsewhere has none: all are full.
    """
    blocks = Blocks(model)
    nodes: list[NodeProto] = []
    remaining = iter(kinds)
    for node in model.graph.node:
        if node.op_type != "MultiHeadAttention":
            nodes.append(node)
            continue
        kind = next(remaining, Kind())
        if kind.window:
            nodes.append(blocks.windowed(node, kind.window))
        elif kind.slopes:
            nodes += blocks.sloped(node, kind.slopes)
        else:
            nodes.append(blocks.full(node))
    set_nodes(model, [*blocks.shared.nodes, *nodes])
