"""Turns a checkpoint folder into one resolved `Checkpoint`, whichever layout it came in.

Reads settings, tokenizer and weights; decides nothing about graphs. The folders' layouts are told apart
here, their settings are read by `latebolt.formats`; a folder without heads of its own is `plain`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latebolt.contract import Frame, TextRules
from latebolt.errors import ExportError
from latebolt.formats import modules, multi_vector, pylate, settings, stanford
from latebolt.formats.files import read_settings
from latebolt.formats.settings_file import SettingsFile
from latebolt.formats.vocabulary import Vocabulary
from latebolt_export.source import architectures, head_file, library_encoder, own_heads, tokenizer_files
from latebolt_export.source.architectures import PREFIXES, UNUSED, UNUSED_ENDS, Plan
from latebolt_export.source.heads import Projection, check
from latebolt_export.source.library_encoder import LibraryPlan
from latebolt_export.source.origin import Origin
from latebolt_export.source.weights import read_state, state_sha256

if TYPE_CHECKING:
    import torch

# What a LayerNorm's tensors are called in BERT's first checkpoints and in those that transformers 5.3 writes.
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
PLAIN_QUERY_TOKENS = 128  # no expansion fills them up, so a generous bound costs short queries nothing


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Origin):
    """All that an export needs to know of its source."""

    plan: Plan | LibraryPlan
    state: dict[str, torch.Tensor]  # encoder weights under the encoder's own names
    projections: tuple[Projection, ...]

    def weights_sha256(self) -> str:
        """Hex digest of encoder and heads, the same whatever is made of them."""
        heads = {
            f"heads.{i}.{j}.{part}": tensor
            for i, projection in enumerate(self.projections)
            for j, layer in enumerate(projection.layers)
            for part in ("weight", "bias", "residual")
            if (tensor := getattr(layer, part)) is not None
        }
        # What has no weights changes the vectors too; only where there is such, so that older digests stay.
        for i, projection in enumerate(self.projections):
            for j, layer in enumerate(projection.layers):
                if layer.activation != "identity" or layer.skip:
                    like = layer.weight.new_zeros(int(layer.skip))
                    heads[f"heads.{i}.{j}.{layer.activation}"] = like
        return state_sha256(self.state | heads)


def load(folder: Path, head: Path | Sequence[Path] | None = None) -> Checkpoint:
    """Read and resolve a checkpoint.

    Args:
        folder: Stanford layout (`artifact.metadata`), that of sentence-transformers' MultiVectorEncoder or
            PyLate's (`modules.json`, `config_sentence_transformers.json`), or an encoder without heads.
        head: file(s) with a head each, used instead of the folder's own; see `head_file`.
    Raises:
        ModelError: something is missing, damaged, contradictory or not supported; the message says what.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder}: there is no such checkpoint folder. Check the path.")
    inner = modules.encoder_folder(folder)
    config = read_settings(inner / "config.json")
    if not config:
        raise ExportError(f"{folder}: has no config.json. Give the folder that holds the checkpoint's files.")
    vocabulary = Vocabulary(inner, tokenizer_files.convert(inner))
    stored = read_state(inner)
    state = _own_names(stored)
    plan: Plan | LibraryPlan
    if architectures.family_of(config, state.keys()) in architectures.FAMILIES:
        plan = architectures.plan(config, state.keys(), str(folder))
    else:
        plan, state = library_encoder.read(config, stored, str(folder))
    rules = settings.texts(folder, vocabulary, config, plan.max_tokens) or _plain(folder, vocabulary, plan)
    _check_windows(rules.query, vocabulary.frame(), plan, folder)
    projections: tuple[Projection, ...] = ()
    if stanford.recognises(folder):
        state, projections = own_heads.stanford(state, folder)
    elif head is None and multi_vector.recognises(folder):
        projections = own_heads.multi_vector(folder, plan.hidden)
    elif head is None and pylate.recognises(folder):
        projections = own_heads.pylate(folder)
    if head is not None:
        projections = tuple(head_file.read(path) for path in ([head] if isinstance(head, Path) else head))
    if not projections:
        raise ExportError(
            f"{folder}: has no projection head (no artifact.metadata, no modules.json with the settings of "
            f"PyLate or of a MultiVectorEncoder), so it is no late-interaction checkpoint. "
            f"Give one with --head FILE.safetensors holding linear.weight [dim, {plan.hidden}]."
        )
    for projection in projections:
        check(projection, plan.hidden)
    return Checkpoint(
        name=folder.name,
        architecture=plan.architecture,
        hidden=plan.hidden,
        max_tokens=plan.max_tokens,
        plan=plan,
        state=state,
        projections=projections,
        frame=vocabulary.frame(),
        query=rules.query,
        document=rules.document,
        lowercase=rules.lowercase,
        tokenizer_json=vocabulary.json(),
        licence=licence(folder),
    )


def _check_windows(query: TextRules, frame: Frame, plan: Plan | LibraryPlan, folder: Path) -> None:
    """Refuse expansion that reaches so far that in local attention a filled token would see no token at all.

    What it then becomes is left to an implementation: transformers gives two answers (sdpa and eager).
    """
    window = min((kind.window for kind in plan.kinds if kind.window), default=0)
    if not window or query.expansion is None or query.expansion.attend:
        return
    filled = query.expansion.length or query.max_tokens
    least = len(frame.prefix) + len(frame.suffix) + (query.marker is not None)
    if filled > least + window:
        raise ExportError(
            f"{folder}: queries are filled up to {filled} tokens (query_expansion, query_length), which the "
            f"rest does not attend to; beyond {least + window} some would see nothing in the local attention "
            f"of {window} tokens to each side, and libraries differ on what they become."
        )


def _plain(folder: Path, vocabulary: Vocabulary, plan: Plan | LibraryPlan) -> settings.TextSettings:
    """The rules of an encoder that nobody has trained for late interaction: its own prompts and length."""
    vocabulary.load_as_transformers_does()
    prompts = SettingsFile(folder / pylate.SETTINGS).texts_by_name("prompts")
    return settings.TextSettings(
        layout="a plain encoder",
        query=TextRules(min(PLAIN_QUERY_TOKENS, plan.max_tokens), prompt=prompts.get("query", "")),
        document=TextRules(plan.max_tokens, prompt=prompts.get("document", "")),
        lowercase=SettingsFile(vocabulary.folder / pylate.TRANSFORMER_SETTINGS).flag("do_lower_case", False),
    )


def encoder_state(folder: Path) -> dict[str, torch.Tensor]:
    """A folder's tensors under the encoder's own names; what training objectives left behind is dropped."""
    return _own_names(read_state(folder))


def _own_names(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {}
    for name, tensor in stored.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
        own = name.removeprefix(prefix)
        for theirs, ours in OLD_NAMES.items():
            own = own.removesuffix(theirs) + ours if own.endswith(theirs) else own
        if not own.startswith(UNUSED) and not own.endswith(UNUSED_ENDS):
            state[own] = tensor
    return state


def licence(folder: Path) -> str:
    """The licence that the model card's front matter names, as it is written there."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"^license:\s*(\S+)\s*$", card.partition("\n---")[0], re.MULTILINE)
    return match.group(1) if match and card.startswith("---") else ""
