"""Writes small checkpoints in every layout, and runs what an export makes of them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from latebolt.contract import Graph

if TYPE_CHECKING:
    from transformers import BertModel

HIDDEN, LAYERS, DIM = 32, 2, 16
SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary() -> list[str]:
    letters = string.ascii_lowercase
    return [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *string.punctuation, "[Q] ", "[D] "]


def write_tokenizer(folder: Path) -> None:
    made = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary())}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 4), ("[SEP]", 5)]
    )
    made.enable_truncation(8)  # must not reach the model folder
    made.enable_padding(length=8)
    made.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def write_checkpoint(folder: Path, layout: str, bert: BertModel, head: torch.Tensor) -> None:
    bert.config.save_pretrained(folder)
    write_tokenizer(folder)
    state = {key: value.clone() for key, value in bert.state_dict().items()}
    if layout == "stanford":
        settings = {"query_maxlen": 16, "doc_maxlen": 100, "dim": DIM, "attend_to_mask_tokens": True}
        (folder / "artifact.metadata").write_text(json.dumps(settings))
        state = {f"bert.{key}": value for key, value in state.items()} | {"linear.weight": head.clone()}
    save_file(state, folder / "model.safetensors")
    if layout == "pylate":
        modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
        for idx in (1, 2):
            kind = "pylate.models.Dense.Dense"
            modules.append({"idx": idx, "path": f"{idx}_Dense", "type": kind})
        write_dense(
            folder / "1_Dense", HIDDEN, 24, residual=True, activation="torch.nn.modules.activation.Tanh"
        )
        write_dense(folder / "2_Dense", 24, DIM, bias=True)
        (folder / "modules.json").write_text(json.dumps(modules))
        settings = {
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 20,
            "document_length": 90,
        }
        settings |= {"do_query_expansion": False, "skiplist_words": ["!", ",", "€"]}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))


def write_dense(
    folder: Path,
    width: int,
    dim: int,
    *,
    bias: bool = False,
    residual: bool = False,
    activation: str = "torch.nn.modules.linear.Identity",
) -> None:
    torch.manual_seed(width)
    folder.mkdir()
    tensors = {"linear.weight": torch.randn(dim, width) / width**0.5}
    if bias:
        tensors["linear.bias"] = torch.randn(dim)
    if residual:
        tensors["residual.weight"] = torch.randn(dim, width) / width**0.5
    save_file(tensors, folder / "model.safetensors")
    config = {"in_features": width, "out_features": dim, "bias": bias, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config | {"use_residual": residual}))


def outputs(folder: Path, graph: Graph, ids: list[int]) -> dict[str, np.ndarray]:
    """Every output of one exported graph for one text: float32 [tokens, dim] by name."""
    session = onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    return dict(zip(names, (value[0] for value in session.run(None, feed)), strict=True))


def unit(rows: torch.Tensor) -> np.ndarray:
    """Rows divided by their lengths."""
    return torch.nn.functional.normalize(rows, dim=-1).numpy()
