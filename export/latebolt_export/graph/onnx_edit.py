"""Small views of an ONNX graph that the passes share: who makes a tensor, who reads it, what it holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from latebolt_export.graph import tensors


class Wiring:
    """Producers, consumers and constants of a graph, as they were when this was made.

    Args:
        file: takes large constants that are replaced; without one they stay inside the graph.
    """

    def __init__(self, model: onnx.ModelProto, file: tensors.TensorFile | None = None) -> None:
        self.graph, self._file = model.graph, file
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def value(self, name: str) -> np.ndarray:
        """The constant of that name (KeyError where it is none); a large one is mapped, read-only."""
        return tensors.value(self.constants[name])

    def replace(self, name: str, value: np.ndarray) -> None:
        """Give a constant another value."""
        declare = self._file.add if self._file is not None else tensors.declare
        self.constants[name].CopyFrom(declare(name, value))

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


def is_word_lookup(node: NodeProto, wiring: Wiring) -> bool:
    """Whether a node looks up the rows of a constant table by the ids of tokens."""
    return node.op_type == "Gather" and node.input[0] in wiring.constants and node.input[1] == "input_ids"


def word_tables(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The constants with a row for each token; none where the graph gets at them in another way."""
    wiring = Wiring(model)
    return [wiring.constants[node.input[0]] for node in model.graph.node if is_word_lookup(node, wiring)]


def add_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    """Add an initializer; returns its name."""
    model.graph.initializer.append(tensors.declare(name, value))
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
    """Put these nodes, in execution order, in the place of the graph's own; drop what no output needs."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(list(nodes)):
        if needed & set(node.output):
            needed |= set(inputs_of(node))
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    # Taken out one by one: a message gives the memory of what was in it back only as a whole, so that putting
    # the kept ones in again would hold them twice.
    for i in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[i].name not in needed:
            del model.graph.initializer[i]


def inputs_of(node: NodeProto) -> Iterable[str]:
    """The tensors that a node reads, those of its branches and loop bodies included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from inputs_of(inner)


class Builder:
    """Collects new nodes, each with one output, under names that begin alike."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self.model, self.prefix = model, prefix
        self.nodes: list[NodeProto] = []
        self._count = 0

    def constant(self, value: np.ndarray) -> str:
        """The name of a new constant."""
        return add_constant(self.model, self._name("constant"), value)

    def ints(self, *values: int) -> str:
        """The name of a new int64 vector."""
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = self._name(operator)
        node = helper.make_node(operator, inputs, [name], name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self.prefix}_{what}_{self._count}"
