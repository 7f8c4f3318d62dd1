"""Reads the PyLate layout: `modules.json` with Dense modules behind the transformer.

Source: pylate/models/colbert.py and Dense.py for defaults and rules. Every Dense is applied, in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ExportError
from latebolt_export.files import integer, read_json
from latebolt_export.heads import Dense, Projection
from latebolt_export.vocabulary import PUNCTUATION, Vocabulary
from latebolt_export.weights import read_state

SETTINGS = "config_sentence_transformers.json"


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way: at least one Dense among its modules."""
    return bool(_dense_paths(folder))


def encoder_folder(folder: Path) -> Path:
    """Where the transformer's own files lie: the folder itself, unless its modules say otherwise."""
    modules = read_json(folder / "modules.json") or []
    return folder / modules[0].get("path", "") if modules else folder


def projections(folder: Path) -> tuple[Projection, ...]:
    """One projection made of every Dense module.

    Raises:
        ExportError: a module's files are missing, damaged or ask for something unknown.
    """
    layers = tuple(_dense(folder / path) for path in _dense_paths(folder))
    return (Projection(layers, source=" then ".join(_dense_paths(folder))),)


def rules(folder: Path, vocabulary: Vocabulary, max_tokens: int) -> tuple[TextRules, TextRules]:
    """Query and document rules of config_sentence_transformers.json.

    A prefix that is one token of the vocabulary is a marker behind [CLS], as PyLate inserts it; any
    other prefix is text in front.
    """
    path = folder / SETTINGS
    return rules_of(read_json(path) or {}, path, vocabulary, max_tokens)


def rules_of(
    settings: dict[str, Any], path: Path, vocabulary: Vocabulary, max_tokens: int
) -> tuple[TextRules, TextRules]:
    """The rules of settings that were read from `path`."""
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


def _dense_paths(folder: Path) -> list[str]:
    modules = read_json(folder / "modules.json") or []
    return [module["path"] for module in modules if str(module.get("type", "")).endswith(".Dense")]


def _dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    if config is None:
        raise ExportError(f"{folder}: has no config.json, though modules.json names this Dense module.")
    state = read_state(folder)
    if "linear.weight" not in state:
        raise ExportError(f"{folder}: the weights hold no linear.weight.")
    shape = [config.get("out_features"), config.get("in_features")]
    if None not in shape and list(state["linear.weight"].shape) != shape:
        raise ExportError(
            f"{folder}: linear.weight should be {shape} (config.json), got "
            f"{list(state['linear.weight'].shape)}. One of the two files is from another checkpoint."
        )
    residual = state.get("residual.weight")
    return Dense(
        weight=state["linear.weight"].float(),
        bias=state["linear.bias"].float() if "linear.bias" in state else None,
        activation=str(config.get("activation_function") or "identity").rpartition(".")[2].lower(),
        residual=None if residual is None else residual.float(),
        skip=bool(config.get("use_residual")) and residual is None,
    )
