"""Is a match that is called weak really no answer? Precision and recall of the mark, by model and collection.

As many questions with an answer as without: each question is asked of its collection as it is, and of what is
left of it without the documents that answer ("removed", where the best of the rest is about the same thing),
or of another collection ("elsewhere"). Judged is the first hit, as an index of 2 bits ranks and scores it.
Precision: of the first hits called weak, those of questions without an answer; recall: of the questions
without an answer, those whose first hit is called weak; false alarms: of the first hits that answer, those
called weak. Of each collection some hundred documents and questions are asked that no fit had; of one that
the calibration was fitted on ("seen") others than those. `told_apart`: how often a question with an answer
has the more confident first hit of the two. Needs the collections at LATEBOLT_DATA.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harness import arguments, data_folder, record
from latebolt import Encoder, confidence
from latebolt.caches import cache_folder
from latebolt.confidence import Confidence
from latebolt.evaluate import Collection, late_run, read_collection
from latebolt.evaluate.cache import Encodings
from latebolt.values import TokenVectors
from latebolt_export.judge.confidence import DOCUMENTS, part_of

# The collections that each model reads, and is asked of.
COLLECTIONS = {"starter": "squad,cosqa,pubmedqa", "multilingual": "squad,pubmedqa,jsquad,drcd"}
QUESTIONS = 300
BITS = 2


class Asked(NamedTuple):
    """First hits: of questions with an answer, whether it is one of the answers; and of those without."""

    right: list[bool]
    answered: list[Confidence]
    unanswered: list[Confidence]


def first_hits(
    collection: Collection, other: Collection, encoder: Encoder, encodings: Encodings
) -> dict[str, Asked]:
    """By the way in which the answers were taken away: "removed" or "elsewhere"."""
    calibration = encoder.calibration
    assert calibration is not None, f"{encoder.model} has no calibration"
    documents = encodings.encode(encoder, list(collection.documents.values()), "document")

    def hits(asked: Collection) -> list[tuple[Confidence, Confidence, bool]]:
        """Of each question the first hit, the first one that is no answer, and whether that is another."""
        queries: TokenVectors = encodings.encode(encoder, list(asked.queries.values()), "query")
        put = replace(collection, queries=asked.queries)
        run, _ = late_run(put, queries, documents, BITS)
        found = []
        for (query, ranking), matrix in zip(run.items(), queries, strict=True):
            grades = asked.qrels[query] if asked is collection else {}
            (first, score), *_ = ranking.items()
            rest = next(s for name, s in ranking.items() if grades.get(name, 0) < 1)
            rated = [calibration.of(each, len(matrix)) for each in (score, rest)]
            found.append((*rated, grades.get(first, 0) > 0))
        return found

    own, foreign = hits(collection), hits(other)
    answered, right = [each[0] for each in own], [each[2] for each in own]
    return {
        "removed": Asked(right, answered, [each[1] for each in own]),
        "elsewhere": Asked(right, answered, [each[0] for each in foreign]),
    }


def figures(asked: Asked) -> dict[str, Any]:
    """Precision and recall, as if there were as many questions of both kinds, and what lies behind them."""
    alarms = float(np.mean([each.weak for each in asked.answered]))
    recall = float(np.mean([each.weak for each in asked.unanswered]))
    right = [each for each, is_right in zip(asked.answered, asked.right, strict=True) if is_right]
    values = np.array([each.value for each in asked.answered])
    others = np.array([each.value for each in asked.unanswered])
    return {
        "precision": recall / (recall + alarms) if recall + alarms else float("nan"),
        "recall": recall,
        "false_alarms": float(np.mean([each.weak for each in right])),
        "told_apart": float((values[:, None] > others).mean() + 0.5 * (values[:, None] == others).mean()),
        "mean_right": float(np.mean([each.value for each in right])),
        "mean_unanswered": float(others.mean()),
    }


def part(collection: Collection, seen: bool, quick: bool) -> Collection:
    """Documents and questions that no fit had: of a collection that one was fitted on, those behind its
    part."""
    if quick:
        return part_of(collection, 60, 20)
    return part_of(collection, DOCUMENTS, QUESTIONS, first=DOCUMENTS if seen else 0)


def main() -> None:
    """Every model on each of its collections."""
    given = arguments(__doc__, models=",".join(COLLECTIONS))
    encodings, rows = Encodings(None if given.quick else cache_folder("eval")), []
    for model in given.models.split(",")[: 1 if given.quick else None]:
        encoder = Encoder.load(model, threads=given.threads)
        fitted = confidence.read(encoder.folder.path)
        assert fitted is not None, f"{model} has no calibration"
        asked = [
            part(read_collection(data_folder() / name), name in fitted.fitted["collections"], given.quick)
            for name in COLLECTIONS[model].split(",")
        ]
        for collection, other in zip(asked, itertools.chain(asked[1:], asked[:1]), strict=True):
            for way, found in first_hits(collection, other, encoder, encodings).items():
                base = {"model": model, "collection": collection.name, "answers": way}
                seen = collection.name in fitted.fitted["collections"]
                rows.append({**base, "seen": seen, "questions": len(found.answered), **figures(found)})
    record("confidence", rows, quick=given.quick)


if __name__ == "__main__":
    main()
