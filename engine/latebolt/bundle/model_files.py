"""The files of a model that a device needs: how texts are encoded, and the graph of one precision."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from latebolt import confidence, contract
from latebolt.encoder import model_folder
from latebolt.encoder.model_folder import BUILT_IN, ModelFolder
from latebolt.errors import ModelError
from latebolt.formats import graphs, settings

# What is told of a model to people goes with it.
_TEXTS: Final = ("README*", "LICENSE*", "LICENCE*", "NOTICE*", "REPORT.md")
# On a CPU the first of these that a model has is used.
_ORDER: Final = ("int8", "fp32", "fp16")


class ModelFiles(NamedTuple):
    """A model for a bundle. `folder` is None for a built-in one, which is in latebolt's wheel already.

    Args:
        name: a file name for its folder in the bundle.
        files: relative to the folder, with "/".
    """

    name: str
    licence: str
    precision: str
    folder: ModelFolder | None
    files: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum((self.folder.path / file).stat().st_size for file in self.files) if self.folder else 0


def choose(model: str, precision: str | None, machine: str) -> ModelFiles:
    """The files of a model; those of a hub id are fetched into the hub's cache.

    Args:
        precision: None is the fastest on a CPU.
        machine: of the device, which decides between int8 graphs of a folder that others made.
    Raises:
        ModelError: there is no such model or precision, or a file is missing.
        InvalidInput: the name is empty.
    """
    folder = model_folder.find(model)
    known = folder.contract
    if not folder.exported:
        found = (
            graphs.by_precision(graphs.listing(folder.path), machine) if not folder.on_hub else known.graphs
        )
        folder = ModelFolder(
            folder.name, folder.path, msgspec.structs.replace(known, graphs=found), folder.on_hub
        )
        known = folder.contract
    chosen = precision or next(name for name in _ORDER if name in known.graphs)
    known.graph(chosen)
    licence = known.source.licence
    if folder.path.parent == BUILT_IN:
        return ModelFiles(folder.name, licence, chosen, None, ())
    folder.graph_file(chosen)  # fetches it from the hub, and looks at its size
    wanted = {part.file for part in known.graph(chosen).parts}
    for pattern in (contract.FILE_NAME, confidence.FILE_NAME, *settings.FILES, *_TEXTS):
        wanted |= {
            each.relative_to(folder.path).as_posix() for each in folder.path.glob(pattern) if each.is_file()
        }
    name = _file_name(known.name or folder.path.name)
    return ModelFiles(name, licence, chosen, folder, tuple(sorted(wanted)))


def copy(model: ModelFiles, target: Path) -> None:
    """Put the files of a model into a new folder, and see that it is a model there.

    Raises:
        ModelError: what was copied is not the same model.
        OSError: the system refuses it.
    """
    assert model.folder is not None
    source = model.folder
    for name in model.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, target / name)
    if source.exported:
        only = {model.precision: source.contract.graph(model.precision)}
        said = source.contract
        if said.graphs.keys() != only.keys() or said.gpu_graphs:
            # Graphs for GPUs stay behind: a bundle brings the CPU's ONNX Runtime.
            version = min(said.format_version, contract.PLAIN_VERSION)
            contract.write(
                msgspec.structs.replace(said, graphs=only, gpu_graphs={}, format_version=version), target
            )
    made = model_folder.find(target)
    dim = source.contract.head(None).dim
    made.graph_file(model.precision)
    made.tokenizer()
    if made.fingerprint(model.precision, dim) != source.fingerprint(model.precision, dim):
        raise ModelError(
            f"{source.path}: changed while it was copied. Run it again when nobody writes there."
        )


def _file_name(name: str) -> str:
    """A name that every system takes: letters, digits, dots, hyphens and underscores, 80 at most."""
    safe = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "-" for each in name)
    return safe.strip(".-")[:80] or "model"
