"""The smallest program for a GPU: doubles numbers. Imports numba.cuda, so it is itself imported in `probe` alone."""

from __future__ import annotations

from typing import Any

from numba import cuda


@cuda.jit  # type: ignore[untyped-decorator]
def double(values: Any) -> None:
    """Twice every value, in place; values: int32 [n] on the device."""
    i = cuda.grid(1)
    if i < values.size:
        values[i] *= 2
