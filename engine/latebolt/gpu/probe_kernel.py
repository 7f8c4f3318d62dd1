"""The smallest program for a GPU: doubles numbers. Imports numba.cuda, so `probe` alone imports it."""

from __future__ import annotations

from typing import Any

from numba import cuda


@cuda.jit  # type: ignore[untyped-decorator]
def double(values: Any) -> None:
    """Twice every value, in place; values: int32 [n] on the device."""
    i = cuda.grid(1)  # type: ignore[attr-defined]
    if i < values.size:
        values[i] *= 2
