"""Fuses a traced graph into ONNX Runtime's operators and insists that every layer was fused.

A tool upgrade that quietly stops a fusion would cost a factor of two in speed; here it is an error.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator

import onnx
from onnx import helper
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_by_fusion

from latebolt.errors import ExportError
from latebolt_export.graph import tensors
from latebolt_export.graph.onnx_edit import head_nodes, lift_constants
from latebolt_export.requirements import quiet
from latebolt_export.source.architectures import Plan

CONTRIB = "com.microsoft"


def fuse(
    model: onnx.ModelProto, *, attention: bool = False, heads: int = 0, hidden: int = 0
) -> onnx.ModelProto:
    """The fused twin of a float32 graph, which is used up.

    Args:
        model: large constants may lie outside.
        attention: also fuse attention, for graphs that `graph` has not traced. MultiHeadAttention, not
            Attention: it leaves the projections as plain MatMuls. Its mask is the number of unmasked
            positions, the form CUDA's fast kernels take: rows must be padded on the right.
        heads, hidden: of such a graph; 0 lets the optimizer find out.
    """
    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    options.enable_attention = attention
    options.enable_rotary_embeddings = False
    options.enable_embed_layer_norm = False  # keeps the word table a Gather, which can be int8
    with quiet(), _mapped_constants():
        fused = optimize_by_fusion(
            model, "bert", num_heads=heads, hidden_size=hidden, optimization_options=options
        )
        fused.topological_sort()
    made = fused.model
    lift_constants(made)  # the passes behind this one look for constants in one place
    if not any(entry.domain == CONTRIB for entry in made.opset_import):
        # the optimizer leaves this to its own way of saving
        made.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return made


@contextlib.contextmanager
def _mapped_constants() -> Iterator[None]:
    """Let the optimizer look at constants that lie outside, which its own reading would not find."""
    helper_class = sys.modules["fusion_utils"].NumpyHelper  # the optimizer imports its parts by such names
    before = helper_class.to_array
    helper_class.to_array = staticmethod(lambda tensor, fill_zeros=False: tensors.value(tensor))
    try:
        yield
    finally:
        helper_class.to_array = staticmethod(before)


def expected_counts(plan: Plan) -> dict[str, int]:
    """Fused operators that an encoder of this plan must show."""
    layers = len(plan.kinds)
    rotated = sum(1 for kind in plan.kinds if kind.rotary_base)
    expected = {"MultiHeadAttention": layers, "RotaryEmbedding": 2 * rotated, "Softmax": 0}
    # Two a layer; and behind the word table where positions are looked up for each text.
    expected["SkipLayerNormalization"] = 2 * layers + (plan.pad is not None)
    if plan.activation == "gelu":
        expected["Gelu" if plan.gated and not plan.gated_bias else "BiasGelu"] = layers
    return expected


def check_counts(model: onnx.ModelProto, expected: dict[str, int]) -> None:
    """Raise ExportError unless the graph in front of the heads holds exactly these numbers of operators.

    A head may have any operators, fused ones too.
    """
    heads = {node.name for node in head_nodes(model)}
    found = Counter(node.op_type for node in model.graph.node if node.name not in heads)
    wrong = [f"{found[name]} {name} (expected {n})" for name, n in expected.items() if found[name] != n]
    if wrong:
        raise ExportError(
            f"the graph was not fused: {', '.join(wrong)}. "
            f"Install the library versions of the extra: pip install 'latebolt[export]'"
        )
