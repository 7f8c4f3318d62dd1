"""Sets the variants of one collection against BM25 and against the first variant.

Differences with their intervals, and the queries won and lost.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from latebolt.evaluate.run import Evaluation, Scored
from latebolt.evaluate.statistics import Difference, paired_differences


@dataclass(frozen=True, eq=False)
class Comparison:
    """A variant against another ranking of the same queries, by one measure.

    against: "BM25", or the name of the first variant, the reference.
    """

    scored: Scored
    other: Scored
    measure: str
    difference: Difference

    @property
    def against(self) -> str:
        """Name of the other."""
        return self.other.name

    def change(self) -> dict[str, float]:
        """Query id -> this one's value minus the other's."""
        mine, others = self.scored.values[self.measure], self.other.values[self.measure]
        return {query: mine[query] - others[query] for query in mine}

    def counts(self) -> tuple[int, int, int]:
        """Queries won, tied and lost."""
        change = np.array(list(self.change().values()))
        return int((change > 0).sum()), int((change == 0).sum()), int((change < 0).sum())

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        won, tied, lost = self.counts()
        found = self.difference
        return {
            "against": self.against,
            "measure": self.measure,
            "difference": found.mean,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "significant": found.significant,
            "won": won,
            "tied": tied,
            "lost": lost,
        }


@functools.lru_cache(maxsize=64)  # every table and every page asks again
def compare(evaluation: Evaluation, measure: str) -> tuple[Comparison, ...]:
    """Every variant against BM25, and every variant but the first against the first.

    They are one family: their p-values are corrected together.
    """
    bm25, *variants = evaluation.scored
    pairs = [(each, bm25) for each in variants] + [(each, variants[0]) for each in variants[1:]]
    if not pairs:
        return ()
    queries = list(evaluation.collection.queries)
    matrix = np.array(
        [[a.values[measure][q] - b.values[measure][q] for a, b in pairs] for q in queries], np.float64
    )
    found = paired_differences(matrix)
    return tuple(Comparison(a, b, measure, each) for (a, b), each in zip(pairs, found, strict=True))


@dataclass(frozen=True)
class Case:
    """A query that one ranking answers better than the other, with the texts.

    relevant, mine, others: a relevant document, and the first document of each ranking ("" where none).
    """

    change: float
    query_id: str
    query: str
    relevant: str
    mine: str
    others: str


def cases(evaluation: Evaluation, comparison: Comparison, most: int = 5) -> tuple[list[Case], list[Case]]:
    """The largest wins and the largest losses, at most so many of each, ties by position."""
    change = comparison.change()
    won = sorted((q for q in change if change[q] > 0), key=lambda q: -change[q])[:most]
    lost = sorted((q for q in change if change[q] < 0), key=lambda q: change[q])[:most]
    collection = evaluation.collection

    def case(query: str) -> Case:
        relevant = max(collection.qrels[query].items(), key=lambda item: item[1])[0]
        mine, others = comparison.scored.best[query], comparison.other.best[query]
        return Case(
            change[query],
            query,
            collection.queries[query],
            collection.documents[relevant],
            collection.documents[mine[0]] if mine else "",
            collection.documents[others[0]] if others else "",
        )

    return [case(query) for query in won], [case(query) for query in lost]
