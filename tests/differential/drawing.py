"""Draws models at random: an encoder, a tokenizer and every setting that a library lets one set.

Standard library only, so that any environment may draw the same case from the same number. What a case asks
for that no contract can say stands in `outside`: the setting that a refusal has to name.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from typing import Any

PUNCTUATION = list(string.punctuation)
FAMILIES = ("bert", "bert", "modernbert", "xlm-roberta", "distilbert", "roberta")
TORCH = "torch.nn.modules.activation."
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")


@dataclass
class Case:
    """One model. `settings` is what the library's constructor is given, `base` how the encoder is made."""

    number: int
    library: str
    base: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)


def base(draw: random.Random) -> dict[str, Any]:
    """Encoder and tokenizer."""
    family = draw.choice(FAMILIES)
    made = {
        "family": family,
        "hidden": draw.choice((16, 32)),
        "layers": draw.choice((1, 2)),
        "heads": 2,
        "positions": draw.choice((48, 64, 128)),
        "lowercase": draw.random() < 0.5,
        "strip_accents": draw.choice((None, None, True, False)),
        "chinese": draw.random() < 0.8,
        "model_max_length": draw.choice((None, None, 24, 40)),
        "seed": draw.randrange(2**31),
    }
    return made | {"local_attention": 16 if made["seed"] % 4 == 0 else 64}


def sees_nothing(base: dict[str, Any], filled: int, least: int) -> bool:
    """Whether filled tokens without attention are too far from a text for ModernBERT's local attention."""
    return bool(
        base["family"] == "modernbert"
        and base["layers"] > 1
        and filled > least + base["local_attention"] // 2
    )


def dense(draw: random.Random, width: int, dim: int) -> dict[str, Any]:
    """A Dense module."""
    return {
        "in_features": width,
        "out_features": dim,
        "bias": draw.random() < 0.4,
        "activation": "Identity" if draw.random() < 0.5 else draw.choice(ACTIVATIONS),
        "use_residual": draw.random() < 0.3,
    }


def denses(draw: random.Random, hidden: int, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Dense modules in a row."""
    made, width = [], hidden
    for _ in range(draw.choice(counts)):
        dim = draw.choice((8, 12, 16, hidden))
        made.append(dense(draw, width, dim))
        width = dim
    return made


def words(draw: random.Random) -> list[str]:
    """Words to skip: real tokens, special ones, and some that no vocabulary holds."""
    if draw.random() < 0.4:
        return PUNCTUATION
    known = [*PUNCTUATION[:12], "a", "the", "[CLS]", "[MASK]", "<mask>", "</s>", "nonsuch", "▁", "[UNK]"]
    return draw.sample(known, draw.randrange(0, 6))


def sentence_transformers(number: int) -> Case:
    """A MultiVectorEncoder with any of its settings."""
    draw = random.Random(f"sentence-transformers {number}")
    encoder = base(draw)
    positions, case = encoder["positions"], Case(number, "sentence-transformers", encoder)
    prompts = draw.choice(
        (
            None,
            {"query": "[unused0] ", "document": "[unused1] "},
            {"query": "[Q] ", "document": "[D] "},
            {"query": "query: ", "document": ""},
            {"query": "", "passage": "passage: "},
            {"query": " search_query:", "document": "search_document:\n", "other": "x"},
            {"corpus": "doc: "},
        )
    )
    expansion = None
    if draw.random() < 0.6:
        expansion = {
            "strategy": draw.choice(("fixed", "min")),
            "attend": draw.random() < 0.5,
            "token": draw.choice((None, None, "[unused1]", "[Q] ", "pad")),
            "length": draw.choice((8, 16, 24, 32)),
        }
    query_length = draw.choice((None, None, 8, 20, 40))
    if expansion and query_length is not None and query_length < expansion["length"]:
        query_length = None
    mask = {
        "skiplist_words": words(draw),
        "skiplist_tasks": draw.choice((None, None, "document", ["query", "document"], ["query"], [])),
        "keep_only_token_ids": sorted(draw.sample(range(120), 60)) if draw.random() < 0.1 else None,
    }
    case.settings = {
        "prompts": prompts,
        "default_prompt_name": draw.choice((None, None, "query")) if prompts and "query" in prompts else None,
        "similarity": draw.choice(("maxsim", None)),
        "query_length": query_length,
        "document_length": draw.choice((None, None, 8, 30, 44)),
        "query_expansion": expansion,
        "max_seq_length": draw.choice((None, None, None, 20, positions - 8)),
        "do_lower_case": draw.random() < 0.1,
        "dense": denses(draw, encoder["hidden"], (0, 1, 1, 1, 2)),
        "mask": None if draw.random() < 0.1 else mask,
        "mask_first": draw.random() < 0.1,
        "normalize": "last",
        "pooling": {"pool_factor": 1.0, "num_protected_tokens": 1} if draw.random() < 0.1 else None,
        "subfolder": draw.random() < 0.2,
        "truncation_side": "right",
    }
    if draw.random() < 0.15:
        _ask_for_what_is_outside(case, draw)
    limit = case.settings["max_seq_length"] or min(encoder["model_max_length"] or 10**9, positions)
    ceiling = query_length or limit
    if expansion and not expansion["attend"] and case.settings["mask"] is not None:
        filled = expansion["length"]
        if sees_nothing(encoder, filled, least=2):
            case.outside.append("query_expansion")
    if case.settings["do_lower_case"] and encoder["family"] != "modernbert":
        case.outside.append("normalizer")
    if expansion and expansion["strategy"] == "min" and ceiling < expansion["length"]:
        case.outside.append("query_expansion")
    return case


def _ask_for_what_is_outside(case: Case, draw: random.Random) -> None:
    settings = case.settings
    kind = draw.choice(
        ("similarity", "normalize", "pooling", "truncation_side", "activation", "padding_side")
    )
    if kind == "similarity":
        settings["similarity"] = "meanmaxsim"
        case.outside.append("similarity_fn_name")
    elif kind == "normalize":
        settings["normalize"] = draw.choice(("none", "first")) if settings["dense"] else "none"
        case.outside.append("Normalize")
    elif kind == "pooling":
        settings["pooling"] = {"pool_factor": 2.0, "num_protected_tokens": 1}
        case.outside.append("pool_factor")
    elif kind == "activation" and settings["dense"]:
        settings["dense"][0]["activation"] = "PReLU"
        case.outside.append("activation")
    elif kind in ("truncation_side", "padding_side"):
        settings[kind] = "left"
        case.outside.append(kind)


def pylate(number: int, version: str) -> Case:
    """A ColBERT of PyLate, of a version."""
    draw = random.Random(f"pylate {number}")
    encoder = base(draw)
    old = version.startswith("1.2")
    case = Case(number, f"pylate {version}", encoder)
    heads = denses(draw, encoder["hidden"], (1,) if old else (1, 1, 2))
    if old:
        for each in heads:
            each |= {"activation": "Identity", "use_residual": False}
    prompts = draw.choice((None, None, {"query": "q: ", "document": "d: "}, {"all": "read this:  "}))
    case.settings = {
        "query_prefix": draw.choice(
            (None, "[Q] ", "[unused0]", "[Q]", "[MASK]", "query: ", "" if not old else "x ")
        ),
        "document_prefix": draw.choice((None, "[D] ", "[unused1]", "[D]", "doc ", "" if not old else "x ")),
        "query_length": draw.choice((None, 8, 16, 32, 40)),
        "document_length": draw.choice((None, 10, 30, 44)),
        "do_query_expansion": True if old else draw.choice((None, True, False)),
        "attend_to_expansion_tokens": draw.choice((None, True, False)),
        "skiplist_words": draw.choice((None, words(draw) or ["!"], [] if not old else None)),
        "prompts": prompts,
        "default_prompt_name": draw.choice((None, *prompts)) if prompts else None,
        "dense": heads,
        "do_lower_case": draw.random() < 0.15,
    }
    if case.settings["document_length"] is None:  # the library's own is 180
        encoder["positions"] = 200
    settings = case.settings
    unattended = settings["do_query_expansion"] is not False and not settings["attend_to_expansion_tokens"]
    least = 2 + (settings["query_prefix"] != "")
    if unattended and sees_nothing(encoder, settings["query_length"] or 32, least):
        case.outside.append("query_length")
    return case


def colbert_ai(number: int) -> Case:
    """A checkpoint of Stanford's library."""
    draw = random.Random(f"colbert-ai {number}")
    encoder = base(draw)
    encoder["family"] = draw.choice(("bert", "bert", "xlm-roberta", "roberta"))
    case = Case(number, "colbert-ai", encoder)
    case.settings = {
        "query_maxlen": draw.choice((8, 16, 32, 40)),
        "doc_maxlen": draw.choice((10, 30, 44)),
        "dim": draw.choice((8, 16, 32)),
        "attend_to_mask_tokens": draw.random() < 0.5,
        "query_token_id": draw.choice(("[unused0]", "[Q] ", "[unused3]")),
        "doc_token_id": draw.choice(("[unused1]", "[D] ")),
        "mask_punctuation": True,
    }
    return case
