"""Makes the float16 graph, for GPUs: the encoder half, heads and normalisation float32, outputs float32.

LayerNormalization and attention keep float32 sums inside their GPU kernels. The heads are a thousandth of
the work, and their sum of squares would cost a unit vector its last bits, so they are cut off before the
conversion and put back behind one Cast.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from latebolt_export.onnx_edit import Wiring, head_nodes, set_nodes
from latebolt_export.requirements import quiet


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float16 twin of the fused float32 graph; the input graph is left as it is."""
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
    with quiet():
        half = convert_float_to_float16(encoder, keep_io_types=True, disable_shape_infer=True)

    # keep_io_types has put a Cast in front of each cut tensor: the heads read float32 under the old names.
    del half.graph.output[:]
    half.graph.output.extend(model.graph.output)
    known = {tensor.name for tensor in half.graph.initializer}
    needed = {name for node in heads for name in node.input} & set(wiring.constants)
    if needed & known:
        raise AssertionError(f"constants shared by encoder and heads: {sorted(needed & known)}")
    half.graph.initializer.extend(wiring.constants[name] for name in sorted(needed))
    set_nodes(half, [*half.graph.node, *heads])
    return half
