"""Reads `modules.json`: which modules a model of the sentence-transformers family has, and where they lie.

What a module does is the layouts' business; here stands what holds for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from latebolt.errors import ModelError
from latebolt.formats.files import read_json

FILE_NAME = "modules.json"
FAMILIES = ("sentence_transformers.", "pylate.")  # of other classes the code would have to be run


@dataclass(frozen=True)
class Module:
    """One module. `kind` is the name of its class, "" for one that is not the libraries' own."""

    kind: str
    type: str  # the class as the file writes it
    path: str  # relative to the model's folder; "" = the folder itself
    arguments: tuple[str, ...] = ()  # what of a call's arguments it is given


def modules(folder: Path) -> tuple[Module, ...]:
    """The modules in the order they are applied in; none where there is no modules.json.

    Raises:
        ModelError: the file is not what it should be, or a path leaves the folder.
    """
    path = folder / FILE_NAME
    listed = read_json(path) or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ModelError(f"{path}: should hold a list of modules. Download it again.")
    found = []
    for each in listed:
        kind, where = str(each.get("type", "")), str(each.get("path") or "")
        if PurePosixPath(where).is_absolute() or ".." in PurePosixPath(where).parts:
            raise ModelError(f'{path}: path "{where}" should stay in the model folder.')
        arguments = each.get("kwargs") or []
        if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
            raise ModelError(f"{path}: kwargs should be a list of names, got {arguments!r}.")
        name = kind.rpartition(".")[2] if kind.startswith(FAMILIES) else ""
        found.append(Module(name, kind, where, tuple(arguments)))
    return tuple(found)


def encoder_folder(folder: Path) -> Path:
    """Where the transformer's own files lie: the folder itself, unless its modules say otherwise."""
    listed = modules(folder)
    return folder / listed[0].path if listed else folder


def dense_paths(folder: Path) -> list[str]:
    """Where the Dense modules lie, in the order they are applied in."""
    return [module.path for module in modules(folder) if module.kind == "Dense"]
