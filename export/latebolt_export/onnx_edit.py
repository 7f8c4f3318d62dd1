"""Small views of an ONNX graph that the passes share: who makes a tensor, who reads it, what it holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper


class Wiring:
    """Producers, consumers and constants of a graph, as they were when this was made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def value(self, name: str) -> np.ndarray:
        """The constant of that name (KeyError where it is none)."""
        return numpy_helper.to_array(self.constants[name])

    def replace(self, name: str, value: np.ndarray) -> None:
        """Give a constant another value."""
        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))

    def weighted(self) -> list[NodeProto]:
        """The MatMul nodes whose second factor is a constant matrix, in graph order."""
        return [n for n in self.graph.node if n.op_type == "MatMul" and n.input[1] in self.constants]


def head_nodes(model: onnx.ModelProto) -> list[NodeProto]:
    """The nodes between the encoder's last normalisation and the outputs, in graph order."""
    producer = Wiring(model).producer
    found: set[str] = set()
    open_ends = [value.name for value in model.graph.output]
    while open_ends:
        node = producer.get(open_ends.pop())
        if node is None or node.name in found or node.op_type.endswith("LayerNormalization"):
            continue
        found.add(node.name)
        open_ends += node.input
    return [node for node in model.graph.node if node.name in found]


def add_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    """Add an initializer; returns its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def lift_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers, in place."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            nodes.append(node)
    set_nodes(model, nodes)


def set_nodes(model: onnx.ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Put these nodes, in execution order, in the place of the graph's own; drop constants left unused."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in _inputs(node)} | {value.name for value in model.graph.output}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)


def _inputs(node: NodeProto) -> Iterable[str]:
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _inputs(inner)
