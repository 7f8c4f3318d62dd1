"""Reads the settings of next-plaid's exporter: `onnx_config.json`.

Source: next-plaid-onnx/src/lib.rs (`ColbertConfig`, `prepare_batch_from_tokenizer_encodings`) for defaults
and rules, which are its own: expansion is always attended to, and a skipped word that is no token is
left out.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ModelError
from latebolt.formats.files import integer, read_settings
from latebolt.formats.settings_file import SettingsFile
from latebolt.formats.vocabulary import Vocabulary

FILE_NAME = "onnx_config.json"
# Ids that mean "ask the vocabulary": what next-plaid takes where its file says nothing.
_DEFAULT_MASK, _DEFAULT_PAD = 103, 0
# Settings that no token vector depends on: its runtime attends to expansion whatever they say.
HARMLESS = (
    "attend_to_expansion_tokens",
    "model_class",
    "model_name",
    "model_type",
    "uses_token_type_ids",
)
READ_ELSEWHERE = (
    "do_lower_case",
    "document_prefix",
    "document_prefix_id",
    "embedding_dim",
    "mask_token_id",
    "pad_token_id",
    "query_prefix",
    "query_prefix_id",
)


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way."""
    return (folder / FILE_NAME).is_file()


def dim(folder: Path) -> int:
    """Width of the token vectors."""
    return integer(read_settings(folder / FILE_NAME), "embedding_dim", 128, folder / FILE_NAME)


def lowercase(folder: Path) -> bool:
    """Whether texts are lowercased before the tokenizer sees them."""
    return SettingsFile(folder / FILE_NAME).flag("do_lower_case", False)


def pad(folder: Path, vocabulary: Vocabulary) -> int:
    """Id of the padding token."""
    return _token(folder, "pad_token_id", _DEFAULT_PAD, ("[PAD]", "<pad>"), vocabulary)


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules.

    Raises:
        ModelError: a prefix is no token and has no id of its own, or a setting is not known.
    """
    file = SettingsFile(folder / FILE_NAME)
    expansion = None
    if file.flag("do_query_expansion", True):
        mask = _token(folder, "mask_token_id", _DEFAULT_MASK, ("[MASK]", "<mask>"), vocabulary)
        expansion = Expansion(mask, attend=True)
    skipped = vocabulary.known_tokens(file.texts("skiplist_words", ()))
    query = TextRules(
        max_tokens=min(file.integer("query_length", 48), max_tokens),
        marker=_marker(file, "query_prefix", "[Q] ", vocabulary),
        expansion=expansion,
    )
    document = TextRules(
        max_tokens=min(file.integer("document_length", 300), max_tokens),
        marker=_marker(file, "document_prefix", "[D] ", vocabulary),
        skiplist=tuple(sorted(skipped)),
    )
    file.finish((*HARMLESS, *READ_ELSEWHERE))
    return query, document


def _token(folder: Path, key: str, default: int, names: tuple[str, str], vocabulary: Vocabulary) -> int:
    path = folder / FILE_NAME
    found = integer(read_settings(path), key, default, path)
    if found != default:
        return found
    known = (vocabulary.tokenizer.token_to_id(name) for name in names)
    return next((token for token in known if token is not None), found)


def _marker(file: SettingsFile, key: str, fallback: str, vocabulary: Vocabulary) -> int:
    prefix, marker = file.text(key, fallback), file.integer(f"{key}_id", -1)
    if marker >= 0:
        return marker
    found = vocabulary.tokenizer.token_to_id(prefix)
    if found is None:
        raise ModelError(
            f'{file.path}: {key} "{prefix}" is no token of the vocabulary. Add {key}_id to the file.'
        )
    return int(found)
