"""Reads the settings of the PyLate layout: `modules.json` and `config_sentence_transformers.json`.

Source: pylate/models/colbert.py for defaults and rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latebolt.contract import Expansion, TextRules
from latebolt.layouts.files import integer, read_json, read_settings
from latebolt.layouts.vocabulary import PUNCTUATION, Vocabulary

SETTINGS = "config_sentence_transformers.json"


def encoder_folder(folder: Path) -> Path:
    """Where the transformer's own files lie: the folder itself, unless its modules say otherwise."""
    modules = read_json(folder / "modules.json") or []
    return folder / modules[0].get("path", "") if modules else folder


def dense_paths(folder: Path) -> list[str]:
    """Where the Dense modules lie, in the order they are applied in."""
    modules = read_json(folder / "modules.json") or []
    return [module["path"] for module in modules if str(module.get("type", "")).endswith(".Dense")]


def dim(folder: Path) -> int | None:
    """Width of the token vectors: what the last Dense module gives; None where that is not written."""
    paths = dense_paths(folder)
    if not paths:
        return None
    config = folder / paths[-1] / "config.json"
    return integer(read_settings(config), "out_features", 0, config) or None


def lowercase(folder: Path) -> bool:
    """Whether texts are lowercased before the tokenizer sees them."""
    return bool(read_settings(folder / "sentence_bert_config.json").get("do_lower_case", False))


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules of config_sentence_transformers.json.

    A prefix that is one token of the vocabulary is a marker behind [CLS], as PyLate inserts it; any
    other prefix is text in front.
    """
    path = folder / SETTINGS
    settings = read_settings(path)
    expansion = None
    if settings.get("do_query_expansion", True):
        expansion = Expansion(
            token=vocabulary.special("mask_token", "eos_token"),
            attend=bool(settings.get("attend_to_expansion_tokens", False)),
        )
    words = settings.get("skiplist_words")
    query = TextRules(
        max_tokens=min(integer(settings, "query_length", 32, path), max_tokens),
        expansion=expansion,
        **_prefix(settings, "query_prefix", "[Q] ", vocabulary),
    )
    document = TextRules(
        max_tokens=min(integer(settings, "document_length", 180, path), max_tokens),
        skiplist=vocabulary.exact_tokens(PUNCTUATION if words is None else words),
        **_prefix(settings, "document_prefix", "[D] ", vocabulary),
    )
    return query, document


def _prefix(settings: dict[str, Any], key: str, fallback: str, vocabulary: Vocabulary) -> dict[str, Any]:
    prefix = settings.get(key)
    prefix = fallback if prefix is None else prefix
    marker = vocabulary.tokenizer.token_to_id(prefix) if prefix else None
    return {"prompt": prefix} if marker is None else {"marker": marker}
