"""Finds what an export starts from: a folder, an .onnx file, or a checkpoint on the model hub.

Of the hub, only the files that an export reads are fetched, at one commit that the contract names. Weights
come as safetensors where the repository has them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latebolt.errors import ExportError
from latebolt.formats import graphs, hub, lengths, vocabulary

if TYPE_CHECKING:
    from latebolt_export.source.checkpoint import Checkpoint

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SMALL = ("*.json", "artifact.metadata", "README.md", "*_Dense/*")
TOKENIZERS = ("*vocab.txt", "*merges.txt", "*.model")  # beside *.json; fetched where no tokenizer.json is
SAFE, PICKLED = ("*.safetensors",), ("pytorch_model*.bin",)


@dataclass(frozen=True)
class Place:
    """A source on this machine. `revision` is the commit it was fetched at, "" for a plain folder."""

    path: Path
    name: str
    revision: str = ""


def locate(source: str | Path, revision: str | None, progress: Callable[[str], None]) -> Place:
    """Where a source lies, after fetching it if it is a hub id.

    Raises:
        ExportError: there is no such folder, and the hub did not give it.
    """
    path = Path(source).expanduser()
    if path.exists():
        # The name of a snapshot's folder is its commit, and of its repository two folders up.
        return Place(path, path.resolve().stem if path.is_file() else path.resolve().name)
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        progress(f"fetching {source}")
        folder = _fetch(source, revision)
        return Place(folder, source, folder.name)
    raise ExportError(f"{path}: there is no such checkpoint folder. Check the path.")


def checkpoint(place: Place, head: Sequence[Path] | None) -> Checkpoint:
    """The checkpoint at a place; see `checkpoint.load`."""
    from latebolt_export.source import checkpoint as checkpoints

    found = checkpoints.load(place.path, head)
    notes = lengths.beyond(place.path, found.max_tokens)
    return dataclasses.replace(
        found, name=place.name, revision=place.revision, place=str(place.path), notes=notes
    )


def graph_file(path: Path) -> Path | None:
    """The ONNX file that an export should start from; None where there are weights to start from.

    Raises:
        ExportError: several files may be meant.
    """
    if path.is_file():
        return path if path.suffix == ".onnx" else None
    if _has_weights(path):
        return None
    whole = graphs.whole(graphs.listing(path))
    if len(whole) > 1:
        raise ExportError(f"{path}: holds several graphs ({', '.join(whole)}). Give the path of one.")
    return path / whole[0] if whole else None


def _has_weights(folder: Path) -> bool:
    patterns = ("model*.safetensors", "pytorch_model*.bin", "*/model*.safetensors", "*/pytorch_model*.bin")
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _fetch(hub_id: str, revision: str | None) -> Path:
    library = hub.library(hub_id)
    from huggingface_hub import constants

    try:
        weights: tuple[str, ...] = SAFE + PICKLED
        tokenizers: tuple[str, ...] = TOKENIZERS
        if not constants.HF_HUB_OFFLINE:
            # One commit for the listing and the files; and not both forms of the same weights.
            info = library.HfApi().model_info(hub_id, revision=revision)
            revision = info.sha
            names = [file.rfilename for file in info.siblings or ()]
            safe = any(name.endswith(".safetensors") and "_Dense/" not in name for name in names)
            weights = SAFE if safe else PICKLED
            if not any(Path(name).match(pattern) for name in names for pattern in (*SAFE, *PICKLED)):
                weights = ("*.onnx", "*.onnx_data", "*.onnx.data")
            if any(Path(name).name == vocabulary.FILE_NAME for name in names):
                tokenizers = ()
        wanted = [*SMALL, *tokenizers, *weights]
        return Path(library.snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except hub.faults() as error:
        raise ExportError(
            f'"{hub_id}": no folder of that name here, and the hub {hub.reason(error)}. Check the '
            f"name, or download the checkpoint and give its folder."
        ) from error
