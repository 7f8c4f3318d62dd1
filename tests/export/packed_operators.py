"""What ONNX Runtime's contributed operators compute, written in NumPy from their documentation
(docs/ContribOperators.md), for `onnx.reference`: those without a kernel on a CPU, and those beside them."""

from __future__ import annotations

import itertools
import math

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

_ERF = np.vectorize(math.erf, otypes=[np.float64])


class RemovePadding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, states, lengths):
        rows, tokens, hidden = states.shape
        real = np.arange(tokens) < lengths[:, None]
        offsets = np.concatenate([np.flatnonzero(real), np.flatnonzero(~real)]).astype(np.int32)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        packed = states.reshape(-1, hidden)[offsets[: ends[-1]]]
        most = np.array([lengths.max()], np.int32)
        return packed, offsets.reshape(rows, tokens), ends, most


class RestorePadding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, packed, offsets):
        whole = np.zeros((offsets.size, packed.shape[1]), packed.dtype)
        whole[offsets.reshape(-1)[: len(packed)]] = packed
        return (whole.reshape(*offsets.shape, -1),)


def _attention(query, key, value, heads):
    """[tokens, hidden] each."""
    q, k, v = (part.reshape(len(part), heads, -1).swapaxes(0, 1) for part in (query, key, value))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(np.float32(q.shape[2]))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return mixed.swapaxes(0, 1).reshape(len(query), -1).astype(query.dtype)


class PackedMultiHeadAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(self, query, key, value, bias, offsets, ends, num_heads=None, mask_filter_value=None):
        if bias is not None:
            query, key, value = np.stack([query, key, value]) + bias.reshape(3, 1, -1)
        assert query.ndim == 2 and len(ends) == len(offsets) + 1 and ends[-1] == len(query)
        parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
        return (np.concatenate([_attention(query[p], key[p], value[p], num_heads) for p in parts]),)


class RotaryEmbedding(OpRun):
    op_domain = "com.microsoft"

    def _run(
        self,
        states,
        positions,
        cosine,
        sine,
        interleaved=0,
        is_packed_batching=0,
        num_heads=0,
        rotary_embedding_dim=0,
    ):
        rows, tokens, hidden = states.shape
        assert not num_heads and not rotary_embedding_dim  # or None: whole heads, as wide as the tables say
        assert interleaved == 0 and positions.shape in ((1,), (rows, tokens))
        # As the operator checks it where rows are no ragged batch.
        assert is_packed_batching or tokens <= len(cosine)
        if positions.shape == (1,):
            positions = positions + np.arange(tokens)[None]
        first, second = np.split(states.reshape(rows, tokens, -1, 2 * cosine.shape[1]), 2, axis=-1)
        cos, sin = cosine[positions][:, :, None], sine[positions][:, :, None]
        turned = np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
        return (turned.reshape(rows, tokens, hidden),)


class SkipLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, states, skip, gamma, beta=None, bias=None, epsilon=1e-5):
        total = states + skip + (0 if bias is None else bias)
        mean = total.mean(-1, keepdims=True)
        spread = np.sqrt(((total - mean) ** 2).mean(-1, keepdims=True) + np.float32(epsilon))
        made = ((total - mean) / spread * gamma + (0 if beta is None else beta)).astype(states.dtype)
        return made, mean, 1 / spread, total.astype(states.dtype)


class BiasGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, states, bias):
        x = states + bias
        return ((0.5 * x * (1 + _ERF(x / math.sqrt(2)))).astype(states.dtype),)


class Gelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x):
        return ((0.5 * x * (1 + _ERF(x / math.sqrt(2)))).astype(x.dtype),)


OPERATORS = (
    RemovePadding,
    RestorePadding,
    PackedMultiHeadAttention,
    RotaryEmbedding,
    SkipLayerNormalization,
    BiasGelu,
    Gelu,
)


def evaluator(model):
    """Runs a graph of these operators: .run(None, {name: array})."""
    return ReferenceEvaluator(model, new_ops=list(OPERATORS))
