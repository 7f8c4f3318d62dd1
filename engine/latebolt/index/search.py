"""The stages of a search as pure functions of arrays: no files, no models, no threads.

Documents are ranked by their centroids alone; the best are scored exactly, more and more of them until
another round brings nothing new into the top k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.index.grouping import best_of_each

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


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


def top_documents(scores: npt.NDArray[np.floating[Any]], documents: Rows | None, k: int) -> Rows:
    """`top_k` of documents by their best scores: positions of these.

    Args:
        documents: int64 [n], which document each score belongs to; None where each is one of its own.
    """
    if documents is None:
        return top_k(scores, k)
    each = best_of_each(scores, documents)
    return each[top_k(scores[each], k)]


def best_scores(scores: Scores, documents: Rows | None, k: int) -> Scores:
    """The k best of documents' best scores, ascending; fewer where there are fewer."""
    return np.sort(scores if documents is None else scores[best_of_each(scores, documents)])[-k:]


# Candidates of the first round, at least and a hit wanted. On 5,183 abstracts 64 give the exact nDCG@10.
FIRST_ROUND, PER_HIT = 64, 4
ROUNDS_AT_ONCE = 8  # so many times the first round is put in order at once: nearly always enough


def refine(
    approximate: Scores,
    score: Callable[[Rows], Scores],
    k: int,
    first_round: int = FIRST_ROUND,
    documents: Rows | None = None,
) -> tuple[Rows, Scores]:
    """The documents to choose the top k from, and their exact scores.

    Candidates are scored in rounds, in the order of `approximate`, each round as large as all before it,
    until a round leaves the top k as it was.

    Args:
        approximate: float32 [n], a cheap ranking.
        score: exact scores of some positions of it.
        k: hits wanted.
        documents: int64 [n], which document each position belongs to; None where each is one of its own.
    Returns:
        (positions int64 [m], scores float32 [m]); every document when n is small.
    """
    size = max(first_round, PER_HIT * k)
    if len(approximate) <= 2 * size:
        everything = np.arange(len(approximate))
        return everything, score(everything)
    order = top_k(approximate, ROUNDS_AT_ONCE * size)  # what `top_k` of more rows begins with, too
    scores = np.zeros(0, np.float32)
    while True:
        wanted = 2 * size  # the first two rounds at once: one alone shows no change
        if wanted > len(order):
            order = top_k(approximate, ROUNDS_AT_ONCE * wanted)
        scores = np.concatenate([scores, score(order[len(scores) : wanted])])
        rows = order[: len(scores)]
        belongs = None if documents is None else documents[rows]
        top = best_scores(scores, belongs, k)
        before = best_scores(scores[:size], None if belongs is None else belongs[:size], k)
        # Many passages of few documents may fill a round: it is no end while it holds too few documents.
        if len(rows) == len(approximate) or (len(top) == k and np.array_equal(top, before)):
            return rows, scores
        size = wanted
