"""Makes the float16 graph, for GPUs: the encoder half, heads and normalisation float32.

LayerNormalization and attention keep float32 sums inside their GPU kernels. The heads are a thousandth of
the work, and their sum of squares would cost a unit vector its last bits, so they are cut off before the
conversion and put back behind one Cast. Large weights are converted one by one into a file of their own,
before the converter sees the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from latebolt_export.graph import tensors
from latebolt_export.graph.onnx_edit import Wiring, head_nodes, set_nodes
from latebolt_export.requirements import quiet

# Beyond float16's largest value a weight would become infinite; the converter clips its own likewise.
MOST = float(np.finfo(np.float16).max)


def to_half(model: onnx.ModelProto, file: Path, half_outputs: bool = False) -> onnx.ModelProto:
    """A float16 twin of the fused float32 graph, which is left as it is.

    Args:
        file: where its large constants go.
        half_outputs: give float16 vectors, half the bytes to fetch from a GPU; normalised in float32 all
            the same.
    """
    wiring = Wiring(model)
    heads = head_nodes(model)
    inside = {name for node in heads for name in node.output}
    cut = sorted({name for node in heads for name in node.input} - inside - set(wiring.constants) - {""})

    encoder = onnx.ModelProto()
    encoder.CopyFrom(model)
    del encoder.graph.output[:]
    del encoder.graph.value_info[:]
    encoder.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in cut)
    names = {node.name for node in heads}
    set_nodes(encoder, [node for node in encoder.graph.node if node.name not in names])
    _halve_large(encoder, file)
    with quiet():
        half = convert_float_to_float16(encoder, keep_io_types=True, disable_shape_infer=True)

    # keep_io_types has put a Cast in front of each cut tensor: the heads read float32 under the old names.
    del half.graph.output[:]
    half.graph.output.extend(model.graph.output)
    own = _constants_of(heads, wiring)
    half.graph.initializer.extend(own.values())
    set_nodes(half, [*half.graph.node, *(_renamed(node, own) for node in heads)])
    if half_outputs:
        _halve_outputs(half)
    return half


def _halve_outputs(model: onnx.ModelProto) -> None:
    makers = {name: node for node in model.graph.node for name in node.output}
    for value in model.graph.output:
        wide = f"{value.name}_float"
        makers[value.name].output[0] = wide
        cast = helper.make_node("Cast", [wide], [value.name], f"{value.name}_half", to=TensorProto.FLOAT16)
        model.graph.node.append(cast)
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def _constants_of(heads: Sequence[NodeProto], wiring: Wiring) -> dict[str, TensorProto]:
    """The heads' constants as float32 of their own: the encoder may share one, and its is float16 now."""
    own = {}
    for name in sorted({name for node in heads for name in node.input} & set(wiring.constants)):
        own[name] = TensorProto()
        own[name].CopyFrom(wiring.constants[name])
        own[name].name = f"{name}_head"
    return own


def _renamed(node: NodeProto, own: dict[str, TensorProto]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    for i, name in enumerate(node.input):
        if name in own:
            copy.input[i] = own[name].name
    return copy


def _halve_large(model: onnx.ModelProto, path: Path) -> None:
    file = tensors.TensorFile(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensors.is_outside(tensor):
            value = np.clip(tensors.value(tensor), -MOST, MOST).astype(np.float16)
            tensor.CopyFrom(file.add(tensor.name, value))
    file.close()
