"""Ranks one segment for one query: cheap scores of its documents, then exact scores of the best.

Joins the pure stages of `search.py` with a segment's columns and a codec's scorer.
"""

from __future__ import annotations

from latebolt.codec.base import Scorer
from latebolt.index.search import Rows, Scores, refine, top_k
from latebolt.index.segment import Segment


def best_rows(
    segment: Segment, scorer: Scorer, rows: Rows | None, k: int, exhaustive: bool
) -> tuple[Rows, Scores]:
    """A segment's rows that may be among the k best, best first, and their scores."""
    columns = {column.name: segment.column(column.name) for column in segment.columns}
    approximate = None if exhaustive else scorer.approximate(columns, segment.offsets, rows)
    if approximate is None:
        candidates, scores = rows, scorer.exact(columns, segment.offsets, rows)
    else:

        def score(positions: Rows) -> Scores:
            chosen = positions if rows is None else rows[positions]
            return scorer.exact(columns, segment.offsets, chosen)

        positions, scores = refine(approximate, score, k)
        candidates = positions if rows is None else rows[positions]
    best = top_k(scores, k)
    return best if candidates is None else candidates[best], scores[best]
