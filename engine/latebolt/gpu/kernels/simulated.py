"""What `ptx` has as instructions, in Python for numba's simulator: the definition that tests hold kernels to.

A warp's threads meet at a board, where each lays down what the others may read.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.cuda.simulator.kernel import _get_kernel_context

_BYTE, _WORD = 0xFF, 0xFFFFFFFF


def _bytes(word: int) -> list[int]:
    return [int(word) >> 8 * i & _BYTE for i in range(4)]


def _permuted(low: int, high: int, chosen: int) -> int:
    """PTX's prmt.b32: byte i of the result is that of (high, low) which nibble i numbers; its highest bit
    asks for the byte's sign in all eight bits."""
    source = _bytes(low) + _bytes(high)
    word = 0
    for i in range(4):
        nibble = int(chosen) >> 4 * i & 15
        byte = source[nibble & 7]
        if nibble & 8:
            byte = _BYTE if byte & 128 else 0
        word |= byte << 8 * i
    return word


def words(pair: int) -> tuple[int, int]:
    """The low and the high word of 64 bits."""
    return int(pair) & _WORD, int(pair) >> 32 & _WORD


def four(words: Any, first: int) -> tuple[int, ...]:
    """Four words of an array from the place `first` on, a multiple of four; nobody writes to them."""
    return tuple(int(words[first + i]) for i in range(4))


def halves(word: int) -> tuple[np.float32, np.float32]:
    """The low and the high 16 bits, as signed numbers, in float32."""
    low, high = int(word) & 0xFFFF, int(word) >> 16 & 0xFFFF
    return np.float32(low - (low >> 15 << 16)), np.float32(high - (high >> 15 << 16))


def unpack1(codes: int, a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    """Levels of 32 codes of a bit; `a` holds the levels."""
    some = [int(codes) >> i & 0x11111111 for i in range(4)]
    return tuple(_permuted(a, 0, each >> shift) for each in some for shift in (0, 16))


def unpack2(codes: int, a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    """Levels of 16 codes of 2 bits; `a` holds the levels."""
    some = [int(codes) >> i & 0x33333333 for i in (0, 2)]
    return tuple(_permuted(a, 0, each >> shift) for each in some for shift in (0, 16))


def unpack4(codes: int, a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    """Levels of 8 codes of 4 bits; a, b, c and d hold four levels each."""
    found = []
    for shift in (0, 16):
        low = int(codes) >> shift & 0x7777
        high = int(codes) >> shift & 0x8888
        upper = _permuted(0x8000, 0, high | high >> 3)
        found.append(_permuted(a, b, low) & ~upper | _permuted(c, d, low) & upper)
    return tuple(found)


def mma(
    a0: int, a1: int, a2: int, a3: int, b0: int, b1: int, c0: int, c1: int, c2: int, c3: int
) -> tuple[int, int, int, int]:
    """PTX's mma.m16n8k32.s32.s8.s8.s32 of a warp: c + a b, a of 16 rows, b of 8 columns.

    Thread 4 g + t holds of `a` rows g (a0, a2) and g + 8 (a1, a3), bytes 4 t .. 4 t + 3 (a0, a1) and those 16
    behind (a2, a3); of `b` the same bytes (b0, b1) of column g; of the sums columns 2 t and 2 t + 1 of row g
    (c0, c1) and of row g + 8 (c2, c3).
    """
    board, lane = _meet((a0, a1, a2, a3, b0, b1))
    with _lock:  # the first of the warp multiplies for all
        if board.product is None:
            board.product = _product(board.brought)
    row, column = lane // 4, lane % 4 * 2
    upper, lower = board.product[row], board.product[row + 8]
    return (
        int(c0) + int(upper[column]),
        int(c1) + int(upper[column + 1]),
        int(c2) + int(lower[column]),
        int(c3) + int(lower[column + 1]),
    )


def _product(brought: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Int64 [16, 8] of the operands that a warp's threads hold."""
    words = np.array([[int(word) & _WORD for word in each] for each in brought], np.uint32)
    per_thread = words.reshape(8, 4, 6)  # row or column, bytes, operand
    rows, columns = np.zeros((16, 8), np.uint32), np.zeros((8, 8), np.uint32)
    for operand, (first, at) in enumerate([(0, 0), (8, 0), (0, 4), (8, 4)]):
        rows[first : first + 8, at : at + 4] = per_thread[:, :, operand]
    for operand, at in ((4, 0), (5, 4)):
        columns[:, at : at + 4] = per_thread[:, :, operand]
    left, right = rows.view(np.int8).astype(np.int64), columns.view(np.int8).astype(np.int64)
    return left @ right.T


def group_max(value: np.float32) -> np.float32:
    """The largest of the eight threads whose numbers in the warp are alike modulo 4."""
    board, lane = _meet(value)
    return max(board.brought[lane % 4 :: 4])


def quad_sum(value: np.float32) -> np.float32:
    """The sum of four neighbouring threads, in the order in which shuffles add."""
    board, lane = _meet(value)
    return _sum_of_pairs(board.brought[lane // 4 * 4 : lane // 4 * 4 + 4])


def warp_sum(value: np.float32) -> np.float32:
    """The sum of a warp, in the order in which shuffles add."""
    return _sum_of_pairs(_meet(value)[0].brought)


def _sum_of_pairs(values: Sequence[np.float32]) -> np.float32:
    while len(values) > 1:
        values = [np.float32(a + b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


class _Board:
    """What each thread of a warp brought, and the product of it once one has asked."""

    def __init__(self) -> None:
        self.brought: list[Any] = [None] * 32
        self.product: Any = None


_lock = threading.Lock()
_boards: dict[tuple[Any, ...], _Board] = {}


def _meet(value: Any) -> tuple[_Board, int]:
    """What each thread of this warp brought, and which of them this one is.

    Two boards take turns: whoever writes to one has met all others at the next since they read it.
    """
    thread: Any = threading.current_thread()
    turn = thread.turn = getattr(thread, "turn", 0) + 1
    number, lane = divmod(thread.thread_id, 32)
    board = _boards.setdefault((*thread.blockIdx, number, turn % 2), _Board())
    board.brought[lane], board.product = value, None
    _get_kernel_context().syncthreads()
    return board, lane
