"""PyTorch's side of the benchmarks on a GPU: the same checkpoint by scaled_dot_product_attention.

A plain encoder: query, key and value in one product, attention by PyTorch's fastest kernel, a mask only where
texts of a batch differ in length. A test holds it to the exporter's module, which graphs are compared with.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from latebolt_export.source import checkpoint, heads
from latebolt_export.torch import module


class Peer(nn.Module):
    """int64 [batch, tokens] ids and mask, None where all count, to unit vectors [batch, tokens, dim]."""

    def __init__(self, folder: Path, dim: int) -> None:
        super().__init__()
        found = checkpoint.load(folder)
        ours = module.build(found, heads.choose(found.projections, (dim,)))
        encoder = ours.encoder
        plan = encoder.plan
        assert not plan.pre_norm and not plan.gated and plan.activation == "gelu" and plan.pad is None
        self.heads, self.hidden, self.eps = plan.heads, plan.hidden, plan.eps
        self.words = nn.Parameter(encoder.words.weight.float(), requires_grad=False)
        self.shifts = None if encoder.shifts is None else nn.Buffer(encoder.shifts)
        self.norm = encoder.norm
        self.layers = nn.ModuleList(_Layer(layer, plan.heads) for layer in encoder.layers)
        self.has_rotary = bool(plan.kinds[0].rotary_base)
        if self.has_rotary:
            self.cosine, self.sine = nn.Buffer(encoder.cosine0), nn.Buffer(encoder.sine0)
        [projection] = found.projections
        [dense] = projection.layers
        self.head = nn.Parameter(dense.weight.float()[:dim].contiguous(), requires_grad=False)
        self.requires_grad_(False).eval()

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        n = ids.shape[1]
        hidden = functional.embedding(ids, self.words)
        if self.shifts is not None:
            hidden = hidden + (self.shifts[:n] if self.shifts.ndim == 2 else self.shifts)
        hidden = self.norm(hidden)
        seen = None if mask is None else mask[:, None, None, :].bool()
        tables = (self.cosine[:n], self.sine[:n]) if self.has_rotary else None
        for layer in self.layers:
            hidden = layer(hidden, seen, tables)
        return functional.normalize(functional.linear(hidden, self.head).float(), dim=-1)


class _Layer(nn.Module):
    def __init__(self, layer: Any, n_heads: int) -> None:
        super().__init__()
        parts = [layer.attention.query, layer.attention.key, layer.attention.value]
        self.heads = n_heads
        self.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
        self.bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
        self.out, self.norm1, self.norm2 = layer.attention.out, layer.norm1, layer.norm2
        self.up, self.down = layer.mlp.up, layer.mlp.down

    def forward(self, hidden: Tensor, seen: Tensor | None, tables: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, n, width = hidden.shape
        mixed = functional.linear(hidden, self.weight, self.bias).view(batch, n, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        if tables is not None:
            query, key = _rotated(query, *tables), _rotated(key, *tables)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        hidden = self.norm1(hidden + self.out(out.transpose(1, 2).reshape(batch, n, width)))
        return self.norm2(hidden + self.down(functional.gelu(self.up(hidden))))


def _rotated(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Half-split rotary of [batch, heads, tokens, width]."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class Runner:
    """A peer on a device, fed with tokenised texts sorted by length, so many a batch.

    Args:
        dtype: "float32" or "bfloat16".
        compiled: by torch.compile, once for all shapes.
    """

    def __init__(self, folder: Path, dim: int, dtype: str, device: str, compiled: bool = False) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.device = device
        self._peer: Any = Peer(folder, dim).to(device, getattr(torch, dtype))
        if compiled:
            # Without a GPU what matters is that the graph can be traced; code for a CPU takes minutes.
            backend = "eager" if device == "cpu" else "inductor"
            self._peer = torch.compile(self._peer, dynamic=True, backend=backend)

    def vectors(self, tokens: list[Any], batch: int) -> list[np.ndarray]:
        """float32 [n_kept, dim] of each text, in order, on the host."""
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i].ids))
        found: list[Any] = [None] * len(tokens)
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                some = order[start : start + batch]
                lengths = [len(tokens[i].ids) for i in some]
                ids = np.zeros((len(some), lengths[0]), np.int64)
                mask = np.zeros_like(ids)
                for row, i in enumerate(some):
                    ids[row, : lengths[row]] = tokens[i].ids
                    mask[row, : tokens[i].attended] = 1
                on_device = torch.from_numpy(ids).to(self.device, non_blocking=True)
                seen = None if mask.all() else torch.from_numpy(mask).to(self.device, non_blocking=True)
                made = self._peer(on_device, seen).cpu().numpy()
                for row, i in enumerate(some):
                    vectors = made[row, : lengths[row]]
                    found[i] = vectors if tokens[i].keep is None else vectors[tokens[i].keep]
        return found


def export_plainly(checkpoint_folder: Path, dim: int, out: Path) -> None:
    """A folder as FastEmbed reads one: a graph as torch traces it, and its tokenizer's files."""
    out.mkdir()
    peer, ids = Peer(checkpoint_folder, dim), torch.ones(2, 16, dtype=torch.int64)
    names, axes = ["input_ids", "attention_mask"], {0: "batch", 1: "tokens"}
    torch.onnx.export(
        peer, (ids, ids), str(out / "model.onnx"), dynamo=False, opset_version=17,
        input_names=names, output_names=["embeddings"],
        dynamic_axes=dict.fromkeys([*names, "embeddings"], axes),
    )  # fmt: skip
    shutil.copy(checkpoint_folder / "tokenizer.json", out)
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    (out / "special_tokens_map.json").write_text(json.dumps(special))
    (out / "tokenizer_config.json").write_text(json.dumps({**special, "model_max_length": 300}))
    (out / "config.json").write_text(json.dumps({"pad_token_id": 0}))
