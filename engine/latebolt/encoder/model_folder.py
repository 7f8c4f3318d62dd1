"""Finds the folder of a model by name: built in, on disk, or on the hub.

Answers with a checked `Contract` and the folder it was read from; loads nothing into ONNX Runtime.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from latebolt import contract as contracts
from latebolt.contract import Contract, Graph
from latebolt.errors import ModelError

BUILT_IN = Path(__file__).parent.parent / "models"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["latebolt.json", "tokenizer.json", "onnx/*"]


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk. `name` is what finds it again: "starter", an absolute path, or a hub id."""

    name: str
    path: Path
    contract: Contract

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer's file.

        Raises:
            ModelError: it is missing.
        """
        path = self.path / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{path}: the tokenizer is missing. Export the model again.")
        return path

    def graph_file(self, precision: str) -> tuple[Path, Graph]:
        """The ONNX file of a precision and its record.

        Raises:
            ModelError: there is no such graph, its file is missing, or its size is not the recorded one.
        """
        graph = self.contract.graph(precision)
        path = self.path / graph.file
        if not path.is_file():
            raise ModelError(f"{path}: the {precision} graph is missing. Export the model again.")
        if (size := path.stat().st_size) != graph.bytes:
            raise ModelError(
                f"{path}: should have {graph.bytes} bytes, got {size}; it is damaged. Export the model again."
            )
        return path, graph


def find(name: str | Path) -> ModelFolder:
    """The model of that name.

    Args:
        name: a built-in name ("starter"), a folder, or a hub id `org/name` (downloaded through
            huggingface_hub into its cache; `HF_HUB_OFFLINE` is honoured).
    Raises:
        ModelError: there is no such model, or its folder is not sound.
    """
    text = str(name)
    built_in = BUILT_IN / text
    if re.fullmatch(r"[A-Za-z0-9][\w-]*", text) and built_in.is_dir() and not Path(text).is_dir():
        return ModelFolder(text, built_in, contracts.read(built_in))
    path = Path(text).expanduser()
    if not path.exists() and _HUB_ID.fullmatch(text):
        path = _download(text)
        return ModelFolder(text, path, contracts.read(path))
    return ModelFolder(str(path.resolve()), path.resolve(), contracts.read(path))


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f'model "{hub_id}": no folder of that name here, and the hub did not give it ({reason}). '
            'Check the name, or use the built-in "starter".'
        ) from error
