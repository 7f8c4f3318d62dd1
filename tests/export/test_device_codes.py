"""The graphs that make codes on a device: those that are shipped are those that the builder writes."""

from __future__ import annotations

import onnx

from latebolt.gpu.device_graphs import GRAPHS
from latebolt_export.graph import device_codes


def test_the_shipped_graphs_are_what_is_built(tmp_path):
    device_codes.write(tmp_path)
    for folder in (tmp_path, GRAPHS):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == device_codes.graphs()


def test_they_ask_for_nothing_new_and_nothing_of_one_maker():
    for content in device_codes.graphs().values():
        model = onnx.load_from_string(content)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 11)]
        assert model.ir_version <= 6
        # Shapes worked out node by node would run on the CPU, and be waited for.
        assert not {"Shape", "Range", "Loop", "If"} & {node.op_type for node in model.graph.node}
