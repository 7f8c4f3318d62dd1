"""What a first stage is: vectors of a document and of a query that an index of single vectors compares. Two
that need no fitting are here: the mean of the token vectors, and some pooled ones.

`adapters.stages.learned` has one that is fitted to a corpus; `adapters.stages.record` writes all down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latebolt.arrays import Float32
from latebolt.encoder.pooling import pool_tokens
from latebolt.errors import InvalidInput

POOL_FACTOR: Final = 8
MOST_POOLED: Final = 1024  # a factor above would keep one vector of any document


class Stage(ABC):
    """A first stage.

    Attributes:
        kind: "mean", "pooled" or "learned".
        size: values of one of its vectors.
        is_multi: a document has several, compared by MaxSim.
        is_cosine: they are compared by their angle; else by their dot product, with its length.
    """

    kind: str
    size: int
    is_multi = False
    is_cosine = True

    @property
    def name(self) -> str:
        """What tells it apart from any other stage that gives other vectors."""
        return self.kind

    @abstractmethod
    def of_documents(self, matrices: Sequence[Float32]) -> list[Float32]:
        """Of token vectors, float32 [n >= 1, dim] each: [size], or [n, size] where it `is_multi`."""

    @abstractmethod
    def of_query(self, matrix: Float32) -> Float32:
        """Of a query's token vectors, float32 [n >= 1, dim]: [size], or [n, size]."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What it is, as JSON values."""


@dataclass(frozen=True)
class MeanStage(Stage):
    """The mean of the token vectors, of a document as of a query."""

    size: int
    kind = "mean"

    def of_documents(self, matrices: Sequence[Float32]) -> list[Float32]:
        """See `Stage`."""
        return [self.of_query(matrix) for matrix in matrices]

    def of_query(self, matrix: Float32) -> Float32:
        """See `Stage`."""
        return np.asarray(matrix.mean(axis=0, dtype=np.float32))

    def record(self) -> dict[str, Any]:
        """See `Stage`."""
        return {"kind": self.kind}


@dataclass(frozen=True)
class PooledStage(Stage):
    """A document's token vectors, clustered to 1 / factor as many; of a query, all.

    Args:
        factor: 2 to 1,024; a document keeps one vector at least.
    """

    size: int
    factor: int = POOL_FACTOR
    kind = "pooled"
    is_multi = True

    def __post_init__(self) -> None:
        factor = self.factor
        if isinstance(factor, bool) or not isinstance(factor, int) or not 2 <= factor <= MOST_POOLED:
            raise InvalidInput(
                f"the factor of a pooled first stage should be 2 to {MOST_POOLED}, got {factor!r}."
            )

    @property
    def name(self) -> str:
        """See `Stage`; the factor of 8 was once the only one."""
        return self.kind if self.factor == POOL_FACTOR else f"{self.kind}/{self.factor}"

    def of_documents(self, matrices: Sequence[Float32]) -> list[Float32]:
        """See `Stage`."""
        return [pool_tokens(np.ascontiguousarray(matrix), self.factor, 0) for matrix in matrices]

    def of_query(self, matrix: Float32) -> Float32:
        """See `Stage`."""
        return matrix

    def record(self) -> dict[str, Any]:
        """See `Stage`."""
        return {"kind": self.kind, "factor": self.factor}
