"""Ranks one segment for one query: cheap scores of its documents, then exact scores of the best.

Joins the pure stages of `search.py` and `candidates.py` with a segment's columns and a codec's scorer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Columns, Scorer
from latebolt.index.candidates import choose, plan_probes
from latebolt.index.search import Rows, Scores, best_scores, refine, top_documents
from latebolt.index.segment import Segment

# The first round by lists: centroids a query token, candidates at least and a hit wanted. Each further round
# doubles them.
FIRST_PROBES: Final = 8
FIRST_CANDIDATES, CANDIDATES_A_HIT = 4096, 32
# What an entry of a list costs, in tokens of the pass over all documents: lists serve while that is less.
TOKENS_AN_ENTRY: Final = 4


def best_rows(
    segment: Segment, scorer: Scorer, rows: Rows | None, k: int, exhaustive: bool
) -> tuple[Rows, Scores]:
    """A segment's rows that may be among the k best, best first, and their scores.

    Of a document that was cut into passages the best one stands for it, and k counts documents.

    Args:
        rows: int64, ascending, those that may be found; None for all.
        exhaustive: score all of them exactly.
    """
    columns = {column.name: segment.column(column.name) for column in segment.columns}
    found: tuple[Rows | None, Scores] | None = None
    if exhaustive:
        found = rows, scorer.exact(columns, segment.offsets, rows)
    elif segment.lists is not None:
        found = _by_lists(segment, scorer, columns, rows, k)
    if found is None:
        found = _refined(segment, scorer, columns, rows, k)[:2]
    candidates, scores = found
    best = top_documents(scores, segment.first_rows(candidates), k)
    return best if candidates is None else candidates[best], scores[best]


def _refined(
    segment: Segment, scorer: Scorer, columns: Columns, rows: Rows | None, k: int
) -> tuple[Rows | None, Scores, float]:
    """(rows scored exactly, None for all; their scores; the least score by centroids among them)."""
    approximate = scorer.approximate(columns, segment.offsets, rows)
    if approximate is None:
        return rows, scorer.exact(columns, segment.offsets, rows), -np.inf

    def score(positions: Rows) -> Scores:
        chosen = positions if rows is None else rows[positions]
        return scorer.exact(columns, segment.offsets, chosen)

    positions, scores = refine(approximate, score, k, documents=segment.first_rows(rows))
    least = float(approximate[positions].min(initial=np.inf))
    return positions if rows is None else rows[positions], scores, least


def _by_lists(
    segment: Segment, scorer: Scorer, columns: Columns, rows: Rows | None, k: int
) -> tuple[Rows | None, Scores] | None:
    """Rows found through the segment's lists and their exact scores; None where ranking all is cheaper.

    Rounds visit more lists and keep more candidates, until nothing left out can rank before what was scored
    exactly, or a round leaves the top k as it was.
    """
    lists, scores = segment.lists, scorer.centroids
    if lists is None or scores is None:
        return None
    allowed, n_tokens = _allowed(segment, rows)
    n_probes, wanted = FIRST_PROBES, max(FIRST_CANDIDATES, CANDIDATES_A_HIT * k)
    best: Scores | None = None
    while True:
        probes = plan_probes(scores, lists.offsets, n_probes)
        if probes.n_entries * TOKENS_AN_ENTRY >= n_tokens:
            return None
        chosen, bound = choose(probes, lists, scores, wanted, allowed, scorer.threads)
        found, exact, least = _refined(segment, scorer, columns, chosen, k)
        top = best_scores(exact, segment.first_rows(found), k)
        if len(top) == k and (least >= bound or (best is not None and np.array_equal(top, best))):
            return found, exact
        best, n_probes, wanted = top, 2 * n_probes, 2 * wanted


def _allowed(segment: Segment, rows: Rows | None) -> tuple[npt.NDArray[np.bool_] | int, int]:
    """(the rows as `candidates.choose` wants them, tokens they have in all)."""
    if rows is None:
        return segment.n_documents, segment.n_tokens
    allowed = np.zeros(segment.n_documents, np.bool_)
    allowed[rows] = True
    return allowed, int((segment.offsets[rows + 1] - segment.offsets[rows]).sum())
