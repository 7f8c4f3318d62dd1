"""The encoder families: how each is recognised, its sizes, and where its tensors lie in a checkpoint.

All families are variations of one transformer (`encoder`), so a family is a `Plan`: settings read from
config.json, and a table from our modules to the checkpoint's. Knows nothing of torch or of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from latebolt.errors import ExportError

# Finite, so that a wholly masked row stays a number; far enough below any score to vanish in a softmax.
MASKED = -10000.0
# Put in front of every encoder tensor by the class that wrapped the encoder.
PREFIXES = ("bert.", "roberta.", "distilbert.", "model.")
# Left in checkpoints by training objectives; no token vector depends on them.
UNUSED = ("pooler.", "cls.", "lm_head.", "vocab_", "head.", "decoder.", "classifier.")
# Settings of any config.json under which an encoder is none, or another, than its family's.
UNSUPPORTED = ("is_decoder", "add_cross_attention", "rope_scaling", "adapters", "pruned_heads")
UNUSED_ENDS = ("position_ids", "rotary_emb.inv_freq")


@dataclass(frozen=True)
class Kind:
    """What is special about one layer's attention."""

    rotary_base: float = 0.0  # 0 = no rotation
    window: int = 0  # tokens attended to on each side; 0 = all
    slopes: tuple[float, ...] = ()  # ALiBi: score -= slope[head] * distance; empty = none


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything `encoder` needs to build a family's encoder and fill it."""

    architecture: str
    vocabulary: int
    hidden: int
    heads: int
    inner: int
    eps: float
    activation: str
    kinds: tuple[Kind, ...]  # one a layer
    max_tokens: int
    table: dict[str, str]  # our module -> the checkpoint's; {i} = layer; " [a/n]" = rows a of n equal parts
    pre_norm: bool = False
    gated: bool = False  # feed-forward part: activation(gate(x)) * up(x)
    gated_bias: bool = True  # whether gate and up have biases
    bias: bool = True  # whether the other linear layers have biases
    norm_bias: bool = True
    position_rows: int = 0  # rows of the position table; 0 = none
    pad: int | None = None  # positions start behind this id and skip it (RoBERTa); None = 0, 1, 2, ...
    types: bool = False  # whether row 0 of a token type table is added


def family_of(config: dict[str, Any], names: Collection[str]) -> str:
    """The family that a config.json and tensor names show: a key of `FAMILIES`, or another model_type."""
    if "encoder.layers.0.mixer.Wqkv.weight" in names:
        return "jina-xlm-roberta-rotary"  # has no model_type, and its own code is never run
    alibi = config.get("position_embedding_type", "absolute") == "alibi"
    if alibi or "encoder.layer.0.mlp.gated_layers.weight" in names:
        return "jina-bert-alibi"
    return str(config.get("model_type") or "unnamed")


def plan(config: dict[str, Any], names: Collection[str], where: str) -> Plan:
    """The plan of a checkpoint.

    Args:
        config: config.json.
        names: its encoder tensors, without `PREFIXES`.
        where: the checkpoint, for messages.
    Raises:
        ExportError: the family, or a setting of it, is not supported.
    """
    family = family_of(config, names)
    positions = config.get("position_embedding_type", "absolute")
    if family not in FAMILIES:
        raise ExportError(
            f'{where}: architecture "{family}" is not supported. Supported: {", ".join(FAMILIES)}.'
        )
    expected = POSITIONS.get(family, ("absolute",))
    if family in POSITIONED and positions not in expected:
        raise ExportError(
            f'{where}: {family} with "{positions}" positions is not supported. Supported: {expected[0]}.'
        )
    for setting in UNSUPPORTED:
        if config.get(setting):
            raise ExportError(f"{where}: config.json: {setting} = {config[setting]!r} is not supported.")
    try:
        made = FAMILIES[family](_checked(config, where))
    except KeyError as error:
        raise ExportError(f"{where}: config.json lacks {error.args[0]}. Download it again.") from error
    if made.hidden % made.heads:
        raise ExportError(f"{where}: hidden_size {made.hidden} is no multiple of {made.heads} heads.")
    return made


# What a plan is made of, and what it has to be.
_SIZES = (
    "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size",
    "max_position_embeddings", "dim", "n_heads", "n_layers", "hidden_dim", "local_attention",
    "global_attn_every_n_layers",
)  # fmt: skip
_COUNTS = ("type_vocab_size", "pad_token_id")
_NUMBERS = ("layer_norm_eps", "norm_eps", "rotary_emb_base", "global_rope_theta", "local_rope_theta")
_NAMES = ("hidden_act", "activation", "hidden_activation")
_FLAGS = ("mlp_bias", "attention_bias", "norm_bias")
_SAYS_SOMETHING = ("local_rope_theta",)  # as a null, too


def _checked(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The config without its nulls, which count as not said, after a check of what plans are made of."""

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300

    def whole(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31

    rules: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
        (_SIZES, "a whole number above 0", lambda value: whole(value) and value > 0),
        (_COUNTS, "a whole number", whole),
        (_NUMBERS, "a number above 0", number),
        (_NAMES, "a string", lambda value: isinstance(value, str)),
        (_FLAGS, "true or false", lambda value: isinstance(value, bool)),
        (("layer_types",), "a list", lambda value: isinstance(value, list)),
        (("rope_parameters",), "an object", lambda value: isinstance(value, dict)),
    )
    for keys, wanted, fits in rules:
        for key in keys:
            if (value := config.get(key)) is not None and not fits(value):
                raise ExportError(
                    f"{where}: config.json: {key} should be {wanted}, got {value!r}. Correct the file."
                )
    return {key: value for key, value in config.items() if value is not None or key in _SAYS_SOMETHING}


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """The slope of each head: a geometric series, for a power of two heads; else that of the next lower
    power, then every second one of the next higher.

    Source: Press, Smith and Lewis, "Train short, test long", ICLR 2022, reference code.
    """
    lower = 2 ** math.floor(math.log2(heads))
    series = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    finer = [2 ** (-4 * (i + 1) / lower) for i in range(2 * lower)]
    return tuple(series + finer[0::2][: heads - lower])


def _bert(config: dict[str, Any], **changes: Any) -> Plan:
    rows = config.get("max_position_embeddings", 512)
    settings = {
        "architecture": "bert",
        "vocabulary": config["vocab_size"],
        "hidden": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "inner": config["intermediate_size"],
        "eps": config.get("layer_norm_eps", 1e-12),
        "activation": config.get("hidden_act", "gelu"),
        "kinds": (Kind(),) * config["num_hidden_layers"],
        "max_tokens": rows,
        "position_rows": rows,
        "types": True,
        "table": _BERT,
    }
    return Plan(**settings | changes)


def _roberta(config: dict[str, Any]) -> Plan:
    pad, rows = config.get("pad_token_id", 1), config.get("max_position_embeddings", 514)
    eps = config.get("layer_norm_eps", 1e-5)
    return _bert(config, architecture="roberta", pad=pad, max_tokens=rows - pad - 1, eps=eps)


def _distilbert(config: dict[str, Any]) -> Plan:
    rows = config.get("max_position_embeddings", 512)
    return Plan(
        architecture="distilbert",
        vocabulary=config["vocab_size"],
        hidden=config["dim"],
        heads=config["n_heads"],
        inner=config["hidden_dim"],
        eps=1e-12,
        activation=config.get("activation", "gelu"),
        kinds=(Kind(),) * config["n_layers"],
        max_tokens=rows,
        position_rows=rows,
        table=_DISTILBERT,
    )


def _jina_rotary(config: dict[str, Any]) -> Plan:
    """jina-colbert-v2. The base comes from its own config: jina-embeddings-v3, same code, has another."""
    kind = Kind(rotary_base=float(config["rotary_emb_base"]))
    return _bert(
        config,
        architecture="jina-xlm-roberta-rotary",
        eps=config.get("layer_norm_eps", 1e-5),
        kinds=(kind,) * config["num_hidden_layers"],
        # The two rows more than tokens are the position table's, which this family no longer has.
        max_tokens=config.get("max_position_embeddings", 8194) - 2,
        position_rows=0,
        types=config.get("type_vocab_size", 1) > 0,
        table=_JINA_ROTARY,
    )


def _jina_alibi(config: dict[str, Any]) -> Plan:
    """jina-colbert-v1-en: key names are inferred (nobody has confirmed them), so loading is strict."""
    kind = Kind(slopes=alibi_slopes(config["num_attention_heads"]))
    return _bert(
        config,
        architecture="jina-bert-alibi",
        kinds=(kind,) * config["num_hidden_layers"],
        max_tokens=config.get("max_position_embeddings", 8192),
        position_rows=0,
        activation="gelu",
        gated=True,
        gated_bias=False,
        table=_JINA_ALIBI,
    )


def _modernbert(config: dict[str, Any]) -> Plan:
    every = config.get("global_attn_every_n_layers", 3)
    base, local_base = _modernbert_bases(config)
    layer = Kind(rotary_base=base)
    local = Kind(rotary_base=local_base, window=config.get("local_attention", 128) // 2)
    usual = [
        "sliding_attention" if i % every else "full_attention" for i in range(config["num_hidden_layers"])
    ]
    types = config.get("layer_types") or usual
    known = ("sliding_attention", "full_attention")
    if len(types) != len(usual) or any(each not in known for each in types):
        raise ExportError(f"modernbert: layer_types = {types} is not supported.")
    if config.get("mlp_bias", False) != config.get("attention_bias", False):
        raise ExportError("modernbert with biases in one of attention and mlp only is not supported.")
    return Plan(
        architecture="modernbert",
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        inner=config["intermediate_size"],
        eps=config.get("norm_eps", 1e-5),
        activation=config.get("hidden_activation", "gelu"),
        kinds=tuple(local if each == "sliding_attention" else layer for each in types),
        max_tokens=config.get("max_position_embeddings", 8192),
        table=_MODERNBERT,
        pre_norm=True,
        gated=True,
        gated_bias=config.get("mlp_bias", False),
        bias=config.get("attention_bias", False),
        norm_bias=config.get("norm_bias", False),
    )


def _modernbert_bases(config: dict[str, Any]) -> tuple[float, float]:
    """Rotary bases of global and of local attention; transformers 5 writes them in another place than 4."""
    parameters = config.get("rope_parameters")
    if parameters is None:
        base = float(config.get("global_rope_theta", 160000.0))
        local = config.get("local_rope_theta", 10000.0)
        return base, base if local is None else float(local)
    bases = []
    for kind, usual in (("full_attention", 160000.0), ("sliding_attention", 10000.0)):
        settings = parameters.get(kind) or {}
        theta = settings.get("rope_theta", usual) if isinstance(settings, dict) else None
        if (
            not isinstance(theta, int | float)
            or set(settings) - {"rope_theta", "rope_type"}
            or settings.get("rope_type", "default") != "default"
        ):
            raise ExportError(f"modernbert: rope_parameters of {kind} = {settings} is not supported.")
        bases.append(float(theta))
    return bases[0], bases[1]


_BERT = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "layers.{i}.attention.query": "encoder.layer.{i}.attention.self.query",
    "layers.{i}.attention.key": "encoder.layer.{i}.attention.self.key",
    "layers.{i}.attention.value": "encoder.layer.{i}.attention.self.value",
    "layers.{i}.attention.out": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.norm1": "encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.mlp.up": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.mlp.down": "encoder.layer.{i}.output.dense",
    "layers.{i}.norm2": "encoder.layer.{i}.output.LayerNorm",
}
_DISTILBERT = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "layers.{i}.attention.query": "transformer.layer.{i}.attention.q_lin",
    "layers.{i}.attention.key": "transformer.layer.{i}.attention.k_lin",
    "layers.{i}.attention.value": "transformer.layer.{i}.attention.v_lin",
    "layers.{i}.attention.out": "transformer.layer.{i}.attention.out_lin",
    "layers.{i}.norm1": "transformer.layer.{i}.sa_layer_norm",
    "layers.{i}.mlp.up": "transformer.layer.{i}.ffn.lin1",
    "layers.{i}.mlp.down": "transformer.layer.{i}.ffn.lin2",
    "layers.{i}.norm2": "transformer.layer.{i}.output_layer_norm",
}
_JINA_ROTARY = {
    "words": "embeddings.word_embeddings",
    "types": "embeddings.token_type_embeddings",
    "norm": "emb_ln",
    "layers.{i}.attention.query": "encoder.layers.{i}.mixer.Wqkv [0/3]",
    "layers.{i}.attention.key": "encoder.layers.{i}.mixer.Wqkv [1/3]",
    "layers.{i}.attention.value": "encoder.layers.{i}.mixer.Wqkv [2/3]",
    "layers.{i}.attention.out": "encoder.layers.{i}.mixer.out_proj",
    "layers.{i}.norm1": "encoder.layers.{i}.norm1",
    "layers.{i}.mlp.up": "encoder.layers.{i}.mlp.fc1",
    "layers.{i}.mlp.down": "encoder.layers.{i}.mlp.fc2",
    "layers.{i}.norm2": "encoder.layers.{i}.norm2",
}
_JINA_ALIBI = {name: theirs for name, theirs in _BERT.items() if name != "positions"} | {
    "layers.{i}.mlp.gate": "encoder.layer.{i}.mlp.gated_layers [0/2]",
    "layers.{i}.mlp.up": "encoder.layer.{i}.mlp.gated_layers [1/2]",
    "layers.{i}.mlp.down": "encoder.layer.{i}.mlp.wo",
    "layers.{i}.norm2": "encoder.layer.{i}.mlp.layernorm",
}
_MODERNBERT = {
    "words": "embeddings.tok_embeddings",
    "norm": "embeddings.norm",
    "layers.{i}.attention.query": "layers.{i}.attn.Wqkv [0/3]",
    "layers.{i}.attention.key": "layers.{i}.attn.Wqkv [1/3]",
    "layers.{i}.attention.value": "layers.{i}.attn.Wqkv [2/3]",
    "layers.{i}.attention.out": "layers.{i}.attn.Wo",
    "layers.{i}.norm1": "layers.{i}.attn_norm",
    "layers.{i}.mlp.gate": "layers.{i}.mlp.Wi [0/2]",
    "layers.{i}.mlp.up": "layers.{i}.mlp.Wi [1/2]",
    "layers.{i}.mlp.down": "layers.{i}.mlp.Wo",
    "layers.{i}.norm2": "layers.{i}.mlp_norm",
    "final_norm": "final_norm",
}
FAMILIES: dict[str, Callable[[dict[str, Any]], Plan]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "jina-xlm-roberta-rotary": _jina_rotary,
    "jina-bert-alibi": _jina_alibi,
}
# Families whose config says how they count positions, and what it may say.
POSITIONED = ("bert", "roberta", "xlm-roberta", "camembert", "jina-xlm-roberta-rotary", "jina-bert-alibi")
POSITIONS = {"jina-xlm-roberta-rotary": ("rotary",), "jina-bert-alibi": ("alibi",)}
