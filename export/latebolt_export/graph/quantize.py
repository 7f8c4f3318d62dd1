"""Makes the int8 graph: MatMuls dynamic (uint8 activations, int8 weights), the word table int8 or 4 bits.

Heads and position table stay float32: they are 3 % of the size, and the heads' error would reach every
vector directly. Expects weights already smoothed. Written out here rather than left to ONNX Runtime's
quantiser, which knows one range for all instruction sets and holds every weight several times.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from latebolt.errors import ExportError
from latebolt_export.graph import codes, tensors
from latebolt_export.graph.onnx_edit import (
    Builder,
    Wiring,
    add_constant,
    head_nodes,
    is_word_lookup,
    set_nodes,
    word_tables,
)


def quantize(
    model: onnx.ModelProto, keep: Collection[str], isa: str = "auto", embeddings: str = "int8"
) -> str:
    """Make a float32 graph int8, in place.

    Args:
        model: its large constants may lie outside; the int8 ones lie inside.
        keep: names of MatMul nodes that stay float32.
        isa: one of `codes.ISAS`.
        embeddings: one of `codes.EMBEDDINGS`.
    Returns:
        how the word table is kept: what was asked for, or "float32" where the graph looks none up.
    Raises:
        ExportError: see `check_word_table`.
    """
    check_word_table(model, embeddings)
    wiring, kept = Wiring(model), "float32"
    rounded: dict[str, list[str]] = {}  # tensor -> names of its uint8 form, step and zero point
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in wiring.constants and node.name not in keep:
            if node.input[0] not in rounded:
                nodes.append(_round_input(node.input[0], rounded))
            nodes += _integer_matmul(model, wiring, node, rounded[node.input[0]], codes.ISAS[isa])
        elif is_word_lookup(node, wiring):
            kept = embeddings
            lookup = _four_bit_lookup if embeddings == "int4" else _integer_lookup
            nodes += lookup(model, wiring, node)
        else:
            nodes.append(node)
    set_nodes(model, nodes)
    return kept


def check_word_table(model: onnx.ModelProto, embeddings: str) -> None:
    """Raise ExportError where 4 bits are asked for and the graph has no word table that can have them."""
    if embeddings != "int4":
        return
    tables = word_tables(model)
    if not tables:
        raise ExportError(
            "embeddings: int4 is for word tables, and the graph looks none up by input_ids. "
            "Export it with --embeddings int8."
        )
    for table in tables:
        if table.dims[1] % codes.BLOCK:
            raise ExportError(
                f"embeddings: int4 has blocks of {codes.BLOCK} weights, and the word table {table.name} is "
                f"{table.dims[1]} wide, no multiple of that. Export it with --embeddings int8."
            )


def head_matmuls(model: onnx.ModelProto) -> set[str]:
    """Names of the MatMuls that project, which stay float32."""
    return {node.name for node in head_nodes(model) if node.op_type == "MatMul"}


def _round_input(tensor: str, rounded: dict[str, list[str]]) -> NodeProto:
    rounded[tensor] = [f"{tensor}_{part}" for part in ("quantized", "scale", "zero_point")]
    return helper.make_node("DynamicQuantizeLinear", [tensor], rounded[tensor], f"{tensor}_QuantizeLinear")


def _integer_matmul(
    model: onnx.ModelProto, wiring: Wiring, node: NodeProto, rounded: list[str], pairs: bool
) -> list[NodeProto]:
    """The nodes that ONNX Runtime turns into one integer MatMul, bias included, when a session opens."""
    weight, step = codes.by_column(wiring.value(node.input[1]), pairs)
    # Named by node: tied matrices of one name may be scaled apart.
    names = [f"{node.name}_weight_{part}" for part in ("quantized", "scale", "zero_point")]
    add_constant(model, names[0], weight)
    add_constant(model, names[1], step)
    add_constant(model, names[2], (step * 0).astype(weight.dtype))
    values, scale, zero = rounded
    sums, floats, scales = f"{node.name}_sums", f"{node.name}_floats", f"{node.name}_scales"
    inputs = [values, names[0], zero, names[2]]
    return [
        helper.make_node("Mul", [scale, names[1]], [scales], scales),
        helper.make_node("MatMulInteger", inputs, [sums], f"{node.name}_quant"),
        helper.make_node("Cast", [sums], [floats], floats, to=TensorProto.FLOAT),
        helper.make_node("Mul", [floats, scales], [node.output[0]], f"{node.name}_scaled"),
    ]


def _integer_lookup(model: onnx.ModelProto, wiring: Wiring, node: NodeProto) -> list[NodeProto]:
    table, step = codes.by_row(tensors.pieces(wiring.constants[node.input[0]]))
    names = [add_constant(model, f"{node.input[0]}_int8", table)]
    names.append(add_constant(model, f"{node.input[0]}_scale", step))
    ids, made = node.input[1], [f"{node.name}_{part}" for part in ("codes", "scales", "float", "words")]
    return [
        helper.make_node("Gather", [names[0], ids], [made[0]], made[0]),
        helper.make_node("Gather", [names[1], ids], [made[1]], made[1]),
        helper.make_node("Cast", [made[0]], [made[2]], made[2], to=TensorProto.FLOAT),
        helper.make_node("Mul", [made[2], made[1]], [node.output[0]], made[3]),
    ]


def _four_bit_lookup(model: onnx.ModelProto, wiring: Wiring, node: NodeProto) -> list[NodeProto]:
    """Plain operators unpack the rows that were looked up.

    ONNX Runtime's own operator for this, GatherBlockQuantized, is a scalar loop on the CPU: 450 us for 150
    rows of 384 where these take 80, with the same result (1.32, one thread).
    """
    width = int(wiring.constants[node.input[0]].dims[1])
    table, steps = codes.by_block(tensors.pieces(wiring.constants[node.input[0]]))
    make = Builder(model, f"{node.name}_int4")
    packed = make.add("Gather", add_constant(model, f"{node.input[0]}_int4", table), node.input[1])
    step = make.add("Gather", add_constant(model, f"{node.input[0]}_step", steps), node.input[1])
    four = make.constant(np.array(4, np.uint8))
    # Bits that are shifted out are lost, so this leaves the low half.
    low = make.add("BitShift", make.add("BitShift", packed, four, direction="LEFT"), four, direction="RIGHT")
    both = make.add("Concat", low, make.add("BitShift", packed, four, direction="RIGHT"), axis=-1)
    whole = make.add(
        "Sub", make.add("Cast", both, to=TensorProto.FLOAT), make.constant(np.array(8, np.float32))
    )
    blocks = make.add("Reshape", whole, make.ints(0, 0, width // codes.BLOCK, codes.BLOCK))
    step = make.add("Unsqueeze", make.add("Cast", step, to=TensorProto.FLOAT), make.ints(-1))
    make.add("Reshape", make.add("Mul", blocks, step), make.ints(0, 0, width))
    make.nodes[-1].output[0] = node.output[0]
    return make.nodes
