"""An encoder whose texts share runs as on GPUs, on the CPU, for tests where there is none."""

from __future__ import annotations

from dataclasses import replace

from latebolt import Encoder
from latebolt.devices import Device
from latebolt.encoder.model import Model


def as_gpus(encoder: Encoder, n: int = 1) -> Encoder:
    """The encoder with a model of its own, which shares runs on so many devices, all of them the CPU."""
    model = Model(encoder.folder, encoder.precision, tuple(Device("cpu", i) for i in range(n)))
    model.shares_runs = True
    return replace(encoder, _model=model)
