"""Turns a checkpoint folder into one resolved `Checkpoint`, whichever layout it came in.

Reads settings, tokenizer and weights; decides nothing about graphs. The folders' layouts are told apart
here and read in `stanford` and `pylate`; a folder without heads of its own is `plain`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latebolt.contract import Frame, TextRules
from latebolt.errors import ExportError
from latebolt_export import pylate, stanford
from latebolt_export.files import integer, read_json
from latebolt_export.heads import Dense, Projection, check
from latebolt_export.vocabulary import Vocabulary
from latebolt_export.weights import read_state, read_tensors

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("bert",)
PLAIN_QUERY_TOKENS = 128  # no expansion fills them up, so a generous bound costs short queries nothing


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that an export needs to know of its source."""

    name: str
    architecture: str  # one of ARCHITECTURES
    config: dict[str, Any]  # config.json
    state: dict[str, torch.Tensor]  # encoder weights, names without the layout's prefix
    projections: tuple[Projection, ...]
    frame: Frame
    query: TextRules
    document: TextRules
    tokenizer_json: str
    max_tokens: int
    revision: str = ""
    licence: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # further files of the model folder, by name


def load(folder: Path, head: Path | Sequence[Path] | None = None) -> Checkpoint:
    """Read and resolve a checkpoint.

    Args:
        folder: Stanford layout (`artifact.metadata`), PyLate layout (`modules.json` with Dense
            modules), or an encoder without heads.
        head: safetensors file(s) with `linear.weight` [dim, hidden], used instead of the folder's own.
    Raises:
        ExportError: something is missing, damaged, contradictory or not supported; the message says what.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder}: there is no such checkpoint folder. Check the path.")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ExportError(f"{folder}: has no config.json. Give the folder that holds the checkpoint's files.")
    architecture = _architecture(config, folder)
    max_tokens = integer(config, "max_position_embeddings", 512, folder / "config.json")
    vocabulary = Vocabulary(folder)
    state = read_state(folder)
    if stanford.recognises(folder):
        state, projections = stanford.split(state, folder)
        query, document = stanford.rules(folder, vocabulary, max_tokens)
    elif pylate.recognises(folder):
        state, projections = pylate.split(state, folder)
        query, document = pylate.rules(folder, vocabulary, max_tokens)
    else:
        projections = ()
        query, document = TextRules(min(PLAIN_QUERY_TOKENS, max_tokens)), TextRules(max_tokens)
    if head is not None:
        projections = tuple(_head_file(path) for path in ([head] if isinstance(head, Path) else head))
    if not projections:
        raise ExportError(
            f"{folder}: has no projection head (no artifact.metadata, no Dense in modules.json). "
            f"Give one with --head FILE.safetensors holding linear.weight [dim, {config['hidden_size']}]."
        )
    for projection in projections:
        check(projection, int(config["hidden_size"]))
    return Checkpoint(
        name=folder.name,
        architecture=architecture,
        config=config,
        state=state,
        projections=projections,
        frame=vocabulary.frame(),
        query=query,
        document=document,
        tokenizer_json=vocabulary.json(),
        max_tokens=max_tokens,
        licence=_licence(folder),
    )


def _architecture(config: dict[str, Any], folder: Path) -> str:
    kind = str(config.get("model_type") or "unnamed")
    if kind not in ARCHITECTURES:
        raise ExportError(
            f'{folder}: architecture "{kind}" is not supported. Supported: {", ".join(ARCHITECTURES)}.'
        )
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ExportError(
            f'{folder}: {kind} with "{positions}" positions is not supported. Supported: absolute positions.'
        )
    return kind


def _head_file(path: Path) -> Projection:
    tensors = read_tensors(path)
    if "linear.weight" not in tensors:
        held = ", ".join(sorted(tensors)) or "nothing"
        raise ExportError(f"{path}: should hold linear.weight [dim, hidden], holds {held}.")
    return Projection((Dense(tensors["linear.weight"].float()),), source=path.name)


def _licence(folder: Path) -> str:
    """The licence that the model card's front matter names, as it is written there."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"^license:\s*(\S+)\s*$", card.partition("\n---")[0], re.MULTILINE)
    return match.group(1) if match and card.startswith("---") else ""
