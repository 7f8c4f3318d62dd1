"""What the small files beside an ONNX graph say of its model, whichever layout they come in.

Of several, the checkpoint's own come first: `artifact.metadata`, then PyLate's settings, then next-plaid's,
whose exporter does not keep a checkpoint's query expansion.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latebolt.contract import Frame, TextRules
from latebolt.errors import ModelError
from latebolt.layouts import next_plaid, pylate, stanford
from latebolt.layouts.files import integer, read_settings
from latebolt.layouts.vocabulary import FILE_NAME as TOKENIZER
from latebolt.layouts.vocabulary import Vocabulary

# All that is read, for a download of no more than that.
FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    stanford.FILE_NAME,
    pylate.SETTINGS,
    "sentence_bert_config.json",
    "modules.json",
    "*_Dense/config.json",
    next_plaid.FILE_NAME,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Settings:
    """The part of a model that its small files tell. `dim` is None where none of them says it."""

    architecture: str
    hidden: int  # width of the encoder, 0 if unknown
    attention_heads: int  # 0 if unknown
    max_tokens: int  # most positions the encoder takes; without a config.json, the lengths that are told
    vocabulary: Vocabulary
    frame: Frame
    query: TextRules
    document: TextRules
    lowercase: bool
    dim: int | None


def read(folder: Path) -> Settings:
    """The settings of a folder.

    Raises:
        ModelError: there is no tokenizer or no file that says how texts are read, or one is faulty.
    """
    vocabulary = Vocabulary(folder)
    config = read_settings(folder / "config.json")
    positions = _positions(config, folder)
    bound = positions or sys.maxsize
    lowercase, dim, pad = False, None, None
    if stanford.recognises(folder):
        query, document = stanford.rules(folder, vocabulary, bound)
        dim = stanford.dim(folder)
    elif (folder / pylate.SETTINGS).is_file():
        query, document = pylate.rules(folder, vocabulary, bound)
        lowercase = pylate.lowercase(folder)
        dim = pylate.dim(folder) or (next_plaid.dim(folder) if next_plaid.recognises(folder) else None)
    elif next_plaid.recognises(folder):
        query, document = next_plaid.rules(folder, vocabulary, bound)
        lowercase = next_plaid.lowercase(folder)
        dim, pad = next_plaid.dim(folder), next_plaid.pad(folder, vocabulary)
    else:
        raise ModelError(
            f"{folder}: has none of {stanford.FILE_NAME}, {pylate.SETTINGS}, {next_plaid.FILE_NAME}, which "
            f"say how texts are read. Put the checkpoint's own beside the graph."
        )
    return Settings(
        architecture=str(config.get("model_type") or "onnx"),
        hidden=int(config.get("hidden_size") or config.get("dim") or 0),
        attention_heads=int(config.get("num_attention_heads") or config.get("n_heads") or 0),
        max_tokens=positions or max(query.max_tokens, document.max_tokens),
        vocabulary=vocabulary,
        frame=vocabulary.frame(pad),
        query=query,
        document=document,
        lowercase=lowercase,
        dim=dim,
    )


def _positions(config: dict[str, Any], folder: Path) -> int | None:
    """Most positions the encoder takes, where config.json says it."""
    rows = integer(config, "max_position_embeddings", 0, folder / "config.json")
    if not rows:
        return None
    # RoBERTa's table begins behind the padding id; jina-colbert-v2 kept the number and dropped the table.
    roberta = "roberta" in str(config.get("model_type")) or config.get("position_embedding_type") == "rotary"
    return rows - int(config.get("pad_token_id") or 1) - 1 if roberta else rows
