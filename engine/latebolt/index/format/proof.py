"""Proves that numbers read from an index's files stay in range, before anything indexes by them.

Kernels and NumPy follow offsets, passages and numbers of centroids wherever they point, so each file of them
is read once, whole, at the latest before its first use. What was proved is remembered by the file's identity:
opening an index again in the same process proves nothing twice. (Cutting numbers to their range inside the
kernels takes 3 to 13 % of a search's time, every time; a proof takes 0.03 ms a million tokens, once.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt import threads
from latebolt.arrays import Int64
from latebolt.errors import IndexCorrupt
from latebolt.index.format.mmap_array import RESTORE, Mapped

_BLOCK: Final = 1 << 20  # numbers looked at at a time: bounds the temporaries
_NS_A_CELL: Final = 0.05  # about, on one thread
_KEPT: Final = 1 << 14  # files remembered; all are forgotten when there are more
_proved: set[Hashable] = set()


def _once(mapped: Mapped, limit: int, prove: Callable[[], None]) -> None:
    key = mapped.identity, limit
    if key in _proved:
        return
    prove()
    if mapped.settled:
        if len(_proved) >= _KEPT:
            _proved.clear()
        _proved.add(key)


def prove_offsets(path: Path, mapped: Mapped, last: int) -> None:
    """Raise IndexCorrupt unless offsets, of documents or lists, ascend from 0 to `last`."""
    _once(mapped, last, lambda: check_offsets(path, mapped.array, last))


def prove_passages(path: Path, mapped: Mapped) -> None:
    """Raise IndexCorrupt unless passages are counted from 0, one after the other, in each document."""
    _once(mapped, 0, lambda: check_passages(path, mapped.array))


def prove_cells(path: Path, mapped: Mapped, n_centroids: int) -> None:
    """Raise IndexCorrupt unless every token has a centroid that its codec has."""
    _once(mapped, n_centroids, lambda: _check_cells(path, mapped.array, n_centroids))


def check_offsets(path: Path, offsets: Int64, last: int, fix: str = RESTORE) -> None:
    """See `prove_offsets`; reads them in any case."""
    ends = tuple(offsets[[0, -1]].tolist()) if len(offsets) else ()
    if ends != (0, last):
        raise IndexCorrupt(path, "first and last", f"0 and {last}", " and ".join(map(str, ends)), fix)
    for start in range(0, len(offsets), _BLOCK):
        part = offsets[start : start + _BLOCK + 1]
        wrong = part[1:] < part[:-1]
        if wrong.any():
            row = start + int(np.argmax(wrong))
            field = f"{path.stem}[{row + 1}]"
            raise IndexCorrupt(path, field, f"at least {offsets[row]}", offsets[row + 1], fix)


def check_passages(path: Path, numbers: npt.NDArray[Any], fix: str = RESTORE) -> None:
    """See `prove_passages`; reads them in any case."""
    for start in range(0, len(numbers), _BLOCK):
        part = numbers[start : start + _BLOCK].astype(np.int64)
        before = int(numbers[start - 1]) if start else -1
        following = np.concatenate([[before], part[:-1]]) + 1
        wrong = (part != 0) & (part != following)
        if wrong.any():
            row = int(np.argmax(wrong))
            expected = f"0 or {following[row]}" if following[row] else "0"
            raise IndexCorrupt(path, f"passages[{start + row}]", expected, part[row], fix)


def _check_cells(path: Path, cells: npt.NDArray[Any], n_centroids: int) -> None:
    worst: list[int] = []

    def look(first: int, last: int) -> None:
        worst.append(int(cells[first * _BLOCK : last * _BLOCK].max(initial=0)))

    threads.run(np.arange(-(-len(cells) // _BLOCK) + 1), _BLOCK * _NS_A_CELL, look)
    if max(worst, default=0) < n_centroids or not len(cells):
        return
    token = next(
        start + int(np.argmax(part >= n_centroids))
        for start in range(0, len(cells), _BLOCK)
        if ((part := cells[start : start + _BLOCK]) >= n_centroids).any()
    )
    raise IndexCorrupt(path, f"{path.stem}[{token}]", f"below {n_centroids}", cells[token], RESTORE)
