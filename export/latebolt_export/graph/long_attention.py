"""Forms of attention for long texts on a CPU: memory linear in the length.

ONNX Runtime's CPU operator is flash attention only without mask and bias; with either it holds the whole
score matrix, 4 GB for 16 heads at 8192 tokens. So:
- full attention drops its mask where no position is masked (`full`);
- attention with a window becomes ordinary attention between blocks of window tokens, each block one row of a
  batch, its keys the block itself and its two neighbours (`windowed`);
- ALiBi, whose bias is needed by every query, runs a stretch of queries at a time (`sloped`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from latebolt_export.graph.onnx_edit import Builder
from latebolt_export.source.architectures import MASKED

MASK = "attention_mask"
STRETCH = 256  # queries of one ALiBi step: 100 MB of scores for 12 heads at 8192 tokens
_END = np.iinfo(np.int64).max


class Blocks:
    """Rewrites the MultiHeadAttention nodes of one graph; `shared` holds what they have in common.

    A node's inputs are query, key, value, (none), unmasked positions [batch], and perhaps a bias.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.shared = Builder(model, "latebolt")
        self._made: dict[object, str] = {}

    def full(self, node: NodeProto) -> NodeProto:
        """An If: without its mask where no position is masked, else as it is."""
        return _choice(
            node, self._unmasked(), _alike(node, node.input[:3], "free"), _alike(node, node.input, "masked")
        )

    def windowed(self, node: NodeProto, window: int) -> NodeProto:
        """An If: full attention where the window covers the text, else attention between blocks."""
        fits = self._once(("fits", window), lambda: self._shorter_than(window + 2))
        short = _branch(node, "short")
        inner = NodeProto()
        inner.CopyFrom(node)
        inner.name, inner.output[0] = f"{node.name}_short", f"{node.output[0]}_short"
        del inner.input[5:]  # the bias: no two tokens are further apart than the window
        short.node.append(self.full(inner))
        build = Builder(self.model, f"{node.name}_blocks")
        queries = self._cut(build, node.input[0], window, around=False)
        keys = self._cut(build, node.input[1], window, around=True)
        values = self._cut(build, node.input[2], window, around=True)
        heads = helper.get_node_attr_value(node, "num_heads")
        bias = self._once(("bias", window), lambda: self._block_bias(window))
        out = build.add(
            "MultiHeadAttention", queries, keys, values, "", "", bias, domain=node.domain, num_heads=heads
        )
        self._join(build, node, out)
        blocks = _branch(node, "blocks")
        blocks.node.extend(build.nodes)
        blocks.node[-1].output[0] = blocks.output[0].name
        return _choice(node, fits, short, blocks)

    def _join(self, build: Builder, node: NodeProto, pieces: str) -> None:
        """Put pieces of the attention's output together and drop the rows that padding made."""
        hidden = build.add("Shape", node.input[0], start=2)
        rows = build.add("Concat", self._batch(), build.ints(-1), hidden, axis=0)
        whole = build.add("Reshape", pieces, rows)
        build.add("Slice", whole, self.shared_ints(0), self._tokens(), self.shared_ints(1))

    def sloped(self, node: NodeProto, slopes: Sequence[float]) -> list[NodeProto]:
        """An If: at once for a text of one stretch, else a Loop over stretches of queries.

        The bias depends on the distance alone, so that every stretch reads another part of one strip; the
        node's own bias, a full matrix for each head, is no longer made.
        """
        strip = self._once(("strip", tuple(slopes)), lambda: self._strip(slopes))
        short = self._one_stretch(node, strip)
        build = Builder(self.model, f"{node.name}_stretches")
        padded = self._pad(build, node.input[0], build.ints(0, 0, 0, 0), STRETCH)
        count = self._once(("count", STRETCH), lambda: self._count(self.shared, STRETCH))
        steps = build.add("Squeeze", count)
        body = self._stretch(node, padded, strip)
        always = build.constant(np.array(True))
        stacked = build.add("Loop", steps, always, body=body)  # [stretches, batch, STRETCH, hidden]
        turned = build.add("Transpose", stacked, perm=[1, 0, 2, 3])
        self._join(build, node, turned)
        long = _branch(node, "stretches")
        long.node.extend(build.nodes)
        long.node[-1].output[0] = long.output[0].name
        fits = self._once(("fits", STRETCH), lambda: self._shorter_than(STRETCH + 1))
        return [_choice(node, fits, short, long)]

    def _one_stretch(self, node: NodeProto, strip: str) -> onnx.GraphProto:
        """Branch: the attention of a text that is no longer than one stretch."""
        build = Builder(self.model, f"{node.name}_short")
        tokens = self._tokens()
        begin = build.add("Concat", build.ints(0), tokens, axis=0)
        end = build.add("Concat", tokens, build.add("Add", tokens, tokens), axis=0)
        bias = build.add("Slice", strip, begin, end, build.ints(2, 3))
        branch = _alike(node, [*node.input[:5], bias], "short")
        for position, made in enumerate(build.nodes):
            branch.node.insert(position, made)
        return branch

    def _stretch(self, node: NodeProto, padded: str, strip: str) -> onnx.GraphProto:
        """Loop body: the attention of one stretch of queries."""
        inside = Builder(self.model, f"{node.name}_stretch")
        step, going = f"{node.name}_step", f"{node.name}_going"
        size = inside.ints(STRETCH)
        number = inside.add("Reshape", step, inside.ints(1))
        start = inside.add("Mul", number, size)
        queries = inside.add("Slice", padded, start, inside.add("Add", start, size), inside.ints(1))
        left = inside.add("Sub", self._tokens(), start)
        right = inside.add("Add", left, self._tokens())
        bias = inside.add("Slice", strip, left, right, inside.ints(3))
        heads = helper.get_node_attr_value(node, "num_heads")
        out = inside.add(
            "MultiHeadAttention", queries, *node.input[1:3], "", node.input[4], bias,
            domain=node.domain, num_heads=heads,
        )  # fmt: skip
        still = inside.add("Identity", going)
        return helper.make_graph(
            inside.nodes,
            f"{node.name}_stretch",
            [
                helper.make_tensor_value_info(step, TensorProto.INT64, []),
                helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            ],
            [
                helper.make_tensor_value_info(still, TensorProto.BOOL, []),
                helper.make_tensor_value_info(out, TensorProto.FLOAT, None),
            ],
        )

    def _strip(self, slopes: Sequence[float]) -> str:
        """float32 [1, heads, STRETCH, 2 tokens]: -slope * |a + tokens - m| for query a and column m.

        Columns tokens - start .. 2 tokens - start are the bias of the queries from `start` on.
        """
        build, tokens = self.shared, self._tokens()
        length = build.add("Squeeze", tokens)
        zero, one = build.constant(np.array(0, np.int64)), build.constant(np.array(1, np.int64))
        columns = build.add("Range", zero, build.add("Add", length, length), one)
        rows = build.add("Add", build.constant(np.arange(STRETCH)[:, None]), tokens)
        distance = build.add("Cast", build.add("Abs", build.add("Sub", rows, columns)), to=TensorProto.FLOAT)
        return build.add("Mul", distance, build.constant(-np.array(slopes, np.float32)[None, :, None, None]))

    def _block_bias(self, window: int) -> str:
        """float32 [batch * blocks, 1, window, 3 window]: 0 where a query may see a key, MASKED elsewhere."""
        build = self.shared
        mask = build.add("Unsqueeze", build.add("Cast", MASK, to=TensorProto.FLOAT), build.ints(2))
        kept = self._cut(build, mask, window, around=True)  # [batch * blocks, 3 window, 1]
        hidden = build.add("Sub", build.constant(np.array(1, np.float32)), kept)
        column = build.add("Unsqueeze", build.add("Transpose", hidden, perm=[0, 2, 1]), build.ints(1))
        padding = build.add("Mul", column, build.constant(np.array(MASKED, np.float32)))
        distance = np.abs(np.arange(window)[:, None] + window - np.arange(3 * window))
        band = build.constant(np.where(distance > window, MASKED, 0).astype(np.float32)[None, None])
        return build.add("Add", padding, band)

    def _cut(self, build: Builder, name: str, window: int, *, around: bool) -> str:
        """[batch, tokens, width] -> [batch * blocks, window, width], or 3 window with both neighbours."""
        width = build.add("Shape", name, start=2)
        rows = build.add("Concat", build.ints(-1, window), width, axis=0)
        if not around:
            return build.add("Reshape", self._pad(build, name, build.ints(0, 0, 0, 0), window), rows)
        padded = self._pad(build, name, build.ints(0, window, 0, 0), window, window)
        parts = []
        for shift in (0, window, 2 * window):
            # From both ends, so that every part has the same length.
            end = build.ints(shift - 2 * window if shift < 2 * window else _END)
            part = build.add("Slice", padded, build.ints(shift), end, build.ints(1))
            parts.append(build.add("Reshape", part, rows))
        return build.add("Concat", *parts, axis=1)

    def _pad(self, build: Builder, name: str, front: str, multiple: int, more: int = 0) -> str:
        """Fill up with zero rows to a multiple of tokens and `more` behind it; `front` is the first pads."""
        count = self._once(("count", multiple), lambda: self._count(self.shared, multiple))
        whole = build.add("Mul", count, build.ints(multiple))
        missing = build.add("Sub", build.add("Add", whole, build.ints(more)), self._tokens())
        return build.add("Pad", name, build.add("Concat", front, missing, build.ints(0), axis=0))

    def _count(self, build: Builder, multiple: int) -> str:
        """Blocks that hold every token: int64 [1]."""
        upper = build.add("Add", self._tokens(), build.ints(multiple - 1))
        return build.add("Div", upper, build.ints(multiple))

    def _tokens(self) -> str:
        return self._once("tokens", lambda: self.shared.add("Shape", MASK, start=1))

    def _batch(self) -> str:
        return self._once("batch", lambda: self.shared.add("Shape", MASK, start=0, end=1))

    def shared_ints(self, *values: int) -> str:
        """A vector of ints that many nodes use."""
        return self._once(("ints", values), lambda: self.shared.ints(*values))

    def _shorter_than(self, tokens: int) -> str:
        """A flag: the text has fewer tokens."""
        less = self.shared.add("Less", self._tokens(), self.shared.ints(tokens))
        return self.shared.add("Squeeze", less)

    def _unmasked(self) -> str:
        """A flag: every mask entry is 1."""

        def make() -> str:
            least = self.shared.add("ReduceMin", MASK, keepdims=0)
            return self.shared.add("Cast", least, to=TensorProto.BOOL)

        return self._once("unmasked", make)

    def _once(self, key: object, make: Callable[[], str]) -> str:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _alike(node: NodeProto, inputs: Sequence[str], name: str) -> onnx.GraphProto:
    """A branch that holds the node itself with these inputs."""
    branch = _branch(node, name)
    inner = branch.node.add()
    inner.CopyFrom(node)
    del inner.input[:]
    inner.input.extend(inputs)
    inner.name, inner.output[0] = f"{node.name}_{name}", branch.output[0].name
    return branch


def _branch(node: NodeProto, name: str) -> onnx.GraphProto:
    result = helper.make_empty_tensor_value_info(f"{node.output[0]}_{name}")
    return helper.make_graph([], f"{node.name}_{name}", [], [result])


def _choice(node: NodeProto, flag: str, then: onnx.GraphProto, other: onnx.GraphProto) -> NodeProto:
    return helper.make_node(
        "If", [flag], [node.output[0]], f"{node.name}_if", then_branch=then, else_branch=other
    )
