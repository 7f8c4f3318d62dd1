"""Reads an encoder that is none of our own families as transformers has it: its class, sizes, tensor names.

Only classes that are part of transformers are used; code that a checkpoint brings along is never run. What
cannot be an encoder of token vectors is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latebolt.errors import ExportError
from latebolt_export.requirements import need_library_encoders, quiet
from latebolt_export.source.architectures import FAMILIES, UNSUPPORTED, UNUSED, UNUSED_ENDS, Kind

if TYPE_CHECKING:
    import torch

# Left out of the encoder's own tensors: no token vector depends on them.
POOLER = "pooler."


@dataclass(frozen=True, kw_only=True)
class LibraryPlan:
    """What is known of an encoder that transformers builds and optimum exports."""

    architecture: str
    hidden: int
    heads: int  # attention heads, 0 if unknown
    max_tokens: int
    config: dict[str, Any] = field(repr=False)  # config.json
    kinds: tuple[Kind, ...] = ()  # nothing is known of single layers


def read(
    config: dict[str, Any], state: Mapping[str, torch.Tensor], where: str
) -> tuple[LibraryPlan, dict[str, torch.Tensor]]:
    """The plan of a checkpoint, and its tensors under the encoder's own names; a head's stay as they are.

    Args:
        config: config.json.
        state: every tensor of the checkpoint, as stored.
        where: the checkpoint, for messages.
    Raises:
        ExportError: transformers or optimum do not know the architecture, it is no encoder, or the tensors do
            not fill it exactly.
        RuntimeUnavailable: the libraries of the `optimum` extra are missing.
    """
    kind = str(config.get("model_type") or "unnamed")
    _refuse_decoders(config, kind, where)
    need_library_encoders(kind)
    empty = _empty(config, kind, where)
    made = empty.config
    plan = LibraryPlan(
        architecture=kind,
        hidden=int(made.hidden_size),
        heads=int(getattr(made, "num_attention_heads", 0) or 0),
        max_tokens=_positions(empty, where),
        config=config,
    )
    return plan, _own_names(state, empty, where)


def of_config(config: dict[str, Any]) -> Any:
    """transformers' configuration of a config.json that `read` has accepted."""
    from transformers import CONFIG_MAPPING

    # Scores and softmax as plain operators: what graph fusions look for, the same in every version.
    return CONFIG_MAPPING[config["model_type"]].from_dict(config, attn_implementation="eager")


def exporter_config(model: Any) -> Any:
    """optimum's description of how the hidden states of a transformers model are exported.

    Raises:
        KeyError, ValueError: it has none.
    """
    from optimum.exporters.tasks import TasksManager

    # Asking for a task makes the manager import what registers the descriptions.
    import optimum.exporters.onnx.model_configs  # noqa: F401  # isort: skip

    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model=model, task="feature-extraction", library_name="transformers"
    )
    return constructor(model.config)


def _refuse_decoders(config: dict[str, Any], kind: str, where: str) -> None:
    """Refuse what its config.json already shows to be no encoder, before any library is asked for."""
    for setting in UNSUPPORTED:
        if config.get(setting):
            raise ExportError(f"{where}: config.json: {setting} = {config[setting]!r} is not supported.")
    if config.get("is_encoder_decoder"):
        raise ExportError(_not_one(where, kind, "an encoder with a decoder behind it"))
    named = config.get("architectures")
    if isinstance(named, list) and any("ForCausalLM" in str(name) for name in named):
        raise ExportError(_not_one(where, kind, "a decoder, whose tokens see only what is before them"))


def _empty(config: dict[str, Any], kind: str, where: str) -> Any:
    """The encoder without memory for its weights."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel
    from transformers.models.auto import modeling_auto as auto

    if kind not in CONFIG_MAPPING:
        raise ExportError(
            f'{where}: architecture "{kind}" is not supported: transformers has no such, and code that a '
            f"checkpoint brings along is never run. Our own: {', '.join(FAMILIES)}."
        )
    with quiet():
        try:
            made = of_config(config)
        except Exception as error:  # whatever a class makes of values that it does not expect
            raise ExportError(
                f"{where}: config.json: transformers cannot read it ({_reason(error)})."
            ) from error
        if made.is_encoder_decoder:
            raise ExportError(_not_one(where, kind, "an encoder with a decoder behind it"))
        if kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            what = "a decoder, whose tokens see only what is before them"
            if kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
                what = "none that transformers trains on masked text"
            raise ExportError(_not_one(where, kind, what))
        try:
            with torch.device("meta"):
                model = AutoModel.from_config(made, trust_remote_code=False)
            exporter_config(model)
        except Exception as error:  # the same, and what optimum raises of a class it does not know
            raise ExportError(f'{where}: architecture "{kind}" is not supported: {_reason(error)}') from error
    return model


def _reason(error: Exception) -> str:
    said = str(error.args[0] if error.args else "") or type(error).__name__
    return said.splitlines()[0]


def _not_one(where: str, kind: str, what: str) -> str:
    return (
        f'{where}: architecture "{kind}" is not supported: it is {what}, and late interaction needs an '
        f"encoder. Our own families: {', '.join(FAMILIES)}; further encoders as transformers has them."
    )


def _positions(model: Any, where: str) -> int:
    """Most tokens of a text. A table with a padding row begins behind it, as RoBERTa's and MPNet's do."""
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if positions <= 0:
        raise ExportError(f"{where}: config.json lacks max_position_embeddings. Download it again.")
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return positions if padding is None else positions - int(padding) - 1


def _own_names(state: Mapping[str, torch.Tensor], model: Any, where: str) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors as the model names them, beside `linear.weight`, which is a Stanford head's.

    Raises:
        ExportError: one is missing, has another shape, or is not the encoder's.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    prefix = f"{model.base_model_prefix}."
    wrapped = any(name.startswith(prefix) for name in state)
    found = {}
    for stored, tensor in state.items():
        name = stored.removeprefix(prefix)
        for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if stored == "linear.weight":
            found[stored] = tensor
        elif name.startswith(POOLER) or (wrapped and not stored.startswith(prefix)):
            continue  # what a training objective put behind the encoder
        elif name in expected:
            found[name] = tensor
        elif not name.startswith(UNUSED) and not name.endswith(UNUSED_ENDS):
            raise ExportError(f"{where}: the weights hold {stored}, which {model.config.model_type} lacks.")
    for name, shape in expected.items():
        if name.startswith(POOLER) or name.endswith(UNUSED_ENDS):
            continue
        if name not in found:
            raise ExportError(f"{where}: the weights hold no {name}. Download the checkpoint again.")
        if tuple(found[name].shape) != shape:
            raise ExportError(
                f"{where}: {name} should be {list(shape)} (config.json), got {list(found[name].shape)}. "
                f"One of the two files is from another checkpoint."
            )
    return found
