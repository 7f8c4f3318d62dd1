"""Finds the folder of a model by name: built in, on disk, or on the hub.

Answers with a checked `Contract`, read from latebolt.json or derived from the layout of a folder that others
made, and the folder it belongs to; loads nothing into ONNX Runtime.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from latebolt import confidence
from latebolt import contract as contracts
from latebolt.confidence import Calibrations
from latebolt.contract import Contract, Graph
from latebolt.errors import InvalidInput, ModelError
from latebolt.formats import folder as foreign
from latebolt.formats import graphs, hub, settings
from latebolt.formats.digests import remembered_sha256

BUILT_IN = Path(__file__).parent.parent / "models"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What is fetched to learn about a model; of its graphs, only the one that is asked for.
_SMALL_FILES = (contracts.FILE_NAME, confidence.FILE_NAME, *settings.FILES)


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk. `name` is what finds it again: "starter", an absolute path, or a hub id.

    on_hub: its graphs are fetched from the hub when they are asked for.
    """

    name: str
    path: Path
    contract: Contract
    on_hub: bool = False

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer's file.

        Raises:
            ModelError: it is missing.
        """
        path = settings.tokenizer_file(self.path)
        if not path.is_file():
            raise ModelError(f"{path}: the tokenizer is missing. {self._way_out}")
        return path

    def tokenizer(self) -> Path | Tokenizer:
        """The tokenizer's file; of a folder that others made, what their library makes of it.

        Raises:
            ModelError: it is missing or damaged.
        """
        return self.tokenizer_file if self.exported else settings.tokenizer(self.path)

    @property
    def exported(self) -> bool:
        """Whether an export made the folder, which then has a latebolt.json."""
        return (self.path / contracts.FILE_NAME).is_file()

    def graph_file(self, precision: str) -> tuple[Path, Graph]:
        """The ONNX file of a precision and its record, fetched from the hub if it is not here yet.

        Raises:
            ModelError: there is no such graph, one of its files is missing, or has not the recorded size.
        """
        return self._on_disk(self.contract.graph(precision), precision)

    def gpu_graph_file(self, form: str) -> tuple[Path, Graph] | None:
        """The ONNX file of a form of shared runs on a GPU, and its record; None where the export wrote none.

        Raises:
            ModelError: see `graph_file`.
        """
        graph = self.contract.gpu_graphs.get(form)
        return None if graph is None else self._on_disk(graph, form)

    def _on_disk(self, graph: Graph, precision: str) -> tuple[Path, Graph]:
        missing = [part.file for part in graph.parts if not (self.path / part.file).is_file()]
        if missing and self.on_hub:
            _download(self.name, missing, self.path.name)
        for part in graph.parts:
            path = self.path / part.file
            if not path.is_file():
                raise ModelError(f"{path}: a file of the {precision} graph is missing. {self._way_out}")
            if part.bytes and (size := path.stat().st_size) != part.bytes:
                raise ModelError(
                    f"{path}: should have {part.bytes} bytes, got {size}; it is damaged. {self._way_out}"
                )
        return self.path / graph.file, graph

    def fingerprint(self, precision: str, dim: int) -> str:
        """16 hex digits, equal for two encoders whose token vectors may be compared with each other.

        Precisions of an exported model share it. A folder that others made records nothing that would show
        its graphs to have the same weights, so there each graph has its own.
        """
        contract = self.contract
        if not contract.source.weights_sha256:
            files = [self.path / part.file for part in contract.graph(precision).parts]
            source = msgspec.structs.replace(contract.source, weights_sha256=remembered_sha256(files))
            contract = msgspec.structs.replace(contract, source=source)
        return contract.fingerprint(dim)

    def calibrations(self) -> Calibrations | None:
        """What makes confidence of its scores; None where nobody fitted that.

        Raises:
            ModelError: the file is damaged.
        """
        return confidence.read(self.path)

    @property
    def _way_out(self) -> str:
        return "Export the model again." if self.exported and not self.on_hub else "Download the model again."


def find(name: str | Path) -> ModelFolder:
    """The model of that name.

    Args:
        name: a built-in name ("starter", "multilingual"), a folder (exported, or in the layout of FastEmbed,
            PyLate or next-plaid with ONNX graphs), or a hub id `org/name` (downloaded through huggingface_hub
            into its cache; `HF_HUB_OFFLINE` is honoured).
    Raises:
        RuntimeUnavailable: a hub id, and huggingface_hub is not installed.
        ModelError: there is no such model, or its folder is not sound.
        InvalidInput: the name is empty.
    """
    text = str(name)
    if not text.strip():
        raise InvalidInput(
            'the name of a model is empty. Use "starter", a folder, or a hub id such as org/name.'
        )
    built_in = BUILT_IN / text
    if re.fullmatch(r"[A-Za-z0-9][\w-]*", text) and built_in.is_dir() and not Path(text).is_dir():
        return ModelFolder(text, built_in, contracts.read(built_in))
    path = Path(text).expanduser()
    if not path.exists() and _HUB_ID.fullmatch(text):
        path = _download(text, _SMALL_FILES)
        if (path / contracts.FILE_NAME).is_file():
            return ModelFolder(text, path, contracts.read(path), on_hub=True)
        contract = foreign.derive(path, _hub_listing(text, path), text, revision=path.name)
        return ModelFolder(text, path, contract, on_hub=True)
    path = path.resolve()
    if path.is_dir() and not (path / contracts.FILE_NAME).is_file():
        return ModelFolder(str(path), path, foreign.derive(path, graphs.listing(path), path.name))
    return ModelFolder(str(path), path, contracts.read(path))


def _huggingface_hub(hub_id: str) -> Any:
    # Read when it is imported: without it, its requests tell the hub what else is installed.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return hub.library(hub_id)


def _download(hub_id: str, patterns: Sequence[str], revision: str | None = None) -> Path:
    library = _huggingface_hub(hub_id)
    try:
        return Path(library.snapshot_download(hub_id, revision=revision, allow_patterns=list(patterns)))
    except hub.faults() as error:
        raise ModelError(
            f'model "{hub_id}": no folder of that name here, and the hub {hub.reason(error)}. '
            'Check the name, or use the built-in "starter" or "multilingual".'
        ) from error


def _hub_listing(hub_id: str, snapshot: Path) -> list[str]:
    """Files of a repository at a snapshot's commit; those fetched earlier where the hub cannot be asked."""
    library = _huggingface_hub(hub_id)
    try:
        return list(library.HfApi().list_repo_files(hub_id, revision=snapshot.name))
    except hub.faults():
        return graphs.listing(snapshot)
