"""Makes the graphs in which texts share a run of a GPU, of the float16 graph, one a form; see `FORMS`.

Each gives the vectors of `kept` tokens alone, int64 places row * tokens + column, as [1, kept, dim]: the
others neither pass the heads nor are copied from the device. Their weights are the float16 graph's own.

"ragged" runs on ONNX Runtime's CUDA provider only, whose operators take the padding out before the first
layer and put it back behind the last (com.microsoft's RemovePadding, PackedMultiHeadAttention,
RestorePadding). It has vectors for the tokens that may be attended to; what it has in the place of others
means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import onnx
from onnx import NodeProto, TensorProto, helper

from latebolt_export.graph import tensors
from latebolt_export.graph.onnx_edit import Builder, Wiring, head_nodes, set_nodes

CONTRIB: Final = "com.microsoft"
KEPT: Final = "kept"
_MASK: Final = "attention_mask"
# Inputs of MultiHeadAttention, and the attributes that its packed twin has as well.
_BIAS, _LENGTHS, _SCORES = 3, 4, 5
_ATTRIBUTES: Final = ("num_heads", "mask_filter_value", "scale")


class _Unfit(Exception):
    """A graph of which a form cannot be made, in words."""


def make(half: onnx.ModelProto) -> tuple[dict[str, onnx.ModelProto], list[str]]:
    """The graphs by form, and for each form that cannot be made a line that says why.

    Args:
        half: the float16 graph, which is left as it is.
    """
    made: dict[str, onnx.ModelProto] = {}
    notes = []
    for form, change in FORMS.items():
        model = tensors.twin(half)
        try:
            change(model)
        except _Unfit as error:
            notes.append(f"no {form} graph for GPUs: {error}")
        else:
            made[form] = model
    return made, notes


def _padded(model: onnx.ModelProto) -> None:
    """With a mask."""
    _give_kept(model, lambda build, hidden: hidden)


def _equal(model: onnx.ModelProto) -> None:
    """Without a mask, for texts of one length: what CUDA's flash attention asks for."""
    for node in _attentions(model):
        inputs = list(node.input)
        inputs[_LENGTHS] = ""
        while not inputs[-1]:
            inputs.pop()
        del node.input[:]
        node.input.extend(inputs)
    _give_kept(model, lambda build, hidden: hidden)
    if any(_MASK in node.input for node in model.graph.node):
        raise _Unfit("the mask is read outside attention")
    inputs_left = [value for value in model.graph.input if value.name != _MASK]
    del model.graph.input[:]
    model.graph.input.extend(inputs_left)


def _ragged(model: onnx.ModelProto) -> None:
    """Without padding between the first layer and the last."""
    attentions = _attentions(model)
    if any(len(node.input) > _SCORES and node.input[_SCORES] for node in attentions):
        raise _Unfit(
            "packed attention with a bias on its scores (a window, ALiBi) keeps all of them in memory"
        )
    wiring = Wiring(model)
    entry, lengths = _entry(attentions, wiring), attentions[0].input[_LENGTHS]
    build = Builder(model, "ragged")
    packed, offsets, ends = "ragged_hidden", "ragged_offsets", "ragged_ends"
    remove = helper.make_node(
        "RemovePadding",
        [entry, lengths],
        [packed, offsets, ends, "ragged_most"],
        "ragged_remove",
        domain=CONTRIB,
    )
    build.nodes.append(remove)
    rotaries = [node for node in model.graph.node if node.op_type == "RotaryEmbedding"]
    positions = _positions(build, entry, packed, offsets) if rotaries else ""
    # Lengths come of the mask alone: first, so that they are there wherever the padding is taken out.
    nodes = _counting(lengths, wiring)
    first = {node.output[0] for node in nodes}
    for node in model.graph.node:
        if node.output[0] in first:
            continue
        for i, name in enumerate(node.input):
            if name == entry:
                node.input[i] = packed
        if node.op_type == "MultiHeadAttention":
            nodes.append(_packed(node, offsets, ends))
        elif node.op_type == "RotaryEmbedding":
            nodes += _packed_rotary(model, node, positions)
        else:
            nodes.append(node)
        if entry in node.output:
            nodes += build.nodes
    set_nodes(model, nodes)
    # The padding is put in again behind the last layer.
    _give_kept(model, lambda after, hidden: after.add("RestorePadding", hidden, offsets, domain=CONTRIB))


FORMS: Final[dict[str, Callable[[onnx.ModelProto], None]]] = {
    "padded": _padded,
    "equal": _equal,
    "ragged": _ragged,
}


def _attentions(model: onnx.ModelProto) -> list[NodeProto]:
    """Every attention, all of which hide the same tokens: those behind each row's first so many."""
    found = [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]
    masks = {node.input[_LENGTHS] if len(node.input) > _LENGTHS else "" for node in found}
    if not found or masks == {""} or len(masks) > 1:
        raise _Unfit("attention was not fused with the rows' lengths")
    if not _counting(masks.pop(), Wiring(model)):
        raise _Unfit("attention takes another mask than the rows' lengths")
    return found


def _counting(lengths: str, wiring: Wiring) -> list[NodeProto]:
    """The two nodes that count the ones of each row of the mask, a sum and a cast to int32; none where that
    is done in another way."""
    nodes: list[NodeProto] = []
    while lengths != _MASK and lengths in wiring.producer and len(nodes) < 2:
        nodes.insert(0, wiring.producer[lengths])
        lengths = nodes[0].input[0]
    casts = [node for node in nodes if node.op_type == "Cast"]
    sums = [node for node in nodes if node.op_type == "ReduceSum"]
    is_count = lengths == _MASK and len(casts) == len(sums) == 1
    if not is_count or helper.get_node_attr_value(casts[0], "to") != TensorProto.INT32:
        return []
    return nodes


def _entry(attentions: Sequence[NodeProto], wiring: Wiring) -> str:
    """What the first layer's query, key and value are all made of: [batch, tokens, hidden]."""
    found = {_product(name, wiring).input[0] for name in attentions[0].input[:3]}
    if len(found) != 1:
        raise _Unfit("the first layer's query, key and value are made of different tensors")
    return str(found.pop())


def _product(name: str, wiring: Wiring) -> NodeProto:
    """The MatMul behind which a tensor is only shifted by constants or rotated."""
    while (node := wiring.producer.get(name)) is not None:
        if node.op_type == "MatMul":
            return node
        varying = [each for each in node.input if each and each not in wiring.constants]
        if node.op_type not in ("Add", "RotaryEmbedding") or len(varying) != 1:
            break
        name = varying[0]
    raise _Unfit("the first layer's query, key and value are not plain products")


def _packed(node: NodeProto, offsets: str, ends: str) -> NodeProto:
    """The same attention over tokens without padding, [tokens of all rows, hidden]."""
    inputs = [*node.input[:3], node.input[_BIAS], offsets, ends]
    packed = helper.make_node("PackedMultiHeadAttention", inputs, node.output, node.name, domain=CONTRIB)
    unknown = [each.name for each in node.attribute if each.name not in _ATTRIBUTES]
    if unknown:
        raise _Unfit(f"attention has {', '.join(unknown)}, which packed attention has not")
    packed.attribute.extend(node.attribute)
    return packed


def _positions(build: Builder, entry: str, packed: str, offsets: str) -> str:
    """int64 [1, tokens of all rows]: each token's place in its row.

    RemovePadding's offsets name the places of all tokens, row * tokens + column, before those of the padding.
    """
    count = build.add("Shape", packed, start=0, end=1)
    places = build.add("Slice", build.add("Reshape", offsets, build.ints(-1)), build.ints(0), count)
    width = build.add("Cast", build.add("Shape", entry, start=1, end=2), to=TensorProto.INT32)
    columns = build.add("Cast", build.add("Mod", places, width), to=TensorProto.INT64)
    return build.add("Unsqueeze", columns, build.ints(0))


def _packed_rotary(model: onnx.ModelProto, node: NodeProto, positions: str) -> list[NodeProto]:
    """The same rotation of one row that holds all tokens, with a position for each of them."""
    build = Builder(model, f"{node.name}_ragged")
    row = build.add("Unsqueeze", node.input[0], build.ints(0))
    turned = NodeProto()
    turned.CopyFrom(node)
    turned.input[0], turned.input[1], turned.output[0] = row, positions, f"{node.name}_row"
    # A row of all texts is longer than the tables of positions, which is an error without this.
    turned.attribute.append(helper.make_attribute("is_packed_batching", 1))
    build.nodes.append(turned)
    build.add("Squeeze", turned.output[0], build.ints(0))
    build.nodes[-1].output[0] = node.output[0]
    return build.nodes


def _give_kept(model: onnx.ModelProto, restore: Callable[[Builder, str], str]) -> None:
    """Let the heads read the rows of kept tokens alone.

    Args:
        restore: makes [batch, tokens, hidden] of what the last normalisation gives.
    """
    heads = head_nodes(model)
    names = {node.name for node in heads}
    wiring = Wiring(model)
    read = {name for node in heads for name in node.input if name and name in wiring.producer}
    read -= {name for node in heads for name in node.output}
    if len(read) != 1:
        raise _Unfit("the heads read more than the last normalisation")
    hidden = read.pop()
    width = wiring.constants[wiring.producer[hidden].input[_gamma(wiring.producer[hidden])]].dims[0]
    build = Builder(model, "kept")
    flat = build.add("Reshape", restore(build, hidden), build.ints(-1, int(width)))
    rows = build.add("Unsqueeze", build.add("Gather", flat, KEPT, axis=0), build.ints(0))
    for node in heads:
        for i, name in enumerate(node.input):
            if name == hidden:
                node.input[i] = rows
    before = [node for node in model.graph.node if node.name not in names]
    set_nodes(model, [*before, *build.nodes, *heads])
    model.graph.input.append(helper.make_tensor_value_info(KEPT, TensorProto.INT64, ["kept_tokens"]))
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 1
        value.type.tensor_type.shape.dim[1].dim_param = "kept_tokens"


def _gamma(norm: NodeProto) -> int:
    """Which input of a normalisation holds its scales."""
    return 2 if norm.op_type == "SkipLayerNormalization" else 1
