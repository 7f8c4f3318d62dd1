"""What several programs share: loads and stores of single numbers and cells, and the sum that ends MaxSim.

Functions here are compiled into each program that calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from latebolt.kernels.vector.memory import load_scalar, store_integer

load_f32, load_i64, load_u8 = (load_scalar(kind) for kind in ("f32", "i64", "u8"))
load_u16, load_u32, load_i32 = (load_scalar(kind) for kind in ("u16", "u32", "i32"))
store_u8, store_u32, store_i64 = (store_integer(kind) for kind in ("u8", "u32", "i64"))


def inline(function: Callable[..., Any]) -> Any:
    """A function that programs call, made part of each."""
    return njit(inline="always", error_model="numpy", fastmath={"reassoc", "contract"})(function)


@inline
def load_cell(cells: int, wide: int, token: int) -> int:
    """The centroid's number of a token: u16, or u32 when wide."""
    return load_u32(cells + 4 * token) if wide != 0 else load_u16(cells + 2 * token)


def sum_lanes_of(lanes: int, parts: int = 1) -> Any:
    """The sum over used query tokens of the largest of their `parts` lanes."""
    zero = np.float32(0)

    @inline
    def sum_lanes(best: int, used: int) -> Any:
        total = zero
        for lane in range(lanes if used > lanes else used):
            most = load_f32(best + 4 * lane * parts)
            for part in range(1, parts):
                other = load_f32(best + 4 * (lane * parts + part))
                most = other if other > most else most
            total += most
        return total

    return sum_lanes
