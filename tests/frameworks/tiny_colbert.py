"""A small random checkpoint in the Stanford layout for the library that reads it, and its export for ours."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from latebolt_export import export_model

sys.path.append(str(Path(__file__).parents[1] / "export"))  # the helpers of the exporter's tests

from small import HIDDEN, vocabulary, write_checkpoint

DIM, QUERY, DOCUMENT, POSITIONS = 64, 32, 100, 192

# On a busy machine OpenMP's threads wait for each other by spinning: a tiny model takes seconds then.
torch.set_num_threads(1)


def make_checkpoint(folder: Path, attend: bool = False) -> Path:
    """A checkpoint whose vectors depend on the texts."""
    torch.manual_seed(7)
    bert = BertModel(
        BertConfig(
            vocab_size=len(vocabulary()),
            hidden_size=HIDDEN,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=POSITIONS,
        )
    ).eval()
    for parameter in bert.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    folder.mkdir(parents=True)
    write_checkpoint(folder, "stanford", bert, torch.randn(DIM, HIDDEN))
    settings = {"query_maxlen": QUERY, "doc_maxlen": DOCUMENT, "dim": DIM, "attend_to_mask_tokens": attend}
    (folder / "artifact.metadata").write_text(json.dumps(settings))
    return folder


def export(checkpoint: Path) -> Path:
    """The checkpoint as a model folder."""
    out = checkpoint.with_name(checkpoint.name + "-onnx")
    export_model(checkpoint, out, precisions=("fp32",))
    return out


def passages(n: int, words: int = 12) -> list[str]:
    """Texts of random words from a small vocabulary, the same each time."""
    generator = random.Random(0)
    known = ["".join(generator.choices("abcdefgh", k=4)) for _ in range(60)]
    return [" ".join(generator.choices(known, k=words)) for _ in range(n)]
