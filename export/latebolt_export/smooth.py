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

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from latebolt_export.onnx_edit import Wiring, add_constant, set_nodes
from latebolt_export.outliers import carry_past

ROWS = 16  # token rows kept of each text and tensor: the first, whose outliers are the worst, and spread ones
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


@dataclass(frozen=True, eq=False)
class _Sample:
    """Activations of one tensor over all texts."""

    rows: np.ndarray  # float32 [rows, channels]
    weight: np.ndarray  # float32 [rows], how many token rows each stands for
    text: np.ndarray  # int [rows]
    low: np.ndarray  # float32 [texts, channels]
    high: np.ndarray  # float32 [texts, channels]


def find_scales(
    model: onnx.ModelProto, texts: Sequence[np.ndarray], skip: Collection[str] = ()
) -> dict[str, Scale]:
    """The best scale of each tensor that feeds a weighted MatMul.

    Args:
        model: float32 graph on the CPU operators.
        texts: token ids, int64 [tokens] each; run one by one, as the int8 graph will be.
        skip: names of MatMul nodes that stay float32.
    Returns:
        tensor name -> Scale, in graph order.
    """
    wiring = Wiring(model)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in wiring.weighted():
        if node.name not in skip:
            readers.setdefault(node.input[0], []).append(node)
    samples = _observe(model, texts, list(readers))
    found = {}
    for tensor, nodes in readers.items():
        weights = np.concatenate([wiring.value(node.input[1]) for node in nodes], axis=1)
        found[tensor] = _best(samples.pop(tensor), weights, tuple(node.name for node in nodes))
    return found


def fold(model: onnx.ModelProto, scales: dict[str, Scale]) -> set[str]:
    """Write the scales into the graph, in place; returns the side paths' MatMuls, which stay float32.

    Outlier channels move to a side path first. Then weights take s; the inverse goes into the value
    projection where the tensor comes from an attention (which is linear in its values). Elsewhere the
    tensor also feeds a residual or follows a GELU, so a multiplication of its own carries it.
    """
    wiring = Wiring(model)
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
        if not len(found.outliers) and _fold_into_values(wiring, tensor, found.scale):
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


def _fold_into_values(wiring: Wiring, tensor: str, scale: np.ndarray) -> bool:
    attention = wiring.producer.get(tensor)
    if attention is None or attention.op_type != "MultiHeadAttention":
        return False
    add = wiring.producer[attention.input[2]]
    matmul = wiring.producer[add.input[0]]
    wiring.replace(matmul.input[1], wiring.value(matmul.input[1]) / scale)
    wiring.replace(add.input[1], wiring.value(add.input[1]) / scale)
    return True


def _observe(
    model: onnx.ModelProto, texts: Sequence[np.ndarray], tensors: Sequence[str]
) -> dict[str, _Sample]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    kept: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in tensors}
    for number, ids in enumerate(texts):
        feed = {"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])}
        pick = np.unique(np.linspace(0, len(ids) - 1, min(ROWS, len(ids))).round().astype(int))
        share = np.full(len(pick), (len(ids) - 1) / max(1, len(pick) - 1), np.float32)
        share[0] = 1  # the first token stands for itself only
        for name, value in zip(tensors, session.run(list(tensors), feed), strict=True):
            rows = value[0]
            text = np.full(len(pick), number)
            kept[name].append((rows[pick], share, text, rows.min(0)[None], rows.max(0)[None]))
    return {name: _Sample(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in kept.items()}


def _best(sample: _Sample, weights: np.ndarray, matmuls: tuple[str, ...]) -> Scale:
    exact = sample.rows @ weights
    norms = np.maximum((exact * exact).sum(1), 1e-12)
    reach = np.maximum(np.maximum(-sample.low, sample.high).max(0), 1e-4)
    ones, none = np.ones_like(reach), np.empty(0, np.int64)
    plain = _error(sample, weights, norms, ones)
    least, scale = _least(sample, weights, norms, reach)
    if least > WORTH * plain:
        least, scale = plain, ones
    best = Scale(matmuls, scale, none, least, plain)
    if len(matmuls) > 1 or least < SIDE_ERROR:
        return best
    order = np.argsort(-reach, kind="stable")
    for count in SIDE_PATHS:
        aside = order[:count]
        reach[aside] = np.median(reach)
        error, scale = _least(_without(sample, aside), _zero_rows(weights, aside), norms, reach)
        if error < (SIDE_MORE if len(best.outliers) else SIDE_WORTH) * best.error:
            scale[aside] = 1
            best = Scale(matmuls, scale, np.sort(aside), error, plain)
    return best


def _least(
    sample: _Sample, weights: np.ndarray, norms: np.ndarray, reach: np.ndarray
) -> tuple[float, np.ndarray]:
    tried = ((_error(sample, weights, norms, scale), scale) for scale in _candidates(reach))
    return min(tried, key=lambda pair: pair[0])


def _error(sample: _Sample, weights: np.ndarray, norms: np.ndarray, scale: np.ndarray) -> float:
    exact = sample.rows @ weights
    lost = _round_activations(sample, scale) @ _round_weights(weights * scale[:, None]) - exact
    return float(np.average((lost * lost).sum(1) / norms, weights=sample.weight))


def _without(sample: _Sample, channels: np.ndarray) -> _Sample:
    parts = {name: getattr(sample, name).copy() for name in ("rows", "low", "high")}
    for part in parts.values():
        part[:, channels] = 0
    return replace(sample, **parts)


def _zero_rows(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    kept = weights.copy()
    kept[rows] = 0
    return kept


def _candidates(reach: np.ndarray) -> Iterator[np.ndarray]:
    """Scales made from `reach`, each channel's largest absolute value."""
    relative = reach / np.median(reach)
    for power in (0.5, 0.6, 0.7, 0.8, 0.9):
        yield _power_of_two(relative**power)
        yield _power_of_two(np.maximum(relative, 1) ** power)
    for share in (0.5, 0.8, 0.9, 0.95, 0.99):
        yield _power_of_two(np.maximum(reach / np.quantile(reach, share), 1))


def _power_of_two(scale: np.ndarray) -> np.ndarray:
    return np.exp2(np.round(np.log2(scale))).astype(np.float32)


def _round_activations(sample: _Sample, scale: np.ndarray) -> np.ndarray:
    """What ONNX Runtime's DynamicQuantizeLinear keeps: uint8, one range a text that includes 0."""
    low = np.minimum((sample.low / scale).min(1), 0)
    high = np.maximum((sample.high / scale).max(1), 0)
    step = np.maximum(high - low, 1e-12) / 255
    zero = np.round(-low / step)
    step, zero = step[sample.text, None], zero[sample.text, None]
    return ((np.clip(np.round(sample.rows / scale / step) + zero, 0, 255) - zero) * step).astype(np.float32)


def _round_weights(weights: np.ndarray) -> np.ndarray:
    """int8, one symmetric scale a column."""
    step = np.maximum(np.abs(weights).max(0), 1e-12) / 127
    return (np.round(weights / step) * step).astype(np.float32)
