"""What a contender is: how it builds, how it answers, with which settings, and what memory it needs.

Loads nothing but NumPy: children run in environments that have a contender's package and little else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Setting = Mapping[str, Any]
# Queries, float32 [n_query, dim] each; k; a setting's values -> numbers of documents, the best first.
Search = Callable[[Sequence[np.ndarray], int, Setting], list[list[int]]]


class Documents:
    """The documents' token vectors in a folder, or the first so many documents of them.

    documents.npy, float16 or float32 [n_tokens, dim], or documents.f16, float16 without a header, either
    mapped; offsets.npy, int64 [n_documents + 1]; and, for who wants them, token_ids.npy, the vocabulary
    id of each token as uint32 or int64 [n_tokens].
    """

    def __init__(self, folder: Path, first: int | None = None) -> None:
        self.folder, self.first = folder, first
        offsets: np.ndarray = np.load(folder / "offsets.npy")
        if (folder / "documents.npy").exists():
            values: np.ndarray = np.load(folder / "documents.npy", mmap_mode="r")
        else:
            flat = np.memmap(folder / "documents.f16", np.float16, "r")
            values = flat[: len(flat) // offsets[-1] * offsets[-1]].reshape(offsets[-1], -1)
        if values.ndim != 2 or values.shape[1] == 0 or (offsets[0], offsets[-1]) != (0, len(values)):
            raise SystemExit(
                f"{folder}: offsets.npy should begin with 0 and end with the {len(values)} rows of the "
                f"documents' vectors, got {offsets[0]} and {offsets[-1]}."
            )
        ids = folder / "token_ids.npy"
        self.ids: np.ndarray | None = np.load(ids, mmap_mode="r") if ids.exists() else None
        if self.ids is not None and self.ids.shape != (len(values),):
            raise SystemExit(f"{ids}: should hold one id for each of {len(values)} rows.")
        self.offsets = offsets[: None if first is None else first + 1]
        self.values = values[: self.offsets[-1]]
        if self.ids is not None:
            self.ids = self.ids[: self.offsets[-1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        """Rows of all documents."""
        return len(self.values)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.values.shape[1])

    def each(self) -> Iterator[np.ndarray]:
        """Float32 [n, dim] of one document after the other; copies."""
        yield from (np.array(self.values[a:b], np.float32) for a, b in pairwise(self.offsets))


def a_token(n_bytes: float, base: float = 0.3e9) -> Callable[[int], float]:
    """Memory of so many bytes a token beside `base`, which a process has anyway."""
    return lambda n_tokens: base + n_bytes * n_tokens


@dataclass(frozen=True)
class Contender:
    """One library, as it is compared.

    Args:
        package: what is imported of it; empty for ours, which run where this does.
        settings: what is swept, values by a name; the first is its default.
        build: writes an index of the documents into a folder, on so many threads; None where there is none to
            write, and documents.npy is what a search begins with.
        open: the search over what was built.
        building, searching: bytes of its own that a step needs at most for so many tokens, without pages of
            mapped files; measured by `peers.py`, whose rows tell them, and rounded up.
        needs_ids: whether the vocabulary id of each token is needed.
        slow: whether building takes many minutes, so that it takes part where it is asked for by name.
    """

    name: str
    package: str
    settings: Mapping[str, Setting]
    build: Callable[[Documents, Path, int], None] | None
    open: Callable[[Documents, Path, int], Search]
    building: Callable[[int], float]
    searching: Callable[[int], float]
    needs_ids: bool = False
    slow: bool = False
    versions: tuple[str, ...] = field(default=())

    def refusal(self, documents: Documents, memory: float) -> str | None:
        """Why it cannot take part over these documents with so many bytes of memory; None where it can."""
        if self.needs_ids and documents.ids is None:
            return "needs token_ids.npy, the vocabulary id of each token"
        n = documents.n_tokens
        steps = {"building": self.building(n) if self.build else 0.0, "searching": self.searching(n)}
        step, need = max(steps.items(), key=lambda pair: pair[1])
        if need > memory:
            return f"{step} needs about {need / 1e9:.1f} GB of memory, where {memory / 1e9:.1f} GB are free"
        return None
