"""Reads the settings of the layout that sentence-transformers' MultiVectorEncoder saves.

They lie in four places: config_sentence_transformers.json (prompts), the Transformer's
sentence_bert_config.json (lengths, expansion), the MultiVectorMask's config.json (which vectors are kept) and
modules.json. Source: sentence_transformers 6, multi_vector_encoder/model.py,
multi_vector_encoder/modules/multi_vector_mask.py, base/modules/transformer.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ModelError
from latebolt.formats.files import integer, read_settings
from latebolt.formats.modules import FILE_NAME as MODULES
from latebolt.formats.modules import Module, modules
from latebolt.formats.settings_file import SettingsFile
from latebolt.formats.vocabulary import Vocabulary

SETTINGS = "config_sentence_transformers.json"
TRANSFORMER_SETTINGS = "sentence_bert_config.json"
MODEL_TYPE = "MultiVectorEncoder"
VECTORS = "token_embeddings"  # the feature that every module has to read and write

# Settings that no token vector depends on. Queries and documents always have a prompt of their own, if an
# empty one, so the default's name is never asked.
HARMLESS = ("__version__", "model_type", "requirements", "default_prompt_name")
HARMLESS_TRANSFORMER = ("unpad_inputs",)
HARMLESS_LOADING = (
    "attn_implementation",
    "device_map",
    "dtype",
    "low_cpu_mem_usage",
    "torch_dtype",
    "use_cache",
    "use_safetensors",
)
TEXT_ONLY = (
    {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    {"text": {"method": "forward", "method_output_name": ["last_hidden_state"]}},
)


def recognises(folder: Path) -> bool:
    """Whether the folder is laid out this way."""
    return read_settings(folder / SETTINGS).get("model_type") == MODEL_TYPE


def rules(folder: Path, vocabulary: Vocabulary, positions: int, taken: int) -> tuple[TextRules, TextRules]:
    """Query and document rules.

    Args:
        positions: what the encoder's config.json says of them, which texts without a length are cut to.
        taken: tokens that the encoder takes; no rule goes beyond.
    Raises:
        ModelError: a setting is not known, or asks for something that no contract can say.
    """
    parts = _parts(folder)
    prompts = _prompts(folder)
    kept = {kind: _kept(folder, parts.get("MultiVectorMask"), kind, vocabulary) for kind in prompts}
    file = SettingsFile(folder / parts["Transformer"].path / TRANSFORMER_SETTINGS)
    limit = _limit(file, vocabulary, positions)
    length = file.integer("document_length", limit)
    query = _query(file, limit, "MultiVectorMask" in parts, vocabulary)
    _plain_transformer(file)
    filled = query["expansion"] and (query["expansion"].length or query["max_tokens"])
    if filled and filled > taken:
        raise file.refusal("query_expansion", f"fills queries beyond the {taken} tokens the encoder takes.")
    query["max_tokens"] = min(query["max_tokens"], taken)
    return (
        TextRules(prompt=prompts["query"], **query, **kept["query"]),
        TextRules(max_tokens=min(length, taken), prompt=prompts["document"], **kept["document"]),
    )


def _parts(folder: Path) -> dict[str, Module]:
    """The modules by kind, after a check of their order; a Dense is left to who reads its weights."""
    path, listed = folder / MODULES, modules(folder)
    for module in listed:
        if module.kind not in _ALLOWED:
            known = ", ".join(_ALLOWED)
            raise ModelError(f"{path}: the module {module.type} is not supported. Supported: {known}.")
        if module.arguments:
            raise ModelError(f"{path}: kwargs = {list(module.arguments)} of {module.type} is not supported.")
    kinds = [module.kind for module in listed if _acts(folder, module)]
    if kinds[:1] != ["Transformer"]:
        raise ModelError(f"{path}: should begin with a Transformer, got {kinds[:1] or 'no module'}.")
    for kind in ("Transformer", "MultiVectorMask", "HierarchicalTokenPooling"):
        if kinds.count(kind) > 1:
            raise ModelError(f"{path}: names {kinds.count(kind)} modules {kind}, one is supported.")
    projected = [kind for kind in kinds if kind in ("Dense", "Normalize")]
    if "Normalize" not in projected:
        raise ModelError(
            f"{path}: has no Normalize for {VECTORS}, so its vectors have no unit length, which indexes and "
            f"kernels need. If the model was trained with unit vectors, append one and save it again."
        )
    if "Dense" in projected[projected.index("Normalize") :]:
        raise ModelError(f"{path}: has a Dense behind a Normalize, which is not supported.")
    for module in listed:
        if module.kind == "HierarchicalTokenPooling":
            _no_pooling(folder / module.path / "config.json")
    return {module.kind: module for module in reversed(listed)}


_ALLOWED = ("Transformer", "Dense", "MultiVectorMask", "Normalize", "HierarchicalTokenPooling", "Pooling")


def _acts(folder: Path, module: Module) -> bool:
    """Whether a module does anything to token vectors."""
    if module.kind == "Pooling":  # adds a sentence's vector
        return False
    if module.kind != "Normalize":
        return True
    file = SettingsFile(folder / module.path / "config.json")
    source = file.text("module_input_name", "sentence_embedding")
    target = file.text("module_output_name", source)
    file.finish(())
    if VECTORS in (source, target) and source != target:
        raise file.refusal("module_output_name", f"is not supported behind {source}.")
    return source == VECTORS


def _no_pooling(path: Path) -> None:
    """Let a pooling of tokens pass that keeps every vector as it is."""
    file = SettingsFile(path)
    factor = file.value("pool_factor", 1.0)
    if not isinstance(factor, int | float) or factor > 1:
        raise file.refusal(
            "pool_factor",
            "is not supported: pooling is asked for when documents are encoded (pool_factor). Set it to 1.",
        )
    file.finish(("num_protected_tokens", "normalize_embeddings", "tasks"))


def _prompts(folder: Path) -> dict[str, str]:
    file = SettingsFile(folder / SETTINGS)
    prompts = file.texts_by_name("prompts")
    file.only(
        "similarity_fn_name",
        ("maxsim",),
        "is not supported, only maxsim is: with meanmaxsim results come in the same order, their scores "
        "divided by the number of a query's vectors. Set it to maxsim if those will do.",
    )
    file.finish(HARMLESS)
    return {kind: prompts.get(kind, "") for kind in ("query", "document")}


def _kept(folder: Path, module: Module | None, kind: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """What MultiVectorMask says of which vectors are kept, as fields of the rules."""
    if module is None:
        return {}
    file = SettingsFile(folder / module.path / "config.json")
    words, tasks = file.texts("skiplist_words", ()), file.value("skiplist_tasks", ["document"])
    only = file.value("keep_only_token_ids", [])
    file.finish(())
    if not isinstance(only, list) or not all(type(i) is int and i >= 0 for i in only):
        raise file.refusal("keep_only_token_ids", "should be a list of token ids. Correct the file.")
    if not isinstance(tasks, str | list):
        raise file.refusal("skiplist_tasks", "should be a list of tasks. Correct the file.")
    skips = kind == tasks if isinstance(tasks, str) else kind in tasks
    return {
        "skiplist": tuple(sorted(vocabulary.known_tokens(words))) if skips else (),
        "kept": tuple(sorted(set(only))) if only and kind == "document" else None,
    }


def _limit(file: SettingsFile, vocabulary: Vocabulary, positions: int) -> int:
    """Tokens that a text without a length of its own is cut to."""
    loading = file.value("processor_kwargs", file.value("tokenizer_args", {}))
    if not isinstance(loading, dict) or set(loading) - {"model_max_length"}:
        key = "processor_kwargs" if file.value("processor_kwargs") is not None else "tokenizer_args"
        raise file.refusal(key, "is not supported, only model_max_length in it is.")
    # The library caps the tokenizer's own length at the encoder's positions, but not one that is told here.
    asked = file.integer("max_seq_length", 0) or integer(loading, "model_max_length", 0, file.path)
    return asked or min(vocabulary.max_length, positions)


def _query(file: SettingsFile, limit: int, masked: bool, vocabulary: Vocabulary) -> dict[str, Any]:
    """max_tokens and expansion of queries."""
    asked = file.value("query_expansion")
    if asked is None:
        return {"max_tokens": file.integer("query_length", limit), "expansion": None}
    if not isinstance(asked, dict) or set(asked) - {"strategy", "attend", "token", "length"}:
        raise file.refusal("query_expansion", "has other settings than strategy, attend, token and length.")
    strategy, attend, length = asked.get("strategy"), asked.get("attend", False), asked.get("length")
    if strategy not in ("fixed", "min") or type(attend) is not bool or type(length) is not int or length < 1:
        raise file.refusal("query_expansion", "should have a strategy (fixed or min), attend and a length.")
    ceiling = file.integer("query_length", limit)
    if file.value("query_length") is not None and ceiling < length:
        raise file.refusal("query_length", f"is below query_expansion's length {length}.")
    if strategy == "min" and ceiling < length:
        raise file.refusal("query_expansion", f"fills queries beyond the {ceiling} tokens they are cut to.")
    expansion = Expansion(
        token=_fill(file, asked.get("token"), vocabulary),
        attend=attend,
        length=length if strategy == "min" else None,
    )
    # Without a MultiVectorMask, tokens that nothing attends to have no vector that is kept: they are nothing.
    return {
        "max_tokens": length if strategy == "fixed" else ceiling,
        "expansion": expansion if masked or attend else None,
    }


def _fill(file: SettingsFile, token: Any, vocabulary: Vocabulary) -> int:
    if token is None:
        return vocabulary.special("mask_token", "eos_token")
    found = vocabulary.tokenizer.token_to_id(token) if isinstance(token, str) else None
    if found is None:
        raise file.refusal("query_expansion", f"fills with {token!r}, which is no token of the vocabulary.")
    return int(found)


def _plain_transformer(file: SettingsFile) -> None:
    """Refuse what makes of the Transformer something else than an encoder of texts."""
    text = 'is not supported: only "{}" is.'.format
    file.only("transformer_task", ("feature-extraction",), text("feature-extraction"))
    file.only("module_output_name", (VECTORS,), text(VECTORS))
    file.only("modality_config", TEXT_ONLY, "is not supported: only texts and last_hidden_state are.")
    file.only("processing_kwargs", ({},), "is not supported.")
    file.only(
        "do_lower_case",
        (False,),
        "is not supported. Load the model with sentence-transformers and save it again: the tokenizer "
        "then holds the rule.",
    )
    for key in ("model_kwargs", "model_args", "config_kwargs", "config_args"):
        given = file.value(key, {})
        if not isinstance(given, dict) or set(given) - set(HARMLESS_LOADING):
            raise file.refusal(key, f"is not supported, only {', '.join(HARMLESS_LOADING)} in it.")
    file.finish(HARMLESS_TRANSFORMER)
