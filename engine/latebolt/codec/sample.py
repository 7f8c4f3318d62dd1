"""`Sample`: token vectors that lie in many arrays, such as one a document, read as one without copying all.

What a codec is learnt from is some 100 MB; whoever drew it holds it already, where it was encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from latebolt.arrays import Bool, Float32, Int64


class Sample:
    """Vectors [n, dim] in parts.

    Args:
        parts: float32 [n_i, dim] each, of which no copy is made.
        dim: width, for a sample of no parts.
    """

    def __init__(self, parts: Sequence[Float32], dim: int) -> None:
        self._parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)
        self.shape = (int(self._ends[-1]) if len(self._ends) else 0, dim)

    @classmethod
    def of(cls, values: Float32 | Sample) -> Sample:
        """One array as a sample; a sample as it is."""
        return values if isinstance(values, Sample) else cls([values], values.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Int64) -> Float32:
        """Float32 [len(rows), dim]: a copy of some vectors, in the order of `rows`."""
        taken = np.empty((len(rows), self.shape[1]), np.float32)
        part_of = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(part_of, kind="stable")
        used, first = np.unique(part_of[order], return_index=True)
        stops = [*first[1:].tolist(), len(rows)]
        for i, a, b in zip(used.tolist(), first.tolist(), stops, strict=len(rows) > 0):
            places, start = order[a:b], int(self._ends[i]) - len(self._parts[i])
            taken[places] = self._parts[i][rows[places] - start]
        return taken

    def blocks(self, size: int, rows: Int64 | None = None) -> Iterator[Float32]:
        """Copies of `size` vectors after another, the last of fewer: of `rows`, or of all."""
        chosen = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(chosen), size):
            yield self.take(chosen[start : start + size])

    def where(self, wanted: Callable[[Float32], Bool], size: int) -> Sample:
        """The vectors for which `wanted`, asked of `size` at a time, says yes. A part is often one document,
        too little for several threads."""
        return Sample([block[wanted(block)] for block in self.blocks(size)], self.shape[1])
