"""Fuses a traced graph into ONNX Runtime's operators and insists that every layer was fused.

A tool upgrade that quietly stops a fusion would cost a factor of two in speed; here it is an error.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from transformers import PretrainedConfig

from latebolt.errors import ExportError
from latebolt_export.onnx_edit import lift_constants
from latebolt_export.requirements import quiet

CONTRIB = "com.microsoft"


def fuse(path: str, config: PretrainedConfig) -> onnx.ModelProto:
    """The fused float32 graph of the traced one at `path`.

    MultiHeadAttention, not Attention: it leaves the projections as plain MatMuls, which quantise and
    smooth one by one, and without a mask it runs as flash attention on the CPU. Its mask is the number of
    unmasked positions, the form CUDA's fast kernels take: rows must be padded on the right.

    Raises:
        ExportError: a layer was left unfused.
    """
    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False  # keeps the word table a Gather, which can be int8
    with quiet():
        fused = optimize_model(
            path,
            "bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            optimization_options=options,
            opt_level=0,
        )
        fused.topological_sort()
    model = fused.model
    lift_constants(model)  # the passes behind this one look for constants in one place
    check_counts(model, expected_counts(config))
    if not any(entry.domain == CONTRIB for entry in model.opset_import):
        # the optimizer leaves this to its own way of saving
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return model


def expected_counts(config: PretrainedConfig) -> dict[str, int]:
    """Fused operators that a post-norm encoder of this size must show."""
    layers = config.num_hidden_layers
    expected = {"MultiHeadAttention": layers, "SkipLayerNormalization": 2 * layers, "Softmax": 0}
    if config.hidden_act == "gelu":
        expected["BiasGelu"] = layers
    return expected


def check_counts(model: onnx.ModelProto, expected: dict[str, int]) -> None:
    """Raise ExportError unless the graph holds exactly these numbers of operators."""
    found = Counter(node.op_type for node in model.graph.node)
    wrong = [f"{found[name]} {name} (expected {n})" for name, n in expected.items() if found[name] != n]
    if wrong:
        raise ExportError(
            f"the graph was not fused: {', '.join(wrong)}. "
            f"Install the library versions of the extra: pip install 'latebolt[export]'"
        )
