"""The stages of a search as pure functions of arrays: no files, no models, no threads.

Documents are ranked by their centroids alone; the best are scored exactly, more and more of them until
hardly any of the others can be expected to be among the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.index.search.grouping import best_of_each
from latebolt.index.search.planning import Effort

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


# So many times what is asked for is put in order at first, which is nearly always enough, and later.
FIRST_SEEN, SEEN = 4, 2
# Of the documents that are not scored, so many may be expected to be among the best when rounds end.
MISSED = 0.03
# A round ends at least and at most at so many times the documents of all before it.
LEAST_STEP, MOST_STEP = 1.25, 2.0
MOST_GROUPS = 512
SAMPLE = 1024  # scores that tell about where the best of many begin


class Refined(NamedTuple):
    """What was scored exactly: rows int64 [m], positions of the cheap ranking, and scores float32 [m].

    settled: none of the others is expected among the best, or the best stayed as they were; False where
    everything was scored before that was so, or the limit was reached.
    """

    rows: Rows
    scores: Scores
    settled: bool


def refine(
    approximate: Scores, score: Callable[[Rows], Scores], effort: Effort, documents: Rows | None = None
) -> Refined:
    """The documents to choose the best from, and their exact scores.

    Candidates are scored in rounds, in the order of `approximate`, until fewer than `MISSED` of those left
    can be expected to reach the best `effort.wanted`, or until the later half of all that were scored left
    the best `effort.stable` as they were.

    Args:
        approximate: float32 [n], a cheap ranking.
        score: exact scores of some positions of it.
        documents: int64 [n], which document each position belongs to; None where each is one of its own.
    Returns:
        Every document when there are no more than those of the first round.
    """
    size, order = effort.first, _Order(approximate, documents)
    scored, scores = 0, np.zeros(0, np.float32)
    while True:
        stop = order.reach(size)
        scores = np.concatenate([scores, score(order.rows[scored:stop])])
        if stop == len(approximate):
            return Refined(order.rows, scores, False)
        rows, scored = order.rows[:stop], stop
        belongs = None if documents is None else documents[rows]
        best = best_scores(scores, belongs, max(effort.wanted, effort.stable))
        ahead = _ahead(order, stop, scores, float(best[-effort.wanted]))
        settled = not ahead or _is_stable(size, order, scores, belongs, best, effort)
        if settled or size >= effort.most:
            return Refined(rows, scores, settled)
        wanted = size * (1 + ahead / stop)  # rows are passages, sizes are documents
        size = min(math.ceil(min(max(wanted, LEAST_STEP * size), MOST_STEP * size)), effort.most)


def _ahead(order: _Order, stop: int, scores: Scores, least: float) -> int:
    """How many of the rows behind the first `stop` have to be scored before fewer than `MISSED` of all others
    are expected to score `least`; 0 where that is so already.

    What exact scores have over cheap ones is taken to be as in the later half of what was scored, which is
    nearest to the rest, and normally distributed. Of that distribution's tail an approximation will do: it is
    above the true one beyond two standard deviations. Rows are looked at in groups, each as its best one.
    """
    over = scores[stop // 2 :] - order.scores[stop // 2 : stop]
    mean = float(over.sum()) / len(over)
    over -= np.float32(mean)
    deviation = max(math.sqrt(float(over.dot(over)) / len(over)), 1e-6)
    group = 1 + (len(order.rows) - stop) // MOST_GROUPS
    z = np.maximum((np.float32(least - mean) - order.scores[stop::group]) * np.float32(1 / deviation), 0)
    chances = np.exp(-((np.float32(0.3842) * z + np.float32(0.7640)) * z + np.float32(0.6964)))
    unordered = order.n - len(order.rows)
    rest = chances[::-1].cumsum(dtype=np.float64)  # from the last one on
    enough = MISSED / group - unordered / group * float(chances[-1])
    return group * int(len(rest) - rest.searchsorted(enough))


def _is_stable(
    size: int, order: _Order, scores: Scores, belongs: Rows | None, best: Scores, effort: Effort
) -> bool:
    """Whether the later half of what was scored left the best as they were."""
    half = size // 2
    if half < effort.half or len(best) < effort.stable:
        return False
    before = order.reach(half)
    earlier = best_scores(scores[:before], None if belongs is None else belongs[:before], effort.stable)
    return np.array_equal(best[-effort.stable :], earlier)


class _Order:
    """A cheap ranking, best first, equals by position, as far as is asked for.

    rows int64 [m], positions; scores float32 [m], theirs; n: how many there are in all.
    """

    def __init__(self, approximate: Scores, documents: Rows | None) -> None:
        self._approximate, self._documents = approximate, documents
        self.n = len(approximate)
        self.rows: Rows = np.zeros(0, np.int64)
        self.scores: Scores = np.zeros(0, np.float32)

    def reach(self, wanted: int) -> int:
        """How many of `rows` there are before another document follows the first `wanted` ones; lengthens
        `rows` where they do not reach so far."""
        n, rows_wanted = self.n, wanted
        while True:
            if len(self.rows) < min(SEEN * rows_wanted, n):  # what may come next has to be seen
                self._sort(min(n, (SEEN if len(self.rows) else FIRST_SEEN) * rows_wanted))
            if self._documents is None:
                return min(wanted, n)
            first = np.sort(np.unique(self._documents[self.rows], return_index=True)[1])
            if len(first) > wanted:
                return int(first[wanted])
            if len(self.rows) == n:
                return n
            rows_wanted = 2 * len(self.rows)

    def _sort(self, wanted: int) -> None:
        """Whole numbers are sorted several times as fast as positions by their scores: the bits of a score,
        turned so that they order as it does, over those of its position."""
        scores, rows = self._approximate, likely_best(self._approximate, wanted)
        if rows is not None:
            scores = scores[rows]
        bits = (scores + np.float32(0)).view(np.int32)  # -0 is 0
        falling = ~(bits ^ (bits >> 31 & 0x7FFFFFFF))
        keys = (falling.astype(np.int64) << 32) | (np.arange(len(falling)) if rows is None else rows)
        if rows is None and wanted < len(keys):
            keys = np.partition(keys, wanted - 1)[:wanted]
        keys.sort()
        self.rows = keys & 0xFFFFFFFF
        self.scores = self._approximate[self.rows]


def likely_best(scores: Scores, wanted: int) -> Rows | None:
    """The positions of all scores from one on that a sample says has `wanted` at least, ascending; None where
    it has not, or there are too few to ask."""
    n = len(scores)
    sample = scores[:: max(n // SAMPLE, 1)]
    share = wanted / max(n, 1)
    place = math.ceil(len(sample) * share + 3 * math.sqrt(len(sample) * share))
    if place >= len(sample) or len(sample) == n:
        return None
    least = np.partition(sample, len(sample) - place)[len(sample) - place]
    rows = np.flatnonzero(scores >= least)
    return rows if len(rows) >= wanted else None
