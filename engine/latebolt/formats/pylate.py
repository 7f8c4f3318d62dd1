"""Reads the settings of the PyLate layout: `config_sentence_transformers.json` beside `modules.json`.

Source: pylate/models/colbert.py and pylate/models/Dense.py for defaults and rules, of 1.2 and 1.6.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ModelError
from latebolt.formats.files import integer, read_settings
from latebolt.formats.modules import FILE_NAME as MODULES
from latebolt.formats.modules import modules
from latebolt.formats.settings_file import SettingsFile
from latebolt.formats.vocabulary import PUNCTUATION, Vocabulary

SETTINGS = "config_sentence_transformers.json"
TRANSFORMER_SETTINGS = "sentence_bert_config.json"
MODEL_TYPE = "ColBERT"
# Settings that only this layout has: what tells it where no model_type does.
OWN = (
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "attend_to_expansion_tokens",
    "do_query_expansion",
    "skiplist_words",
)
# Settings that no token vector depends on: PyLate sets the encoder's length itself and always normalises.
HARMLESS = ("__version__", "model_type", "similarity_fn_name")
HARMLESS_TRANSFORMER = ("max_seq_length", "model_args", "tokenizer_args", "config_args")
# Modules that PyLate applies, and those that it leaves out when it loads a model.
APPLIED, LEFT_OUT = ("Transformer", "Dense"), ("Pooling", "Normalize", "Dropout")


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way."""
    settings = read_settings(folder / SETTINGS)
    kind = settings.get("model_type")
    if kind is not None:
        return bool(kind == MODEL_TYPE)
    return any(key in settings for key in OWN) or any(m.type.startswith("pylate.") for m in modules(folder))


def lowercase(folder: Path) -> bool:
    """Whether texts are lowercased before the tokenizer sees them."""
    file = SettingsFile(folder / TRANSFORMER_SETTINGS)
    for key in ("model_args", "tokenizer_args", "config_args"):
        file.only(key, ({},), "is not supported.")
    found = file.flag("do_lower_case", False)
    file.finish(HARMLESS_TRANSFORMER)
    return found


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules; lengths are bounded by the encoder's positions.

    Raises:
        ModelError: a setting is not known, versions of PyLate read it in two ways, or a prefix is no token.
    """
    _check_modules(folder)
    file = SettingsFile(folder / SETTINGS)
    _check_version(file)
    prompt = file.texts_by_name("prompts").get(file.text("default_prompt_name", ""), "")
    expansion = None
    if file.flag("do_query_expansion", True):
        fill = vocabulary.special("mask_token", "eos_token", "pad_token")
        expansion = Expansion(fill, attend=file.flag("attend_to_expansion_tokens", False))
    file.value("attend_to_expansion_tokens")  # without expansion it does not matter
    words = file.texts("skiplist_words", PUNCTUATION)
    query = TextRules(
        max_tokens=_length(file, "query_length", 32, max_tokens, filled=expansion is not None),
        prompt=prompt,
        marker=_marker(file, "query_prefix", "[Q] ", vocabulary),
        expansion=expansion,
        strip=True,
    )
    document = TextRules(
        max_tokens=_length(file, "document_length", 180, max_tokens, filled=False),
        prompt=prompt,
        marker=_marker(file, "document_prefix", "[D] ", vocabulary),
        skiplist=vocabulary.exact_tokens(words),
        strip=True,
    )
    file.finish(HARMLESS)
    return query, document


def _check_modules(folder: Path) -> None:
    path, listed = folder / MODULES, modules(folder)
    kinds = [module.kind for module in listed if module.kind not in LEFT_OUT]
    for module in listed:
        if module.kind not in (*APPLIED, *LEFT_OUT):
            raise ModelError(f"{path}: the module {module.type} is not supported.")
    if listed and (kinds[:1] != ["Transformer"] or kinds.count("Transformer") > 1):
        raise ModelError(f"{path}: should name one Transformer, and first.")


def _check_version(file: SettingsFile) -> None:
    """Refuse what PyLate 1.2 and later ones read differently, where nothing says which has written it."""
    if "do_query_expansion" in file.settings:
        return
    for key in OWN:
        value = file.settings.get(key)
        if value in ("", 0, []) and value is not False:
            raise file.refusal(
                key,
                "is the default to PyLate 1.2 and itself to later ones. Add do_query_expansion to the file, "
                "which later ones write, if it is to be itself, else remove the setting.",
            )


def _length(file: SettingsFile, key: str, fallback: int, max_tokens: int, *, filled: bool) -> int:
    length = file.integer(key, fallback)
    if filled and length > max_tokens:
        raise file.refusal(key, f"fills queries beyond the {max_tokens} tokens that the encoder takes.")
    return min(length, max_tokens)


def _marker(file: SettingsFile, key: str, fallback: str, vocabulary: Vocabulary) -> int | None:
    """The token that stands for a prefix; PyLate has no prefix that is text."""
    prefix = file.text(key, fallback)
    if not prefix:
        return None
    marker = vocabulary.tokenizer.token_to_id(prefix)
    if marker is None:
        raise ModelError(
            f'{file.path}: {key} "{prefix}" is no token of the vocabulary, so PyLate would insert a new one '
            f'with untrained weights. Load the model with PyLate and save it again, or set {key} to "".'
        )
    return int(marker)


def dim(folder: Path) -> int | None:
    """Width of the token vectors: what the last Dense module gives; None where there is none."""
    paths = [module.path for module in modules(folder) if module.kind == "Dense"]
    if not paths:
        return None
    config = folder / paths[-1] / "config.json"
    return integer(read_settings(config), "out_features", 0, config) or None
