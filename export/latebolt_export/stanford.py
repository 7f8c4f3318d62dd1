"""Reads the Stanford ColBERT layout: `artifact.metadata` beside the weights, one `linear.weight` in them.

Source: colbert/infra/config/settings.py for the defaults, colbert/modeling/tokenization for the rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ExportError
from latebolt_export.files import integer, read_json
from latebolt_export.heads import Dense, Projection
from latebolt_export.vocabulary import PUNCTUATION, Vocabulary

if TYPE_CHECKING:
    import torch

FILE_NAME = "artifact.metadata"


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way."""
    return (folder / FILE_NAME).is_file()


def split(
    state: dict[str, torch.Tensor], folder: Path
) -> tuple[dict[str, torch.Tensor], tuple[Projection, ...]]:
    """Part the state dict into encoder weights and the head.

    Raises:
        ExportError: there is no `linear.weight`, or it is not as wide as artifact.metadata says.
    """
    if "linear.weight" not in state:
        raise ExportError(f"{folder}: the weights hold no linear.weight, the ColBERT projection.")
    weight = state["linear.weight"].float()
    dim = integer(read_json(folder / FILE_NAME), "dim", int(weight.shape[0]), folder / FILE_NAME)
    if dim != weight.shape[0]:
        raise ExportError(
            f"{folder}: linear.weight should have {dim} rows (artifact.metadata: dim), "
            f"got {weight.shape[0]}. One of the two files is from another checkpoint."
        )
    encoder = {name: tensor for name, tensor in state.items() if name != "linear.weight"}
    return encoder, (Projection((Dense(weight),), source="linear.weight"),)


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules of artifact.metadata; lengths are bounded by the encoder's positions."""
    path = folder / FILE_NAME
    settings = read_json(path)
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
