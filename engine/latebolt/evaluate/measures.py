"""What a ranking is worth against judgements: nDCG, recall, reciprocal rank, average precision.

The measures are those of ir-measures (trec_eval's definitions); nothing is computed here again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from latebolt.errors import RuntimeUnavailable

DEPTH = 100  # hits looked at a query
# MRR@10 and MAP, cut at DEPTH, under the names ir-measures has for them.
MEASURES = ("nDCG@10", "R@10", "R@100", "RR@10", "AP@100")

Run = dict[str, dict[str, float]]  # query id -> document id -> score
Qrels = Mapping[str, Mapping[str, int]]


def ranking_of(scores: npt.NDArray[np.float32], names: Sequence[str], depth: int = DEPTH) -> dict[str, float]:
    """The best `depth` documents and their scores, ties by position."""
    best = np.argsort(-scores, kind="stable")[:depth]
    return {names[i]: float(scores[i]) for i in best}


def measure_queries(run: Run, qrels: Qrels) -> dict[str, dict[str, float]]:
    """Each of `MEASURES` for each query of the run: [measure][query id]. A query without hits has 0.

    Raises:
        RuntimeUnavailable: ir-measures is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise RuntimeUnavailable(
            "ir-measures is not installed. Run \"pip install 'latebolt[eval]'\"."
        ) from error
    judged = {query: dict(qrels[query]) for query in run}
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(run, 0.0) for name in MEASURES}
    hits = {query: ranking for query, ranking in run.items() if ranking}
    if hits:
        # Not by its `parse_measure`, which asks `ast` for what Python 3.14 has no more (ir-measures 0.4.3).
        kinds = (name.split("@") for name in MEASURES)
        wanted = [getattr(ir_measures, kind) @ int(depth) for kind, depth in kinds]
        for each in ir_measures.iter_calc(wanted, judged, hits):
            found[str(each.measure)][each.query_id] = float(each.value)
    return found


def measure(run: Run, qrels: Qrels) -> dict[str, float]:
    """Each of `MEASURES`, averaged over the queries of the run.

    Raises:
        RuntimeUnavailable: ir-measures is not installed.
    """
    return {name: float(np.mean(list(each.values()))) for name, each in measure_queries(run, qrels).items()}
