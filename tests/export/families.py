"""Small random checkpoints of every encoder family in its published layout, each with a plain reference.

The references for jina's two are written straight from the specification, with nothing of ours: full score
matrices, masks by -inf, no fused operator. The others are transformers' own models.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm
from transformers import (
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

# It asks for functions to be compiled that no test calls, and torch's compiler is loaded for that.
with patch.dict(os.environ, TORCHDYNAMO_DISABLE="1"):
    from transformers import ModernBertModel

VOCABULARY, HEADS, LAYERS, INNER = 95, 4, 2, 64
Reference = Callable[[Tensor, Tensor], Tensor]  # input_ids, attention_mask -> last hidden states


@dataclass
class Family:
    """One checkpoint: its config.json, its tensors under published names, and what they should compute."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    reference: Reference
    prefix: str = ""  # of a wrapped checkpoint
    unused: dict[str, Tensor] = field(default_factory=dict)  # what published checkpoints hold beside

    def write(self, folder: Path, **more: Tensor) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        state = {f"{self.prefix}{name}": value for name, value in (self.state | self.unused).items()}
        save_file(
            {name: value.clone() for name, value in (state | more).items()}, folder / "model.safetensors"
        )


def _of_transformers(kind: type, config: Any, prefix: str = "") -> Family:
    config._attn_implementation = "eager"
    torch.manual_seed(5)
    model = kind(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)

    def reference(ids: Tensor, mask: Tensor) -> Tensor:
        return model(ids, attention_mask=mask).last_hidden_state

    state = {name: value for name, value in model.state_dict().items() if not name.startswith("pooler")}
    unused = {name: value for name, value in model.state_dict().items() if name.startswith("pooler")}
    return Family(config.to_dict(), state, reference, prefix, unused)


def _sizes(**more: Any) -> dict[str, Any]:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": LAYERS}
    return sizes | {"num_attention_heads": HEADS, "intermediate_size": INNER} | more


def bert() -> Family:
    return _of_transformers(BertModel, BertConfig(**_sizes(max_position_embeddings=320)), "bert.")


def roberta() -> Family:
    config = RobertaConfig(**_sizes(max_position_embeddings=322, type_vocab_size=1, pad_token_id=1))
    return _of_transformers(RobertaModel, config, "roberta.")


def xlm_roberta() -> Family:
    config = XLMRobertaConfig(**_sizes(max_position_embeddings=322, type_vocab_size=1, pad_token_id=1))
    return _of_transformers(XLMRobertaModel, config)


def camembert() -> Family:
    config = CamembertConfig(**_sizes(max_position_embeddings=322, type_vocab_size=1, pad_token_id=1))
    return _of_transformers(CamembertModel, config, "roberta.")


def distilbert() -> Family:
    config = DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=320
    )
    return _of_transformers(DistilBertModel, config, "distilbert.")


def modernbert(**more: Any) -> Family:
    """Five layers: global, local, local, global, local; a window of 64 tokens on each side."""
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    settings = {"num_hidden_layers": 5, "max_position_embeddings": 640} | special | more
    return _of_transformers(ModernBertModel, ModernBertConfig(**_sizes(**settings)))


def jina_v2() -> Family:
    """XLM-RoBERTa with rotary positions as jina-colbert-v2 stores it: no model_type, rows q, k, v."""
    hidden, base = 32, 10000.0
    torch.manual_seed(6)
    state = {
        "embeddings.word_embeddings.weight": torch.randn(VOCABULARY, hidden),
        "embeddings.token_type_embeddings.weight": torch.randn(1, hidden),
        **_affine("emb_ln", hidden),
    }
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        state |= _linear(f"{layer}.mixer.Wqkv", 3 * hidden, hidden)
        state |= _linear(f"{layer}.mixer.out_proj", hidden, hidden)
        state |= _linear(f"{layer}.mlp.fc1", INNER, hidden) | _linear(f"{layer}.mlp.fc2", hidden, INNER)
        state |= _affine(f"{layer}.norm1", hidden) | _affine(f"{layer}.norm2", hidden)

    def reference(ids: Tensor, mask: Tensor) -> Tensor:
        def norm(x: Tensor, name: str) -> Tensor:
            return layer_norm(x, (hidden,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

        def linear(x: Tensor, name: str) -> Tensor:
            return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        words = state["embeddings.word_embeddings.weight"][ids]
        h = norm(words + state["embeddings.token_type_embeddings.weight"][0], "emb_ln")
        width = hidden // HEADS
        rates = torch.tensor([base ** (-2 * j / width) for j in range(width // 2)])
        angle = torch.arange(ids.shape[1])[:, None] * rates
        cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

        def turned(x: Tensor) -> Tensor:
            half = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1)
            return x * cos + half * sin

        for i in range(LAYERS):
            layer = f"encoder.layers.{i}"
            q, k, v = (_heads(part) for part in linear(h, f"{layer}.mixer.Wqkv").split(hidden, -1))
            scores = turned(q) @ turned(k).transpose(2, 3) / math.sqrt(width)
            mixed = _mix(scores, mask, v)
            h = norm(h + linear(mixed, f"{layer}.mixer.out_proj"), f"{layer}.norm1")
            inner = gelu(linear(h, f"{layer}.mlp.fc1"))
            h = norm(h + linear(inner, f"{layer}.mlp.fc2"), f"{layer}.norm2")
        return h

    config = _sizes(
        auto_map={"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling.XLMRobertaModel"},
        hidden_act="gelu", layer_norm_eps=1e-5, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, max_position_embeddings=642, position_embedding_type="rotary", rotary_emb_base=base,
    )  # fmt: skip
    unused = {f"pooler.dense.{part}": torch.zeros(hidden) for part in ("weight", "bias")}
    return Family(config, state, reference, "roberta.", unused)


def jina_v1() -> Family:
    """BERT with ALiBi and a gated feed-forward part as jina-colbert-v1-en stores it; its 12 heads."""
    hidden, heads = 48, 12
    slopes = [2.0**-n for n in range(1, 9)] + [2.0 ** -(n + 0.5) for n in range(4)]
    torch.manual_seed(7)
    state = {
        "embeddings.word_embeddings.weight": torch.randn(VOCABULARY, hidden),
        "embeddings.token_type_embeddings.weight": torch.randn(2, hidden),
        **_affine("embeddings.LayerNorm", hidden),
    }
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            state |= _linear(f"{layer}.attention.{name}", hidden, hidden)
        gated = _linear(f"{layer}.mlp.gated_layers", 2 * INNER, hidden)
        state[f"{layer}.mlp.gated_layers.weight"] = gated[f"{layer}.mlp.gated_layers.weight"]
        state |= _linear(f"{layer}.mlp.wo", hidden, INNER)
        state |= _affine(f"{layer}.attention.output.LayerNorm", hidden) | _affine(
            f"{layer}.mlp.layernorm", hidden
        )

    def reference(ids: Tensor, mask: Tensor) -> Tensor:
        def norm(x: Tensor, name: str) -> Tensor:
            return layer_norm(x, (hidden,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

        def linear(x: Tensor, name: str) -> Tensor:
            return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        words = state["embeddings.word_embeddings.weight"][ids]
        h = norm(words + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        distance = (torch.arange(ids.shape[1])[:, None] - torch.arange(ids.shape[1])).abs()
        bias = -torch.tensor(slopes)[:, None, None] * distance
        for i in range(LAYERS):
            layer = f"encoder.layer.{i}"
            names = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
            q, k, v = (_heads(linear(h, name), heads) for name in names)
            mixed = _mix(q @ k.transpose(2, 3) / math.sqrt(hidden // heads) + bias, mask, v)
            h = norm(
                h + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm"
            )
            first, second = (h @ state[f"{layer}.mlp.gated_layers.weight"].T).chunk(2, -1)
            h = norm(h + linear(gelu(first) * second, f"{layer}.mlp.wo"), f"{layer}.mlp.layernorm")
        return h

    config = _sizes(
        model_type="bert", hidden_size=hidden, num_attention_heads=heads, layer_norm_eps=1e-12,
        type_vocab_size=2, max_position_embeddings=640, position_embedding_type="alibi",
        feed_forward_type="geglu", pad_token_id=0,
    )  # fmt: skip
    return Family(config, state, reference, "bert.")


def _linear(name: str, rows: int, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": 0.3 * torch.randn(rows, width), f"{name}.bias": 0.3 * torch.randn(rows)}


def _affine(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + 0.3 * torch.randn(width), f"{name}.bias": 0.3 * torch.randn(width)}


def _heads(x: Tensor, heads: int = HEADS) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _mix(scores: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    hidden = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf)
    return (hidden.softmax(-1) @ values).transpose(1, 2).flatten(2)


FAMILIES: dict[str, Callable[[], Family]] = {
    "bert": bert,
    "roberta": roberta,
    "xlm-roberta": xlm_roberta,
    "camembert": camembert,
    "distilbert": distilbert,
    "modernbert": modernbert,
    "jina-xlm-roberta-rotary": jina_v2,
    "jina-bert-alibi": jina_v1,
}
