"""Reads the projection heads a checkpoint brings: Stanford's `linear.weight`, PyLate's Dense modules.

Source: pylate/models/Dense.py. Every Dense is applied, in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latebolt.errors import ExportError
from latebolt.layouts import pylate as pylate_layout
from latebolt.layouts import stanford as stanford_layout
from latebolt.layouts.files import read_json
from latebolt_export.heads import Dense, Projection
from latebolt_export.weights import read_state

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
    """One projection made of every Dense module; none where there is no such module.

    Raises:
        ExportError: a module's files are missing, damaged or ask for something unknown.
    """
    paths = pylate_layout.dense_paths(folder)
    if not paths:
        return ()
    return (Projection(tuple(_dense(folder / path) for path in paths), source=" then ".join(paths)),)


def _dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    if config is None:
        raise ExportError(f"{folder}: has no config.json, though modules.json names this Dense module.")
    state = read_state(folder)
    if "linear.weight" not in state:
        raise ExportError(f"{folder}: the weights hold no linear.weight.")
    shape = [config.get("out_features"), config.get("in_features")]
    if None not in shape and list(state["linear.weight"].shape) != shape:
        raise ExportError(
            f"{folder}: linear.weight should be {shape} (config.json), got "
            f"{list(state['linear.weight'].shape)}. One of the two files is from another checkpoint."
        )
    residual = state.get("residual.weight")
    return Dense(
        weight=state["linear.weight"].float(),
        bias=state["linear.bias"].float() if "linear.bias" in state else None,
        activation=str(config.get("activation_function") or "identity").rpartition(".")[2].lower(),
        residual=None if residual is None else residual.float(),
        skip=bool(config.get("use_residual")) and residual is None,
    )
