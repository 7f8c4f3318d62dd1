"""Traces the PyTorch module into an ONNX graph, without moving its weights through the tracer.

The tracer gives a graph whose weights are inputs; each is then written once, where the graph needs it
transposed already transposed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper

from latebolt.errors import ExportError
from latebolt_export.graph.onnx_edit import lift_constants, set_nodes
from latebolt_export.graph.tensors import TensorFile
from latebolt_export.requirements import quiet
from latebolt_export.torch.attention import DOMAIN
from latebolt_export.torch.module import TokenEmbedder

OPSET = 17  # the first with LayerNormalization; ONNX Runtime's fusions are written for its operators
CONTRIB = "com.microsoft"
ROWS = 16384
AXES = {0: "batch", 1: "tokens"}
INPUTS = ("input_ids", "attention_mask")
TRACED = (2, 16)  # size of the input that is traced


def trace(module: TokenEmbedder, folder: Path) -> onnx.ModelProto:
    """The unfused float32 graph; its large weights lie in a file in `folder`.

    Inputs `input_ids`, `attention_mask` int64 [batch, tokens]; one output an `embeddings_D`, float32
    [batch, tokens, D]. Attention and rotation are ONNX Runtime's operators already.

    Raises:
        ExportError: the tracer gave other inputs or outputs.
    """
    names = [output.name for output in module.outputs]
    plan = module.encoder.plan
    ones = torch.ones(TRACED[0], min(TRACED[1], plan.max_tokens), dtype=torch.int64)
    path = folder / "traced.onnx"
    with quiet(), torch.no_grad(), _tiny_word_table(module):
        torch.onnx.export(
            module,
            (ones, ones.clone()),
            str(path),
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=names,
            dynamic_axes=dict.fromkeys([*INPUTS, *names], AXES),
            # The tracer warns of a domain that no node has.
            custom_opsets={DOMAIN: 1} | ({CONTRIB: 1} if plan.kinds[0].rotary_base else {}),
        )
    model = onnx.load(path)
    path.unlink()
    _attach_weights(model, module, folder / "weights.bin")
    found = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if found != (list(INPUTS), names):
        raise ExportError(f"the exported graph has inputs and outputs {found}, expected {names}.")
    for value, output in zip(model.graph.output, module.outputs, strict=True):
        # The tracer leaves a made-up name where the width is known.
        value.type.tensor_type.shape.dim[2].dim_value = output.dim
    for node in model.graph.node:
        if node.domain == DOMAIN:
            _finish_attention(node)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)])
    lift_constants(model)
    return model


@contextlib.contextmanager
def _tiny_word_table(module: TokenEmbedder) -> Iterator[None]:
    """Trace with a table of two words: the tracer would copy all of a real one, whose rows it never shows."""
    words = module.encoder.words
    table = words.weight
    words.weight = torch.nn.Parameter(torch.zeros(2, table.shape[1]), requires_grad=False)
    try:
        yield
    finally:
        words.weight = table


def _attach_weights(model: onnx.ModelProto, module: TokenEmbedder, path: Path) -> None:
    """Turn the inputs that are weights into constants, in place."""
    state = module.state_dict() | dict(module.named_buffers())
    transposed = {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type == "Transpose" and node.input[0] in state
    }
    file = TensorFile(path)
    read = {name for node in model.graph.node for name in node.input if node.output[0] not in transposed}
    for name in sorted(read & state.keys()):
        model.graph.initializer.append(file.add_pieces(name, state[name].shape, _rows(state[name])))
    for name, node in transposed.items():
        model.graph.initializer.append(file.add(name, _turned(state[node.input[0]], node)))
    file.close()
    inputs = [value for value in model.graph.input if value.name not in state]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    set_nodes(model, [node for node in model.graph.node if node.output[0] not in transposed])


def _rows(weight: torch.Tensor) -> Iterator[np.ndarray]:
    """Stretches of rows as float32: the word table may be stored in half of it."""
    for part in weight.split(ROWS) if weight.ndim else [weight]:
        yield part.float().numpy()


def _turned(weight: torch.Tensor, node: NodeProto) -> np.ndarray:
    axes = list(helper.get_node_attr_value(node, "perm"))
    return np.ascontiguousarray(weight.float().permute(axes).numpy())


def _finish_attention(node: NodeProto) -> None:
    """Make it ONNX Runtime's operator, whose fourth input (a bias of the projections) stays empty."""
    node.domain = CONTRIB
    inputs = [*node.input[:3], "", *node.input[3:]]
    del node.input[:]
    node.input.extend(inputs)
