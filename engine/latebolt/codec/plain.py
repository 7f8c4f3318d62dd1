"""Codecs without centroids: float16 (16 bits a dimension) and scalar int8 (8 bits).

float16 is as good as exact; int8 keeps one scale a token. Neither needs training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.codec.base import Columns, ColumnSpec, ExactScorer, bytes_of
from latebolt.kernels.maxsim import maxsim_arrays, maxsim_bytes
from latebolt.kernels.shapes import LEVEL_MOST, LEVEL_ZERO


class Float16Codec:
    """values float16 [n_tokens, dim]."""

    bits = 16

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """One column of float16 values."""
        return (("values", "<f2", self.dim),)

    def encode(self, values: Float32) -> dict[str, npt.NDArray[Any]]:
        """Rounded to float16."""
        return {"values": values.astype(np.float16)}

    def decode(self, columns: Columns) -> Float32:
        """Widened to float32."""
        return np.asarray(columns["values"]).astype(np.float32)

    def scorer(self, query: npt.ArrayLike, threads: int | None = None) -> ExactScorer:
        """See `base.Codec`."""
        return ExactScorer(lambda c, offsets, rows: maxsim_arrays(query, c["values"], offsets, rows, threads))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Nothing is learnt."""
        return {}, {"kind": "float16", "dim": self.dim}

    def bytes_per_token(self) -> float:
        """Two a dimension."""
        return bytes_of(self.columns)


class Int8Codec:
    """values uint8 [n_tokens, dim] in 0..127, scale float32 [n_tokens]: vector = (values - 64) * scale.

    Seven of the eight bits are used, so that no instruction set's 16-bit pair sums can overflow.
    """

    bits = 8

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """Codes and one scale a token."""
        return (("values", "|u1", self.dim), ("scale", "<f4", None))

    def encode(self, values: Float32) -> dict[str, npt.NDArray[Any]]:
        """Symmetric, the largest value of a token at 1 or 127."""
        largest = np.maximum(np.abs(values).max(axis=1, initial=0.0), 1e-30)
        scale = (largest / (LEVEL_MOST - LEVEL_ZERO)).astype(np.float32)
        return {"values": (np.rint(values / scale[:, None]) + LEVEL_ZERO).astype(np.uint8), "scale": scale}

    def decode(self, columns: Columns) -> Float32:
        """(values - 64) * scale."""
        centred = np.asarray(columns["values"]).astype(np.float32) - LEVEL_ZERO
        return np.asarray(centred * np.asarray(columns["scale"])[:, None], np.float32)

    def scorer(self, query: npt.ArrayLike, threads: int | None = None) -> ExactScorer:
        """See `base.Codec`."""
        return ExactScorer(
            lambda c, offsets, rows: maxsim_bytes(query, c["values"], c["scale"], offsets, rows, threads)
        )

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Nothing is learnt."""
        return {}, {"kind": "int8", "dim": self.dim}

    def bytes_per_token(self) -> float:
        """One a dimension and four for the scale."""
        return bytes_of(self.columns)
