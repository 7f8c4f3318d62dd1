"""Finds and folds the channel scales that make a graph's activations fit eight bits.

A few channels of a transformer carry values ten times larger than the rest, and one scale a tensor then
wastes three bits on all others. Dividing channel c of a MatMul's input by s[c] and multiplying row c of
its weight by s[c] changes nothing in exact arithmetic and evens the ranges out:
    x @ W = (x / s) @ (diag(s) W).
Source: Xiao et al., "SmoothQuant", ICML 2023; here s is searched for each tensor over a few families, by the
error it leaves on real activations. Scales are powers of two, so that folding them rounds nothing and a
rebuild on another machine finds the same ones.

Where one channel is so large that its scaled row would coarsen the weights instead (in BERT: one channel of
[CLS] in a feed-forward layer), it is left to `outliers`, which carries it past quantisation in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from latebolt_export.graph import codes, tensors
from latebolt_export.graph.observe import Activations, observe
from latebolt_export.graph.onnx_edit import Wiring, add_constant, set_nodes
from latebolt_export.graph.outliers import carry_past
from latebolt_export.sessions import open_file

COLUMNS = 768  # of a weight that are tried, evenly spread: each is rounded on its own, so they speak for all
WORTH = 0.9  # a scale must leave less than this share of the error, or its extra multiplication does not pay
# A side path costs some 20 us at 128 tokens: only for inputs that lose this much, and then half of it.
SIDE_PATHS, SIDE_ERROR, SIDE_WORTH = (1, 2, 4, 8), 1e-3, 0.5
SIDE_MORE = 0.8  # what further channels must leave of the error of fewer


@dataclass(frozen=True, eq=False)
class Scale:
    """What was found for one MatMul input."""

    matmuls: tuple[str, ...]  # nodes that read it
    scale: np.ndarray  # float32 [channels], powers of two; all ones where smoothing does not pay
    outliers: np.ndarray  # int64 [count], channels that a float32 side path carries; usually none
    error: float  # mean relative squared error of the products, quantised with this scale
    plain_error: float  # the same without it


def find_scales(
    model: onnx.ModelProto,
    texts: Sequence[np.ndarray],
    folder: Path,
    skip: Collection[str] = (),
    isa: str = "auto",
) -> dict[str, Scale]:
    """The best scale of each tensor that feeds a weighted MatMul.

    Args:
        model: float32 graph on the CPU operators.
        texts: token ids, int64 [tokens] each.
        folder: takes a small file for a moment.
        skip: names of MatMul nodes that stay float32.
        isa: what the weights will be rounded for, one of `codes.ISAS`.
    Returns:
        tensor name -> Scale, in graph order.
    """
    wiring = Wiring(model)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in wiring.weighted():
        if node.name not in skip:
            readers.setdefault(node.input[0], []).append(node)
    samples = observe(model, texts, list(readers), folder)
    found = {}
    for tensor, nodes in readers.items():
        weights = np.concatenate([wiring.value(node.input[1]) for node in nodes], axis=1)
        weights = weights[:, :: -(-weights.shape[1] // COLUMNS)]
        search = _Search(samples.pop(tensor), weights, codes.ISAS[isa])
        found[tensor] = search.best(tuple(node.name for node in nodes))
    return found


def fold(model: onnx.ModelProto, scales: dict[str, Scale], path: Path) -> set[str]:
    """Write the scales into the graph, in place; returns the side paths' MatMuls, which stay float32.

    `path` is a new file for the large weights that change: together they may be too much for memory.
    Outlier channels move to a side path first. Then weights take s; the inverse goes into what makes the
    tensor, where that is linear (see `_fold_upstream`). Elsewhere the tensor also feeds a residual or
    follows a GELU, so a multiplication of its own carries it.
    """
    with tensors.TensorFile(path) as file:
        return _fold(model, scales, Wiring(model, file))


def _fold(model: onnx.ModelProto, scales: dict[str, Scale], wiring: Wiring) -> set[str]:
    before: dict[str, list[onnx.NodeProto]] = {}  # node name -> what comes in front of it
    after: dict[str, list[onnx.NodeProto]] = {}
    sides: set[str] = set()
    for tensor, found in scales.items():
        if np.all(found.scale == 1) and not len(found.outliers):
            continue
        nodes = [node for node in wiring.consumers[tensor] if node.name in found.matmuls]
        front = before.setdefault(nodes[0].name, [])
        if len(found.outliers):
            path = carry_past(model, wiring, tensor, found.outliers)
            front += path.before
            sides.add(path.before[-1].name)
            after[path.end] = path.after
        for node in nodes:
            wiring.replace(node.input[1], wiring.value(node.input[1]) * found.scale[:, None])
        if not len(found.outliers) and _fold_upstream(wiring, tensor, found.scale):
            continue
        inverse = (1 / found.scale).astype(np.float32)
        inverse[found.outliers] = 0  # their weights are 0 as well; here they must not widen the range
        evened = f"{tensor}_evened"
        constant = add_constant(model, f"{tensor}_divided_by", inverse)
        front.append(helper.make_node("Mul", [tensor, constant], [evened], evened))
        for node in nodes:
            node.input[0] = evened
    ordered: list[onnx.NodeProto] = []
    for node in model.graph.node:
        ordered += [*before.get(node.name, ()), node, *after.get(node.name, ())]
    set_nodes(model, ordered)
    return sides


def _fold_upstream(wiring: Wiring, tensor: str, scale: np.ndarray) -> bool:
    """Divide the channels of `tensor` where they are made, if that is possible.

    - An attention is linear in its values: the value projection takes the inverse.
    - A gated layer's product is linear in its ungated factor: that projection takes it.
    - A pre-norm normalisation feeds MatMuls only: its weight and bias take it.
    """
    maker = wiring.producer.get(tensor)
    if maker is None:
        return False
    if maker.op_type == "MultiHeadAttention":
        return _divide_projection(wiring, maker.input[2], scale)
    if maker.op_type == "Mul":
        return any(_divide_projection(wiring, factor, scale) for factor in reversed(maker.input))
    if maker.op_type == "LayerNormalization" and all(n.op_type == "MatMul" for n in wiring.consumers[tensor]):
        for name in maker.input[1:]:
            if len(wiring.consumers[name]) > 1:
                return False
        for name in maker.input[1:]:
            wiring.replace(name, wiring.value(name) / scale)
        return True
    return False


def _divide_projection(wiring: Wiring, tensor: str, scale: np.ndarray) -> bool:
    """Divide the columns of the MatMul (and its bias) that makes `tensor`, if nothing else reads it."""
    made: list[str] = []  # constants whose last axis is the channel
    while len(wiring.consumers[tensor]) == 1 and (node := wiring.producer.get(tensor)) is not None:
        constant = next((name for name in node.input if name in wiring.constants), None)
        if constant is None or node.op_type not in ("Add", "MatMul") or len(wiring.consumers[constant]) > 1:
            return False
        made.append(constant)
        if node.op_type == "MatMul":
            for name in made:
                wiring.replace(name, wiring.value(name) / scale)
            return True
        tensor = next(name for name in node.input if name != constant)
    return False


class _Search:
    """The search for one tensor's scale: candidates against the products of real rows."""

    def __init__(self, sample: Activations, weights: np.ndarray, pairs: bool) -> None:
        self.sample, self.weights, self.pairs = sample, weights, pairs
        self.exact = sample.rows @ weights
        # Written again and again: the system takes longer to give such pieces of memory than all else takes.
        self.evened, self.scaled = np.empty_like(sample.rows), np.empty_like(weights)
        self.lost = np.empty_like(self.exact)
        self.norms = np.maximum((self.exact * self.exact).sum(1), 1e-12)

    def best(self, matmuls: tuple[str, ...]) -> Scale:
        reach = np.maximum(np.maximum(-self.sample.low, self.sample.high).max(0), 1e-4)
        ones, none = np.ones_like(reach), np.empty(0, np.int64)
        plain = self.error(ones)
        least, scale = self.least(reach)
        if least > WORTH * plain:
            least, scale = plain, ones
        best = Scale(matmuls, scale, none, least, plain)
        if len(matmuls) > 1 or least < SIDE_ERROR:
            return best
        order = np.argsort(-reach, kind="stable")
        for count in SIDE_PATHS:
            aside = order[:count]
            reach[aside] = np.median(reach)
            error, scale = self.without(aside).least(reach)
            if error < (SIDE_MORE if len(best.outliers) else SIDE_WORTH) * best.error:
                scale[aside] = 1
                best = Scale(matmuls, scale, np.sort(aside), error, plain)
        return best

    def least(self, reach: np.ndarray) -> tuple[float, np.ndarray]:
        """The candidate with the least error, and that error."""
        different = {scale.tobytes(): scale for scale in _candidates(reach)}.values()
        return min(((self.error(scale), scale) for scale in different), key=lambda pair: pair[0])

    def error(self, scale: np.ndarray) -> float:
        """Mean relative squared error of the products, quantised with this scale."""
        np.multiply(self.weights, scale[:, None], out=self.scaled)
        weights, step = codes.by_column(self.scaled, self.pairs)
        rounded, size, zero = _round_activations(self.sample, scale, self.evened)
        # Where pairs of weights keep below the bound every CPU's product of bytes is exact, and up to seven
        # times as fast.
        product, lost = _integer_product if self.pairs else _float_product, self.lost
        lost[:] = product(rounded, zero, weights)
        lost *= size
        lost *= step
        lost -= self.exact
        lost *= lost
        return float(np.average(lost.sum(1) / self.norms, weights=self.sample.weight))

    def without(self, channels: np.ndarray) -> _Search:
        """The same with some channels set to zero; errors stay relative to the whole products."""
        parts = {name: getattr(self.sample, name).copy() for name in ("rows", "low", "high")}
        for part in parts.values():
            part[:, channels] = 0
        weights = self.weights.copy()
        weights[channels] = 0
        rest = _Search(replace(self.sample, **parts), weights, self.pairs)
        rest.norms = self.norms
        return rest


def _candidates(reach: np.ndarray) -> Iterator[np.ndarray]:
    """Scales made from `reach`, each channel's largest absolute value."""
    relative = reach / np.median(reach)
    for power in (0.5, 0.6, 0.7, 0.8, 0.9):
        yield _power_of_two(relative**power)
        yield _power_of_two(np.maximum(relative, 1) ** power)
    for share in (0.5, 0.8, 0.9, 0.95, 0.99):
        yield _power_of_two(np.maximum(reach / np.quantile(reach, share), 1))


def _power_of_two(scale: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp2(np.round(np.log2(scale))), np.float32)


def _round_activations(
    sample: Activations, scale: np.ndarray, evened: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ONNX Runtime's DynamicQuantizeLinear keeps of rows divided by `scale`, one range a text that
    includes 0: uint8 [rows, channels], and each row's step and zero point, float32 [rows, 1].

    Args:
        evened: room for the divided rows.
    """
    low = np.minimum((sample.low / scale).min(1), 0)
    high = np.maximum((sample.high / scale).max(1), 0)
    step = np.maximum(high - low, 1e-12) / 255
    zero = np.round(-low / step)
    step, zero = step[sample.text, None], zero[sample.text, None]
    np.divide(sample.rows, scale, out=evened)
    evened /= step
    np.rint(evened, out=evened)
    evened += zero
    np.clip(evened, 0, 255, out=evened)
    return evened.astype(np.uint8), step, zero


def _integer_product(rounded: np.ndarray, zero: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(rounded - zero) @ weights, as ONNX Runtime multiplies bytes: int32 [rows, columns]."""
    (sums,) = _multiplier().run(None, {"rows": rounded, "weights": weights})
    sums -= zero.astype(np.int32) * weights.sum(0, dtype=np.int32)
    return np.asarray(sums)


@functools.cache
def _multiplier() -> Any:
    ends = [
        helper.make_tensor_value_info(name, kind, [None, None])
        for name, kind in (
            ("rows", TensorProto.UINT8),
            ("weights", TensorProto.INT8),
            ("sums", TensorProto.INT32),
        )
    ]
    node = helper.make_node("MatMulInteger", ["rows", "weights"], ["sums"])
    graph = helper.make_graph([node], "product", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return open_file(model.SerializeToString())


def _float_product(rounded: np.ndarray, zero: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same where a CPU's product of bytes may leave its 16 bits."""
    return np.asarray((rounded - zero) @ weights.astype(np.float32), np.float32)
