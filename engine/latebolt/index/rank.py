"""Ranks one segment for one query: cheap scores of its documents, then exact scores of the best.

Joins the pure stages of `search.py` and `candidates.py` with a segment's columns and a codec's scorer.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Columns, Scorer
from latebolt.index.candidates import plan_probes, visit
from latebolt.index.explain import Watch
from latebolt.index.search import FIRST_ROUND, Rows, Scores, best_scores, refine, top_documents
from latebolt.index.segment import Segment

# By lists: centroids a query token in the first round, candidates at least and a hit wanted, and how many
# times as many are looked at where that settles the answer. 32 settle three of four queries over a million
# simulated passages without another round, in a sample of 60.
FIRST_PROBES: Final = 32
CANDIDATES_A_HIT, MOST_TIMES = 32, 16
# Of n documents sqrt(n) / DEPTH_SHARE candidates are scored exactly at first, and as many again. So many
# times as many are ranked by centroids. Among ten million a document of the top ten may stand at the 800th
# place of these, and scoring a thousand costs little beside finding them.
DEPTH_SHARE, CANDIDATES_A_DEPTH = 6, 16
# What an entry of a list and a document cost, in tokens of the pass over all: lists serve while that is less.
TOKENS_AN_ENTRY, TOKENS_A_DOCUMENT = 8, 2


def best_rows(
    segment: Segment, scorer: Scorer, rows: Rows | None, k: int, exhaustive: bool, watch: Watch
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
        found = _by_lists(segment, scorer, columns, rows, k, watch)
    if found is None:
        found = _refined(segment, scorer, columns, rows, k)[:2]
    candidates, scores = found
    segment.check_finite(scores)
    best = top_documents(scores, segment.first_rows(candidates), k)
    return best if candidates is None else candidates[best], scores[best]


def _refined(
    segment: Segment,
    scorer: Scorer,
    columns: Columns,
    rows: Rows | None,
    k: int,
    first_round: int = FIRST_ROUND,
) -> tuple[Rows | None, Scores, float]:
    """(rows scored exactly, None for all; their scores; the least score by centroids among them)."""
    approximate = scorer.approximate(columns, segment.offsets, rows)
    if approximate is None:
        return rows, scorer.exact(columns, segment.offsets, rows), -np.inf

    def score(positions: Rows) -> Scores:
        chosen = positions if rows is None else rows[positions]
        return scorer.exact(columns, segment.offsets, chosen)

    positions, scores = refine(approximate, score, k, first_round, segment.first_rows(rows))
    least = float(approximate[positions].min(initial=np.inf))
    return positions if rows is None else rows[positions], scores, least


def _by_lists(
    segment: Segment, scorer: Scorer, columns: Columns, rows: Rows | None, k: int, watch: Watch
) -> tuple[Rows | None, Scores] | None:
    """Rows found through the segment's lists and their exact scores; None where ranking all is cheaper.

    Nothing left out could rank before what was scored exactly; or, where that would take too many candidates,
    a round with twice the probes left the top k as it was.
    """
    lists, scores = segment.lists, scorer.centroids
    if lists is None or scores is None:
        return None
    allowed, n_tokens = _allowed(segment, rows)
    depth = max(FIRST_ROUND, math.isqrt(segment.n_documents) // DEPTH_SHARE)
    n_probes, wanted = FIRST_PROBES, max(CANDIDATES_A_DEPTH * depth, CANDIDATES_A_HIT * k)
    best: Scores | None = None
    while True:
        probes = plan_probes(scores, lists.offsets, n_probes)
        cost = TOKENS_AN_ENTRY * probes.n_entries + TOKENS_A_DOCUMENT * segment.n_documents
        if cost >= n_tokens or n_probes >= len(lists.offsets) - 1:  # dearer than ranking all, or all lists
            return None
        with watch.stage("choose by lists"):
            gains = visit(probes, lists, scores, allowed, scorer.threads)
            least = gains.best(wanted)
            chosen = gains.rows(least)
        watch.count("choose by lists", len(chosen))
        found, exact, score = _refined(segment, scorer, columns, chosen, k, depth)
        top = best_scores(exact, segment.first_rows(found), k)
        if len(top) == k:
            needed = gains.needed(score)
            if needed >= least or (best is not None and np.array_equal(top, best)):
                return found, exact
            if needed > 0 and gains.at_least(needed) <= MOST_TIMES * wanted:
                return _refined(segment, scorer, columns, gains.rows(needed), k, depth)[:2]
        best, n_probes = top, 2 * n_probes


def _allowed(segment: Segment, rows: Rows | None) -> tuple[npt.NDArray[np.bool_] | int, int]:
    """(the rows as `candidates.visit` wants them, tokens they have in all)."""
    if rows is None:
        return segment.n_documents, segment.n_tokens
    allowed = np.zeros(segment.n_documents, np.bool_)
    allowed[rows] = True
    return allowed, int((segment.offsets[rows + 1] - segment.offsets[rows]).sum())
