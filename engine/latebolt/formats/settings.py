"""What the small files of a model that others made say of it, whichever layout they come in.

Of several layouts in one folder the checkpoint's own come first: Stanford's, then that of
sentence-transformers or PyLate, then next-plaid's, whose exporter drops a checkpoint's query expansion.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from latebolt.contract import Frame, TextRules
from latebolt.errors import ModelError
from latebolt.formats import modules, multi_vector, next_plaid, pylate, stanford
from latebolt.formats.files import integer, read_settings
from latebolt.formats.vocabulary import FILE_NAME as TOKENIZER
from latebolt.formats.vocabulary import SETTINGS as TOKENIZER_SETTINGS
from latebolt.formats.vocabulary import ConvertedTokenizer, Vocabulary

# All that is read, for a download of no more than that.
FILES = (
    TOKENIZER,
    TOKENIZER_SETTINGS,
    "special_tokens_map.json",
    "config.json",
    stanford.FILE_NAME,
    pylate.SETTINGS,
    "sentence_bert_config.json",
    modules.FILE_NAME,
    "*_Dense/config.json",
    "*_Normalize/config.json",
    "*_MultiVectorMask/config.json",
    "*_HierarchicalTokenPooling/config.json",
    "*_Transformer/*.json",
    next_plaid.FILE_NAME,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class TextSettings:
    """How a layout's texts become token ids. `layout` is its name in words."""

    layout: str
    query: TextRules
    document: TextRules
    lowercase: bool = False
    pad: int | None = None  # None = as the tokenizer says


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelSettings:
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


def texts(folder: Path, vocabulary: Vocabulary, config: dict[str, Any], taken: int) -> TextSettings | None:
    """The rules of a checkpoint's own layout; None where the folder is in none. Settles the tokenizer.

    Args:
        config: the encoder's config.json.
        taken: tokens that the encoder takes.
    Raises:
        ModelError: a setting is not known, or asks for something that no contract can say.
    """
    if stanford.recognises(folder):
        vocabulary.load_as_transformers_does()
        query, document = stanford.rules(folder, vocabulary, taken)
        return TextSettings(layout="Stanford", query=query, document=document)
    if multi_vector.recognises(folder):
        vocabulary.load_as_transformers_does()
        positions = integer(config, "max_position_embeddings", 0, folder / "config.json") or sys.maxsize
        query, document = multi_vector.rules(folder, vocabulary, positions, taken)
        return TextSettings(layout="sentence-transformers", query=query, document=document)
    if pylate.recognises(folder):
        vocabulary.load_as_transformers_does()
        query, document = pylate.rules(folder, vocabulary, taken)
        lowercase = pylate.lowercase(modules.encoder_folder(folder))
        return TextSettings(layout="PyLate", query=query, document=document, lowercase=lowercase)
    return None


def read(folder: Path, made: ConvertedTokenizer | None = None) -> ModelSettings:
    """The settings of a folder. `made`: its tokenizer, where it has no tokenizer.json.

    Raises:
        ModelError: there is no tokenizer or no file that says how texts are read, or one is faulty.
    """
    inner = modules.encoder_folder(folder)
    vocabulary = Vocabulary(inner, made)
    config = read_settings(inner / "config.json")
    positions = _positions(config, inner)
    bound = positions or sys.maxsize
    rules = texts(folder, vocabulary, config, bound) or _next_plaid(folder, vocabulary, bound)
    if rules is None:
        raise ModelError(
            f"{folder}: has none of {stanford.FILE_NAME}, {pylate.SETTINGS} of a late-interaction model, "
            f"{next_plaid.FILE_NAME}, which say how texts are read. Put the checkpoint's own there."
        )
    path = inner / "config.json"
    hidden = integer(config, "hidden_size", 0, path) or integer(config, "dim", 0, path)
    heads = integer(config, "num_attention_heads", 0, path) or integer(config, "n_heads", 0, path)
    return ModelSettings(
        architecture=str(config.get("model_type") or "onnx"),
        hidden=hidden,
        attention_heads=heads,
        max_tokens=positions or max(rules.query.max_tokens, rules.document.max_tokens),
        vocabulary=vocabulary,
        frame=vocabulary.frame(rules.pad),
        query=rules.query,
        document=rules.document,
        lowercase=rules.lowercase,
        dim=_dim(folder, hidden),
    )


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, settled as its layout's library does; neither truncates nor pads."""
    return read(folder).vocabulary.tokenizer


def tokenizer_file(folder: Path) -> Path:
    """Where the tokenizer.json of a folder should lie."""
    return modules.encoder_folder(folder) / TOKENIZER


def _next_plaid(folder: Path, vocabulary: Vocabulary, bound: int) -> TextSettings | None:
    if not next_plaid.recognises(folder):
        return None
    query, document = next_plaid.rules(folder, vocabulary, bound)
    return TextSettings(
        layout="next-plaid",
        query=query,
        document=document,
        lowercase=next_plaid.lowercase(folder),
        pad=next_plaid.pad(folder, vocabulary),
    )


def _dim(folder: Path, hidden: int) -> int | None:
    """Width of the token vectors, by the first layout that says it."""
    sources: list[tuple[bool, Callable[[], int | None]]] = [
        (stanford.recognises(folder), lambda: stanford.dim(folder)),
        (True, lambda: pylate.dim(folder)),
        (next_plaid.recognises(folder), lambda: next_plaid.dim(folder)),
        (multi_vector.recognises(folder), lambda: hidden or None),  # without a Dense: the encoder's own
    ]
    return next((found for applies, dim in sources if applies and (found := dim())), None)


def _positions(config: dict[str, Any], folder: Path) -> int | None:
    """Most positions the encoder takes, where config.json says it."""
    path = folder / "config.json"
    rows = integer(config, "max_position_embeddings", 0, path)
    if not rows:
        return None
    # RoBERTa's and MPNet's tables begin behind the padding id; jina-colbert-v2 kept only the number.
    kind = str(config.get("model_type"))
    roberta = (
        "roberta" in kind
        or kind in ("mpnet", "data2vec-text", "ibert")
        or config.get("position_embedding_type") == "rotary"
    )
    return rows - (integer(config, "pad_token_id", 1, path) or 1) - 1 if roberta else rows
