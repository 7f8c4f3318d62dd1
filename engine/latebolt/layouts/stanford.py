"""Reads the settings of the Stanford ColBERT layout: `artifact.metadata`.

Source: colbert/infra/config/settings.py for the defaults, colbert/modeling/tokenization for the rules.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.contract import Expansion, TextRules
from latebolt.layouts.files import integer, read_settings
from latebolt.layouts.vocabulary import PUNCTUATION, Vocabulary

FILE_NAME = "artifact.metadata"


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way."""
    return (folder / FILE_NAME).is_file()


def dim(folder: Path) -> int | None:
    """Width of the token vectors; None where it is not written."""
    return integer(read_settings(folder / FILE_NAME), "dim", 0, folder / FILE_NAME) or None


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules; lengths are bounded by the encoder's positions."""
    path = folder / FILE_NAME
    settings = read_settings(path)
    query = TextRules(
        max_tokens=min(integer(settings, "query_maxlen", 32, path), max_tokens),
        marker=vocabulary.id_of(settings.get("query_token_id") or "[unused0]", "query_token_id"),
        expansion=Expansion(
            token=vocabulary.special("mask_token"), attend=bool(settings.get("attend_to_mask_tokens", False))
        ),
    )
    document = TextRules(
        max_tokens=min(integer(settings, "doc_maxlen", 220, path), max_tokens),
        marker=vocabulary.id_of(settings.get("doc_token_id") or "[unused1]", "doc_token_id"),
        skiplist=vocabulary.first_pieces(PUNCTUATION) if settings.get("mask_punctuation", True) else (),
    )
    return query, document
