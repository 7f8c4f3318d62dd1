"""Reads the projection heads a checkpoint brings: Stanford's `linear.weight`, or Dense modules.

Source: pylate/models/Dense.py and sentence_transformers/base/modules/dense.py. Every Dense is applied, in
order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latebolt.errors import ExportError
from latebolt.formats import stanford as stanford_layout
from latebolt.formats.modules import dense_paths
from latebolt.formats.multi_vector import VECTORS
from latebolt.formats.settings_file import SettingsFile
from latebolt_export.source.heads import Dense, Projection, identity
from latebolt_export.source.weights import read_state

if TYPE_CHECKING:
    import torch


def stanford(
    state: dict[str, torch.Tensor], folder: Path
) -> tuple[dict[str, torch.Tensor], tuple[Projection, ...]]:
    """Part the state dict into encoder weights and the head.

    Raises:
        ExportError: there is no `linear.weight`, or it is not as wide as artifact.metadata says.
    """
    if "linear.weight" not in state:
        raise ExportError(f"{folder}: the weights hold no linear.weight, the ColBERT projection.")
    weight = state["linear.weight"].float()
    dim = stanford_layout.dim(folder) or int(weight.shape[0])
    if dim != weight.shape[0]:
        raise ExportError(
            f"{folder}: linear.weight should have {dim} rows (artifact.metadata: dim), "
            f"got {weight.shape[0]}. One of the two files is from another checkpoint."
        )
    encoder = {name: tensor for name, tensor in state.items() if name != "linear.weight"}
    return encoder, (Projection((Dense(weight),), source="linear.weight"),)


def pylate(folder: Path) -> tuple[Projection, ...]:
    """One projection made of every Dense module, PyLate's dialect.

    Raises:
        ModelError: there is no such module, or its files are missing, damaged or ask for something unknown.
    """
    paths = dense_paths(folder)
    if not paths:
        raise ExportError(
            f"{folder}: modules.json names no Dense, so PyLate would add one with untrained weights. "
            f"Load the model with PyLate and save it again, or give a head with --head."
        )
    layers = []
    for path in paths:
        file = SettingsFile(folder / path / "config.json")
        kind = file.text("activation_function", "")
        if "use_residual" not in file.settings and _activation(file, kind) != "identity":
            raise file.refusal("activation_function", "is left out by PyLate 1.2 and applied by later ones.")
        layers.append(_dense(folder / path, file, kind))
    return (Projection(tuple(layers), source=" then ".join(paths)),)


def multi_vector(folder: Path, hidden: int) -> tuple[Projection, ...]:
    """One projection made of every Dense module, sentence-transformers' dialect; the encoder's own vectors
    where there is none.

    Raises:
        ModelError: a module's files are missing, damaged or ask for something unknown.
    """
    paths, layers = dense_paths(folder), []
    for path in paths:
        file = SettingsFile(folder / path / "config.json")
        source = file.text("module_input_name", VECTORS)
        if source != VECTORS or file.text("module_output_name", source) != VECTORS:
            key = "module_input_name" if source != VECTORS else "module_output_name"
            raise file.refusal(key, f"is not supported: only {VECTORS} is.")
        kind = file.text("activation_function", "torch.nn.modules.activation.Tanh")
        layers.append(_dense(folder / path, file, kind))
    return (Projection(tuple(layers), " then ".join(paths)) if layers else identity(hidden),)


def _activation(file: SettingsFile, kind: str) -> str:
    """The name that heads know an activation by; other classes than torch's would mean to run their code."""
    if not kind.startswith("torch.nn."):
        raise file.refusal("activation_function", "is not supported: only torch's own are.")
    return kind.rpartition(".")[2].lower()


def _dense(folder: Path, file: SettingsFile, kind: str) -> Dense:
    if not file.settings:
        raise ExportError(f"{folder}: has no config.json, though modules.json names this Dense module.")
    state = {name: tensor.float() for name, tensor in read_state(folder).items()}
    width, dim = file.integer("in_features", 0), file.integer("out_features", 0)
    residual = file.flag("use_residual", False)
    expected = {"linear.weight": [dim, width]}
    if file.flag("bias", True):
        expected["linear.bias"] = [dim]
    if residual and width != dim:
        expected["residual.weight"] = [dim, width]
    activation = _activation(file, kind)
    file.finish(())
    if missing := sorted(expected.keys() - state.keys()):
        raise ExportError(f"{folder}: the weights hold no {missing[0]}.")
    if unknown := sorted(state.keys() - expected.keys()):
        raise ExportError(f"{folder}: the weights hold {unknown[0]}, of which config.json says nothing.")
    for name, shape in expected.items():
        if list(state[name].shape) != shape:
            raise ExportError(
                f"{folder}: {name} should be {shape} (config.json), got {list(state[name].shape)}. One of "
                f"the two files is from another checkpoint."
            )
    return Dense(
        weight=state["linear.weight"],
        bias=state.get("linear.bias"),
        activation=activation,
        residual=state.get("residual.weight"),
        skip=residual and width == dim,
    )
