"""Runs a float32 graph on texts and keeps what enters its MatMuls: the evidence that smoothing decides by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from latebolt_export.graph import tensors

ROWS = 16  # token rows kept of each text and tensor: the first, whose outliers are the worst, and spread ones


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of one tensor over all texts."""

    rows: np.ndarray  # float32 [rows, channels]
    weight: np.ndarray  # float32 [rows], how many token rows each stands for
    text: np.ndarray  # int [rows]
    low: np.ndarray  # float32 [texts, channels]
    high: np.ndarray  # float32 [texts, channels]


def observe(
    model: onnx.ModelProto, texts: Sequence[np.ndarray], names: Sequence[str], folder: Path
) -> dict[str, Activations]:
    """What the tensors of these names hold.

    Args:
        model: a working graph; left as it is.
        texts: token ids, int64 [tokens] each; run one by one, as the int8 graph will be.
        folder: takes a small file for a moment.
    """
    known = list(model.graph.output)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    try:
        session = tensors.open_session(model, folder)
    finally:
        del model.graph.output[:]
        model.graph.output.extend(known)
    kept: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in names}
    for number, ids in enumerate(texts):
        feed = {"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])}
        pick = np.unique(np.linspace(0, len(ids) - 1, min(ROWS, len(ids))).round().astype(int))
        share = np.full(len(pick), (len(ids) - 1) / max(1, len(pick) - 1), np.float32)
        share[0] = 1  # the first token stands for itself only
        for name, value in zip(names, session.run(list(names), feed), strict=True):
            rows = value[0]
            text = np.full(len(pick), number)
            kept[name].append((rows[pick], share, text, rows.min(0)[None], rows.max(0)[None]))
    del session
    # Taken out as they are joined, so that not all are held twice.
    return {name: Activations(*map(np.concatenate, zip(*kept.pop(name), strict=True))) for name in names}
