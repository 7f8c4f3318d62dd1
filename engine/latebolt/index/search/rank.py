"""Ranks one segment for one query: everything exactly, or cheap scores first and exact scores of the best.

Joins the pure stages of `planning.py`, `stages.py` and `candidates.py` with a segment's columns and a codec's
scorer.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Columns, Scorer
from latebolt.index.search import planning
from latebolt.index.search.candidates import plan_probes, visit
from latebolt.index.search.explain import Trace
from latebolt.index.search.planning import Effort, Work, decide, effort, expected_documents, least_documents
from latebolt.index.search.stages import Refined, Rows, Scores, best_scores, refine, top_documents
from latebolt.index.store.segment import Segment

# By lists: centroids a query token in the first round, candidates a document that is scored exactly at first,
# and how many times as many are looked at where that settles the answer. 32 settle three of four queries over
# a million simulated passages without another round, in a sample of 60.
FIRST_PROBES: Final = 32
CANDIDATES_A_DOCUMENT, MOST_TIMES = 16, 16
# What an entry of a list and a document cost, in tokens of the pass over all: lists serve while that is less.
TOKENS_AN_ENTRY, TOKENS_A_DOCUMENT = 8, 2


class SegmentRequest(NamedTuple):
    """What a query wants of a segment: k hits, and why everything is scored exactly, "" where that is to be
    seen; the query's tokens and width; tokens of the rows that may be found here, and the share they have of
    those in the whole index."""

    k: int
    exhaustive: str
    n_query: int
    dim: int
    n_tokens: int
    share: float


def best_rows(
    segment: Segment, scorer: Scorer, rows: Rows | None, request: SegmentRequest, trace: Trace
) -> tuple[Rows, Scores]:
    """A segment's rows that may be among the k best, best first, and their scores.

    Of a document that was cut into passages the best one stands for it, and k counts documents. Which rows
    are scored exactly depends on no more of k than its level.

    Args:
        rows: int64, ascending, those that may be found; None for all.
    """
    columns = {column.name: segment.column(column.name) for column in segment.columns}
    candidates, scores = _scored(segment, scorer, columns, rows, request, trace)
    segment.check_finite(scores)
    best = top_documents(scores, segment.first_rows(candidates), request.k)
    return best if candidates is None else candidates[best], scores[best]


def best_among(
    segment: Segment, scorer: Scorer, rows: Rows, k: int, why: str, trace: Trace
) -> tuple[Rows, Scores]:
    """`best_rows` where it is known which rows, ascending, may be among the best, and why."""
    if len(rows) == 0:
        return rows, np.zeros(0, np.float32)
    columns = {column.name: segment.column(column.name) for column in segment.columns}
    scores = scorer.exact(columns, segment.offsets, rows)
    segment.check_finite(scores)
    trace.road(segment.name, "exact", f"{why}; {len(rows)} scored again on the CPU")
    best = top_documents(scores, segment.first_rows(rows), k)
    return rows[best], scores[best]


def _scored(
    segment: Segment,
    scorer: Scorer,
    columns: Columns,
    rows: Rows | None,
    request: SegmentRequest,
    trace: Trace,
) -> tuple[Rows | None, Scores]:
    """Rows that were scored exactly, None for all of the segment, and their scores."""
    if request.exhaustive:
        trace.road(segment.name, "exact", request.exhaustive)
        return rows, scorer.exact(columns, segment.offsets, rows)
    work = _work(segment, scorer, columns, rows, request)
    plan = decide(work, planning.COSTS)
    if plan.way == "exact":
        trace.road(segment.name, "exact", plan.why)
        return rows, scorer.exact(columns, segment.offsets, rows)
    found = _by_lists(segment, scorer, columns, rows, (work, effort(work, request.k)), trace)
    way = "lists"
    if found is None:
        way, found = "centroids", _refined(segment, scorer, columns, rows, effort(work, request.k))[0]
    end = "until more changed nothing, or was not expected to" if found.settled else "up to the limit"
    if len(found.rows) == (segment.n_documents if rows is None else len(rows)):
        end = "which were all"
    trace.road(segment.name, way, f"{plan.why}; {len(found.rows)} scored exactly, {end}")
    return found.rows, found.scores


def _work(
    segment: Segment, scorer: Scorer, columns: Columns, rows: Rows | None, request: SegmentRequest
) -> Work:
    return Work(
        n_query=request.n_query,
        dim=request.dim,
        bits=columns["codes"].shape[1] * 8 // request.dim if scorer.n_centroids else 0,
        n_tokens=request.n_tokens,
        n_documents=segment.count_whole(rows),
        n_centroids=scorer.n_centroids,
        n_stored=segment.n_tokens,
        share=request.share,
    )


def _refined(
    segment: Segment, scorer: Scorer, columns: Columns, rows: Rows | None, look: Effort
) -> tuple[Refined, float]:
    """(rows scored exactly, with their scores; the least score by centroids among them)."""
    approximate = scorer.approximate(columns, segment.offsets, rows)
    assert approximate is not None  # or the plan would have been another

    def score(positions: Rows) -> Scores:
        chosen = positions if rows is None else rows[positions]
        return scorer.exact(columns, segment.offsets, chosen)

    found = refine(approximate, score, look, segment.first_rows(rows))
    least = float(approximate[found.rows].min(initial=np.inf))
    return (found if rows is None else found._replace(rows=rows[found.rows])), least


def _by_lists(
    segment: Segment,
    scorer: Scorer,
    columns: Columns,
    rows: Rows | None,
    wish: tuple[Work, Effort],
    trace: Trace,
) -> Refined | None:
    """Rows found through the segment's lists and their exact scores; None where ranking all is cheaper.

    Nothing left out could rank before what was scored exactly; or, where that would take too many candidates,
    a round with twice the probes left the best as they were.
    """
    lists, scores = segment.lists, scorer.centroids
    if lists is None or scores is None:
        return None
    work, look = wish
    allowed = _allowed(segment, rows)
    n_probes, at_least = FIRST_PROBES, least_documents(work, look.wanted)
    wanted = round(max(CANDIDATES_A_DOCUMENT * at_least, 2 * expected_documents(work)))
    best: Scores | None = None
    while True:
        probes = plan_probes(scores, lists.offsets, n_probes)
        cost = TOKENS_AN_ENTRY * probes.n_entries + TOKENS_A_DOCUMENT * segment.n_documents
        if cost >= work.n_tokens or n_probes >= len(lists.offsets) - 1:
            return None  # dearer than ranking all, or all lists
        with trace.stage("choose by lists"):
            gains = visit(probes, lists, scores, allowed, scorer.threads)
            least = gains.best(wanted)
            chosen = gains.rows(least)
        trace.count("choose by lists", len(chosen))
        found, score = _refined(segment, scorer, columns, chosen, look)
        top = best_scores(found.scores, segment.first_rows(found.rows), look.stable)
        if len(top) == look.stable:
            needed = gains.needed(score)
            if best is not None and np.array_equal(top, best):
                return found._replace(settled=True)
            if found.settled and needed >= least:
                return found
            if found.settled and needed > 0 and gains.at_least(needed) <= MOST_TIMES * wanted:
                return _refined(segment, scorer, columns, gains.rows(needed), look)[0]
        if not found.settled:
            if len(found.rows) < len(chosen):  # the limit
                return found
            wanted *= 4  # every candidate was scored, and the last ones were among the best
        best, n_probes = top, 2 * n_probes


def _allowed(segment: Segment, rows: Rows | None) -> npt.NDArray[np.bool_] | int:
    """The rows as `candidates.visit` wants them."""
    if rows is None:
        return segment.n_documents
    allowed = np.zeros(segment.n_documents, np.bool_)
    allowed[rows] = True
    return allowed
