"""Joins the two scores of a document, by late interaction and by words, into one. Pure.

The sum of the mean cosine of the query's tokens and a fifth of the share of BM25's ceiling. Candidates are
the best of each ranking, and both scores of every candidate are exact. On squad, cosqa and pubmedqa, from
which the fifth was chosen, nDCG@10 is 0.004, 0.003 and 0.001 above late interaction alone
(benchmarks/hybrid.py); reciprocal rank fusion of the same rankings, the usual choice, is 0.015, 0.094 and
0.006 below it, because it gives the weaker ranking half the say.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from latebolt.errors import InvalidInput

Mode = Literal["late", "bm25", "hybrid"]
MODES: Final = ("late", "bm25", "hybrid")
DEPTH: Final = 100  # candidates of each ranking, at least
WORDS_WEIGHT: Final = 0.2


def check_mode(mode: str) -> None:
    """Raise InvalidInput unless it is one of MODES."""
    if mode not in MODES:
        raise InvalidInput(f"mode should be one of {', '.join(MODES)}, got {mode!r}.")


def fuse(
    late: npt.NDArray[np.float32], n_query: int, words: npt.NDArray[np.float64], ceiling: float
) -> npt.NDArray[np.float64]:
    """One score a document.

    Args:
        late: float32 [n], MaxSim of unit vectors.
        n_query: token vectors of the query.
        words: float64 [n], BM25.
        ceiling: what BM25 stays below; 0 for a query without words.
    Returns:
        float64 [n], between -1 and 1 + WORDS_WEIGHT.
    """
    share = words / ceiling if ceiling else words
    return np.asarray(late / max(n_query, 1) + WORDS_WEIGHT * share, np.float64)
