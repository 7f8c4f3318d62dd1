"""Reads tensors from a checkpoint's weight files, safetensors or `pytorch_model.bin`.

A `.bin` file is read with `weights_only=True`: no code inside a checkpoint is ever run.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from latebolt.errors import ExportError
from latebolt.formats.settings_file import SettingsFile

if TYPE_CHECKING:
    import torch

SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

_LARGE = 1 << 28  # bytes
_ROWS = 16384  # hashed at a time: a large table need not be in memory as float32


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the folder's weight files by name, in the dtype stored there.

    Raises:
        ExportError: there is no weight file, or one is truncated or not what its name says.
    """
    for name in (SAFE, PICKLED):
        if (folder / name).is_file():
            return read_tensors(folder / name)
    for name in (SAFE_INDEX, PICKLED_INDEX):
        if (folder / name).is_file():
            state: dict[str, torch.Tensor] = {}
            for part in sorted(set(SettingsFile(folder / name).texts_by_name("weight_map").values())):
                state |= read_tensors(folder / Path(part).name)  # a part lies beside its index
            return state
    raise ExportError(f"{folder}: has no {SAFE} and no {PICKLED}. Download the checkpoint's weights.")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file; its suffix decides how it is read.

    Raises:
        ExportError: the file is missing, truncated, or holds something else than tensors.
    """
    import torch
    from safetensors import SafetensorError

    try:
        if path.suffix == ".safetensors":
            return _mapped(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: there is no such weight file. Download it again.") from error
    # A damaged pickle shows as any of these, depending on where it was cut.
    except (SafetensorError, OSError, EOFError, ValueError, RuntimeError, KeyError) as error:
        raise ExportError(f"{path}: {_first_line(error)}. The file is damaged; download it again.") from error
    except pickle.UnpicklingError as error:  # refused by weights_only, or not a pickle at all
        raise ExportError(
            f"{path}: {_first_line(error)}. Only plain tensors are read; convert it to safetensors."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ExportError(f"{path}: should hold named tensors only. Convert it to safetensors.")
    return state


def _mapped(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file, mapped into memory; a large one apart from the others.

    A mapping is kept whole while any of its tensors is in use, and a word table outlives the others.
    """
    from safetensors import safe_open

    state = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (the file is no mapping)
            state[name] = file.get_tensor(name)
    for name, tensor in state.items():
        if tensor.nbytes >= _LARGE:
            with safe_open(path, framework="pt") as own:
                state[name] = own.get_tensor(name)
    return state


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Hex digest over names, shapes and float32 values, in name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        for rows in tensor.split(_ROWS) if tensor.ndim else [tensor]:
            digest.update(rows.float().contiguous().numpy().data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
