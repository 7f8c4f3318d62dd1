"""Groups the scores of passages by document: the best passage stands for it. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64


def best_of_each(scores: npt.NDArray[np.floating[Any]], documents: Int64 | None) -> Int64:
    """Ascending positions of the best score of each document; of equals the first.

    Args:
        scores: float32 or float64 [n], finite.
        documents: int64 [n], not negative, which document each score belongs to, in any order; None where
            each is a document of its own.
    """
    if documents is None:
        return np.arange(len(scores))
    if len(scores) == 0:
        return np.zeros(0, np.int64)
    # As the rows of a segment do, documents mostly ascend; nothing takes time for those that are not here.
    ascending = bool((documents[1:] >= documents[:-1]).all())
    order = None if ascending else np.argsort(documents, kind="stable")
    if order is not None:
        scores, documents = scores[order], documents[order]
    starts = np.flatnonzero(np.append(True, documents[1:] != documents[:-1]))
    best = np.maximum.reduceat(scores, starts)
    equal = np.flatnonzero(scores == np.repeat(best, np.diff(np.append(starts, len(scores)))))
    positions = equal[np.searchsorted(equal, starts)]
    return positions if order is None else np.sort(order[positions])


def rows_of_documents(passages: npt.NDArray[np.integer[Any]], rows: Int64) -> Int64:
    """Ascending rows of all passages of the documents that some rows belong to.

    Args:
        passages: integers [n_rows], the number of each row's passage within its document, from 0 on.
        rows: int64, rows of `passages`.
    """
    starts = np.flatnonzero(passages == 0)
    documents = np.unique(np.searchsorted(starts, rows, side="right")) - 1
    stops = np.append(starts[1:], len(passages))
    parts = [np.arange(starts[i], stops[i]) for i in documents]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
