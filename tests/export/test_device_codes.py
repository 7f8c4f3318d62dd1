"""The graphs that make codes on a device: those that are shipped are those that the builder writes."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from latebolt.gpu.device_graphs import GRAPHS
from latebolt_export.graph import device_codes

# Element types of the first input for which ONNX Runtime's CUDA provider has
# a kernel at opset 11, as far as the graphs use them. Source: docs/OperatorKernels.md of onnxruntime.
CUDA_KERNELS = {
    "Add": {"FLOAT", "INT32", "INT64"},
    "ArgMax": {"FLOAT"},  # of opset 12 only in newer versions
    "ArgMin": {"FLOAT"},
    "Cast": {"BOOL", "FLOAT", "FLOAT16", "INT32", "INT64"},
    "Div": {"FLOAT"},
    "Equal": {"INT64"},
    "Gather": {"FLOAT", "FLOAT16"},
    "GatherElements": {"INT64"},
    "Gemm": {"FLOAT"},
    "Greater": {"FLOAT"},
    "Max": {"FLOAT"},
    "Mul": {"FLOAT", "INT32"},
    "ReduceSum": {"FLOAT"},
    "Reshape": {"FLOAT", "INT32"},
    "Sqrt": {"FLOAT"},
    "Squeeze": {"INT64"},
    "Sub": {"FLOAT"},
    "Transpose": {"FLOAT"},
    "Unsqueeze": {"FLOAT", "INT64"},
    "Where": {"BOOL"},  # which chooses between floats
}


def test_the_shipped_graphs_are_what_is_built(tmp_path):
    device_codes.write(tmp_path)
    for folder in (tmp_path, GRAPHS):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == device_codes.graphs()


def test_they_ask_for_nothing_new_and_nothing_of_one_maker():
    for content in device_codes.graphs().values():
        model = onnx.load_from_string(content)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 11)]
        assert model.ir_version <= 6


def test_every_operator_has_a_kernel_for_cuda():
    """None runs on the CPU, where it would be waited for; on a GPU a test asks ONNX Runtime itself."""
    used: dict[str, set[str]] = {}
    for content in device_codes.graphs().values():
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content), strict_mode=True).graph
        values = [*graph.input, *graph.value_info, *graph.output]
        kinds = {each.name: each.type.tensor_type.elem_type for each in values}
        kinds |= {each.name: each.data_type for each in graph.initializer}
        for node in graph.node:
            used.setdefault(node.op_type, set()).add(TensorProto.DataType.Name(kinds[node.input[0]]))
            if node.op_type.startswith(("Arg", "Reduce")):  # without cuDNN in newer versions
                [axis] = [
                    each.ints[0] if each.ints else each.i
                    for each in node.attribute
                    if each.name in ("axis", "axes")
                ]
                rank = len(
                    next(each for each in values if each.name == node.input[0]).type.tensor_type.shape.dim
                )
                assert axis in (-1, rank - 1)
    assert used == CUDA_KERNELS
