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
from latebolt.index.search.candidates import joined, plan_probes
from latebolt.index.search.explain import Trace
from latebolt.index.search.planning import (
    Effort,
    Work,
    decide,
    effort,
    effort_by_lists,
    lists_to_visit,
    ranks_by_both,
)
from latebolt.index.search.stages import Refined, Rows, Scores, likely_best, refine, top_documents
from latebolt.index.store.segment import Segment
from latebolt.kernels import isa
from latebolt.kernels.lists import gather

# What an entry of a list costs, in tokens of the pass over all: lists serve while that is less.
TOKENS_AN_ENTRY: Final = 8
# Of the documents that lists bring up, so many times those that may be scored exactly are put in order, where
# lists rank alone.
RANKED: Final = 2


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
    plan = decide(work, planning.costs(isa.in_tiles()))
    if plan.way == "exact":
        trace.road(segment.name, "exact", plan.why)
        return rows, scorer.exact(columns, segment.offsets, rows)
    found = _by_lists(segment, scorer, columns, rows, work, request.k, trace)
    way = "lists"
    if found is None:
        way, found = "centroids", _by_centroids(segment, scorer, columns, rows, effort(work, request.k))
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


def _by_centroids(
    segment: Segment, scorer: Scorer, columns: Columns, rows: Rows | None, look: Effort
) -> Refined:
    """Rows scored exactly, with their scores, in the order of all rows' scores by centroids."""
    approximate = scorer.approximate(columns, segment.offsets, rows)
    assert approximate is not None  # or the plan would have been another

    def score(positions: Rows) -> Scores:
        chosen = positions if rows is None else rows[positions]
        return scorer.exact(columns, segment.offsets, chosen)

    found = refine(approximate, score, look, segment.first_rows(rows))
    return found if rows is None else found._replace(rows=rows[found.rows])


def _by_lists(
    segment: Segment,
    scorer: Scorer,
    columns: Columns,
    rows: Rows | None,
    work: Work,
    k: int,
    trace: Trace,
) -> Refined | None:
    """Rows found through the segment's lists and their exact scores; None where ranking all is cheaper, or
    lists bring up too few.

    What a document gains from the lists it is in brings it up and ranks it; with longer queries its score by
    centroids ranks it, too.
    """
    lists, scores, query = segment.lists, scorer.centroids, scorer.query
    if lists is None or scores is None or query is None or not len(query):
        return None
    n_lists = len(lists.offsets) - 1
    look = effort_by_lists(k, len(lists.rows) / max(n_lists, 1), work.n_query)
    by_both = ranks_by_both(work.n_query)
    n_probes = lists_to_visit(work, lists.starts is None)
    entries = n_probes * len(query) * len(lists.rows) / n_lists
    if n_probes >= n_lists or TOKENS_AN_ENTRY * entries >= work.n_tokens:
        return None
    with trace.stage("choose by lists"):
        probes = plan_probes(scores, lists, query, n_probes, scorer.threads)
        allowed = _allowed(segment, rows)
        gains = gather(lists.rows, probes, segment.n_documents, allowed, scorer.threads)
        best = likely_best(gains.sums, look.most if by_both else RANKED * look.most)
        chosen = (gains.rows if best is None else gains.rows[best]).astype(np.int64)
        sums = (gains.sums if best is None else gains.sums[best]) * np.float32(scores.step)
    trace.count("choose by lists", len(gains.rows))
    if by_both:
        by_centroids = scorer.approximate(columns, segment.offsets, chosen)
        assert by_centroids is not None  # where there are lists there are centroids
        sums = joined(sums, by_centroids)

    def score(positions: Rows) -> Scores:
        return scorer.exact(columns, segment.offsets, chosen[positions])

    found = refine(sums, score, look, segment.first_rows(chosen))
    if not found.settled and len(found.rows) == len(chosen):
        return None  # the last ones were among the best
    return found._replace(rows=chosen[found.rows])


def _allowed(segment: Segment, rows: Rows | None) -> npt.NDArray[np.bool_] | None:
    """The rows as `gather` wants them."""
    if rows is None:
        return None
    allowed = np.zeros(segment.n_documents, np.bool_)
    allowed[rows] = True
    return allowed
