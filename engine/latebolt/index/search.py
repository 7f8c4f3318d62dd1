"""The stages of a search as pure functions of arrays: no files, no models, no threads.

Documents are ranked by their centroids alone; the best are scored exactly, more and more of them until
another round brings nothing new into the top k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def top_k(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int64]:
    """Positions of the k best scores, best first; all that equal the k-th are included.

    Ties are settled later, by id, so none of the equals may be lost here.

    Args:
        scores: float32 or float64 [n].
        k: at least 1.
    """
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")]


# Candidates of the first round, at least and a hit wanted. On 5,183 abstracts 64 give the exact nDCG@10.
FIRST_ROUND, PER_HIT = 64, 4

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def refine(
    approximate: Scores, score: Callable[[Rows], Scores], k: int, first_round: int = FIRST_ROUND
) -> tuple[Rows, Scores]:
    """The documents to choose the top k from, and their exact scores.

    Candidates are scored in rounds, in the order of `approximate`, each round as large as all before it,
    until a round leaves the top k as it was.

    Args:
        approximate: float32 [n], a cheap ranking.
        score: exact scores of some positions of it.
        k: hits wanted.
    Returns:
        (positions int64 [m], scores float32 [m]); every document when n is small.
    """
    size = max(first_round, PER_HIT * k)
    if len(approximate) <= 2 * size:
        everything = np.arange(len(approximate))
        return everything, score(everything)
    rows, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
    best: Scores | None = None
    while True:
        wanted = min(size, len(approximate))
        ranked = np.argpartition(-approximate, wanted - 1)[:wanted] if wanted < len(approximate) else None
        candidates = np.arange(len(approximate)) if ranked is None else np.sort(ranked)
        new = np.setdiff1d(candidates, rows, assume_unique=True)
        rows, scores = np.concatenate([rows, new]), np.concatenate([scores, score(new)])
        top = np.sort(scores)[-k:]
        if ranked is None or (best is not None and np.array_equal(top, best)):
            return rows, scores
        best, size = top, 2 * size
