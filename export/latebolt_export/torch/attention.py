"""Attention as PyTorch computes it, and as the one operator it becomes in a traced graph.

Tracing the arithmetic and fusing it again would depend on patterns that tool upgrades break; here the tracer
is told the operator. `graph` finishes what TorchScript cannot express (an input left empty).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from latebolt_export.source.architectures import MASKED

DOMAIN = "latebolt"


def attend(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, bias: Tensor | None, heads: int
) -> Tensor:
    """Softmax attention.

    Args:
        query: float32 [batch, tokens, heads * width]; likewise key and value.
        lengths: int32 [batch], so many first positions of each row may be attended to.
        bias: float32 [1, 1 | heads, tokens, tokens] added to the scores, or None.
    Returns:
        float32 [batch, tokens, heads * width].
    """
    return _Attention.apply(query, key, value, lengths, bias, heads)


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each head's pairs (j, j + width / 2) by their position's angle: rotary, half-split.

    Args:
        states: float32 [batch, tokens, heads * width].
        cosine: float32 [most tokens, width / 2]; likewise sine.
    """
    return _Rotary.apply(states, cosine, sine)


def rotary_tables(base: float, width: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position / base^(2 j / width), float32 [tokens, width / 2] each.

    Source: Su et al., "RoFormer", 2021.
    """
    rates = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(tokens, dtype=torch.float32), rates)
    return angles.cos(), angles.sin()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, bias: Tensor | None, heads: int
    ) -> Tensor:
        batch, tokens, hidden = query.shape
        q, k, v = (part.view(batch, tokens, heads, -1).transpose(1, 2) for part in (query, key, value))
        mask = bias
        if bool((lengths < tokens).any()):
            kept = torch.arange(tokens)[None, None, None, :] < lengths[:, None, None, None]
            padding = torch.where(kept, 0.0, MASKED)
            mask = padding if bias is None else bias + padding
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(batch, tokens, hidden)

    @staticmethod
    def symbolic(g: Any, query: Any, key: Any, value: Any, lengths: Any, bias: Any, heads: int) -> Any:
        inputs = [query, key, value, lengths] + ([] if bias is None else [bias])
        return g.op(f"{DOMAIN}::MultiHeadAttention", *inputs, num_heads_i=heads).setType(query.type())


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, tokens, hidden = states.shape
        first, second = states.view(batch, tokens, -1, 2, cosine.shape[1]).unbind(3)
        cos, sin = cosine[:tokens, None, :], sine[:tokens, None, :]
        turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=3)
        return turned.view(batch, tokens, hidden)

    @staticmethod
    def symbolic(g: Any, states: Any, cosine: Any, sine: Any) -> Any:
        start = g.op("Constant", value_t=torch.zeros(1, dtype=torch.int64))
        op = g.op("com.microsoft::RotaryEmbedding", states, start, cosine, sine, interleaved_i=0)
        return op.setType(states.type())
