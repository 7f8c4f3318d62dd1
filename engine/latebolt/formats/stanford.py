"""Reads the settings of the Stanford ColBERT layout: `artifact.metadata`.

Source: colbert/infra/config/settings.py for the defaults, colbert/modeling/tokenization for the rules.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ModelError
from latebolt.formats.files import integer, read_settings
from latebolt.formats.settings_file import SettingsFile
from latebolt.formats.vocabulary import PUNCTUATION, Vocabulary

FILE_NAME = "artifact.metadata"
# Settings that no token vector depends on: of training, of an index, of a search and of the machine. The file
# holds all of the library's, old ones too.
# fmt: off
HARMLESS = (
    "accumsteps", "amp", "avoid_fork_if_possible", "bsize", "centroid_score_threshold", "checkpoint",
    "clustering_mode", "collection", "dim", "distillation_alpha", "doc_token", "experiment", "gpus",
    "ignore_scores", "index_bsize", "index_name", "index_path", "index_root", "kmeans_niters",
    "load_index_with_mmap", "lr", "maxsteps", "meta", "model_name", "name", "nbits", "ncells", "ndocs",
    "nranks", "num_partitions_max", "nway", "only_approx", "overwrite", "pool_factor",
    "protected_tokens", "queries", "query_token", "rank", "relu", "reranker", "resume", "root",
    "save_every", "torch_path", "total_visible_gpus", "triples", "use_ib_negatives", "version",
    "warmup", "warmup_bert",
)
# fmt: on


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way."""
    return (folder / FILE_NAME).is_file()


def dim(folder: Path) -> int | None:
    """Width of the token vectors; None where it is not written."""
    return integer(read_settings(folder / FILE_NAME), "dim", 0, folder / FILE_NAME) or None


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules; lengths are bounded by the encoder's positions.

    Raises:
        ModelError: a setting is not known, or asks for something that no contract can say.
    """
    file = SettingsFile(folder / FILE_NAME)
    length = file.integer("query_maxlen", 32)
    if length > max_tokens:
        raise file.refusal(
            "query_maxlen", f"fills queries beyond the {max_tokens} tokens that the encoder takes."
        )
    if len(vocabulary.frame().prefix) != 1:
        raise ModelError(f"{folder}: the tokenizer should put one token in front of a text, for the marker.")
    fill, pad = vocabulary.special("mask_token"), vocabulary.special("pad_token")
    query = TextRules(
        max_tokens=length,
        marker=vocabulary.id_of(file.text("query_token_id", "") or "[unused0]", "query_token_id"),
        expansion=Expansion(token=fill, attend=file.flag("attend_to_mask_tokens", False)),
        # Padding becomes the mask token in queries and is dropped from documents: a text's own as well.
        swaps=((pad, fill),) if pad != fill else (),
    )
    punctuation = vocabulary.first_pieces(PUNCTUATION) if file.flag("mask_punctuation", True) else ()
    document = TextRules(
        max_tokens=min(file.integer("doc_maxlen", 220), max_tokens),
        marker=vocabulary.id_of(file.text("doc_token_id", "") or "[unused1]", "doc_token_id"),
        skiplist=tuple(sorted({*punctuation, pad})),
    )
    file.only("similarity", ("cosine",), "is not supported, only cosine is.")
    file.only("interaction", ("colbert",), "is not supported, only colbert is.")
    file.finish(HARMLESS)
    return query, document
