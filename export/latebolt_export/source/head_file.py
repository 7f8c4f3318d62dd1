"""Reads a projection head from a file of its own: `linear.weight`, and whatever else belongs to it.

Everything in the file is used, or refused by name. The file may be a Dense module's, whose config.json then
lies beside it and says what follows the linear layer.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.errors import ExportError
from latebolt.formats.files import read_json
from latebolt_export.source.heads import Dense, Projection
from latebolt_export.source.weights import read_tensors

WEIGHT, BIAS, RESIDUAL = "linear.weight", "linear.bias", "residual.weight"
ACTIVATION, SKIP = "activation_function", "use_residual"


def read(path: Path) -> Projection:
    """The head in a weight file.

    Raises:
        ExportError: it lacks `linear.weight`, or holds or is described by something that is not understood.
    """
    tensors = read_tensors(path)
    if WEIGHT not in tensors:
        held = ", ".join(sorted(tensors)) or "nothing"
        raise ExportError(f"{path}: should hold {WEIGHT} [dim, hidden], holds {held}.")
    if unknown := sorted(tensors.keys() - {WEIGHT, BIAS, RESIDUAL}):
        raise ExportError(
            f"{path}: holds {', '.join(unknown)} beside {WEIGHT}, which a head file may not "
            f"({BIAS} and {RESIDUAL} it may). Leave it out if no token vector depends on it."
        )
    activation, residual = _described(path, RESIDUAL in tensors)
    parts = {name: tensor.float() for name, tensor in tensors.items()}
    dense = Dense(
        weight=parts[WEIGHT],
        bias=parts.get(BIAS),
        activation=activation,
        residual=parts.get(RESIDUAL),
        skip=residual and RESIDUAL not in parts,
    )
    return Projection((dense,), source=path.name)


def _described(path: Path, residual: bool) -> tuple[str, bool]:
    """Activation, and whether the input is added: of a Dense module as its config.json says, else neither."""
    beside = path.with_name("config.json")
    config = read_json(beside)
    if not isinstance(config, dict) or "in_features" not in config:
        return "identity", residual
    kind = config.get(ACTIVATION)
    if not isinstance(kind, str) or not kind.startswith("torch.nn."):
        raise ExportError(
            f"{beside}: {ACTIVATION} should be a class of torch.nn, got {kind!r}. Copy {path.name} to "
            f"another folder if nothing follows the linear layer."
        )
    if residual and not config.get(SKIP):
        raise ExportError(f"{path}: holds {RESIDUAL}, of which {beside.name} says nothing ({SKIP}).")
    return kind.rpartition(".")[2].lower(), bool(config.get(SKIP))
