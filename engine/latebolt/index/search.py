"""The stages of a search as pure functions of arrays: no files, no models, no threads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def top_k(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Positions of the k best scores, best first; all that equal the k-th are included.

    Ties are settled later, by id, so none of the equals may be lost here.

    Args:
        scores: float32 [n].
        k: at least 1.
    """
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")]
