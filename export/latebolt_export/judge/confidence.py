"""Fits what makes confidence of a model's scores, on questions whose answers are known.

Of each question two pairs are known: with the best document that answers it, and with the best of those that
do not, which would be the first hit were the answers not in the collection. A logistic function of the mean
cosine of the query's vectors tells the two kinds apart; collections count alike, however many questions they
have. Nothing else of a collection goes into it, so that it holds for others:
benchmarks/confidence.py judges it on collections that it was not fitted on. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.confidence import Calibration, Calibrations
from latebolt.encoder.encoder import Encoder
from latebolt.errors import ExportError
from latebolt.evaluate import Collection, late_run
from latebolt.evaluate.cache import Encodings

# Of a collection at most so many documents, the first ones, since neighbours are often about one thing; and
# questions that these answer.
DOCUMENTS, QUESTIONS = 400, 400
LEAST_QUESTIONS: Final = 100  # of all collections
BITS: Final = 2  # an index's default
# So many of the hits that answer their question lie below the point where a match is called weak.
MISJUDGED: Final = 0.1
_ROUNDS, _RIDGE = 50, 1e-6

Float64 = npt.NDArray[np.float64]


class Pairs(NamedTuple):
    """Questions with a document each: MaxSim float64 [n], the query's vectors int64 [n], and whether the
    document answers, bool [n]."""

    scores: Float64
    n_query: npt.NDArray[np.int64]
    answers: npt.NDArray[np.bool_]


def part_of(
    collection: Collection, documents: int = DOCUMENTS, questions: int = QUESTIONS, first: int = 0
) -> Collection:
    """Some documents of a collection and, evenly spread, questions all of whose answers are among them.

    Args:
        first: number of the first document.
    """
    names = list(collection.documents)[first : first + documents]
    kept = {name: collection.documents[name] for name in names}
    asked = {
        query: text
        for query, text in collection.queries.items()
        if all(name in kept for name, grade in collection.qrels[query].items() if grade > 0)
    }
    return replace(collection, documents=kept, queries=asked).with_queries(questions)


def pairs_of(
    collection: Collection,
    encoder: Encoder,
    encodings: Encodings | None = None,
    bits: int = BITS,
) -> Pairs:
    """Of each question its best document that answers and its best that does not, of the first hundred.

    Args:
        encodings: where encodings are kept.
        bits: what the documents are kept with; 32 for exact vectors.
    """
    kept = encodings or Encodings(None)
    queries = kept.encode(encoder, list(collection.queries.values()), "query")
    documents = kept.encode(encoder, list(collection.documents.values()), "document")
    run, _ = late_run(collection, queries, documents, bits)
    found: list[tuple[float, int, bool]] = []
    for (query, ranking), matrix in zip(run.items(), queries, strict=True):
        grades = collection.qrels[query]
        for answers in (True, False):
            scores = (score for name, score in ranking.items() if (grades.get(name, 0) > 0) is answers)
            if (best := next(scores, None)) is not None:
                found.append((best, len(matrix), answers))
    return Pairs(
        np.array([score for score, _, _ in found], np.float64),
        np.array([n for _, n, _ in found], np.int64),
        np.array([answers for _, _, answers in found], np.bool_),
    )


def fit(sets: Sequence[Pairs], dim: int, fingerprint: str) -> Calibration:
    """The calibration that makes the pairs most likely, each set and in it each kind of pair counting alike.

    Args:
        sets: the pairs of each collection.
        dim, fingerprint: of the vectors.
    Raises:
        ExportError: there are too few pairs, or the better score is not the more likely answer.
    """
    kinds = [(int(each.answers.sum()), int((~each.answers).sum())) for each in sets]
    if sum(map(min, kinds)) < LEAST_QUESTIONS or not all(map(min, kinds)):
        raise ExportError(
            f"a calibration needs at least {LEAST_QUESTIONS} questions with an answer and other documents, "
            f"got {sum(map(min, kinds))} from {len(sets)} collections. Give more questions."
        )
    weights = np.concatenate(
        [
            np.where(each.answers, 1 / right, 1 / wrong)
            for each, (right, wrong) in zip(sets, kinds, strict=True)
        ]
    )
    features = np.concatenate([_features(each) for each in sets])
    answers = np.concatenate([each.answers for each in sets])
    offset, slope = _logistic(features, answers, weights).tolist()
    if slope <= 0:
        raise ExportError(
            "documents that answer score no better than others on these collections. "
            "Does the model read them?"
        )
    found = Calibration(dim, fingerprint, offset, slope, 0.0)
    right = [_of(found, each)[each.answers] for each in sets]
    weak_below = float(np.mean([np.quantile(each, MISJUDGED) for each in right]))
    return Calibration(dim, fingerprint, round(offset, 4), round(slope, 4), round(weak_below, 4))


def _of(calibration: Calibration, pairs: Pairs) -> Float64:
    scores = zip(pairs.scores.tolist(), pairs.n_query.tolist(), strict=True)
    return np.array([calibration.of(score, n).value for score, n in scores])


def _features(pairs: Pairs) -> Float64:
    """Float64 [n, 2], as `Calibration` has them."""
    return np.stack([np.ones(len(pairs.scores)), pairs.scores / np.maximum(pairs.n_query, 1)], axis=1)


def _logistic(features: Float64, answers: npt.NDArray[np.bool_], weights: Float64) -> Float64:
    """Float64 [n_features], the weighted maximum likelihood by Newton's method.

    The ridge keeps it finite where the two kinds do not overlap.
    """
    found = np.zeros(features.shape[1])
    weights = weights / weights.sum()
    for _ in range(_ROUNDS):
        values = 1 / (1 + np.exp(-np.clip(features @ found, -30, 30)))
        gradient = features.T @ (weights * (answers - values)) - _RIDGE * found
        curvature = (features.T * (weights * values * (1 - values))) @ features
        step = np.linalg.solve(curvature + _RIDGE * np.eye(len(found)), gradient)
        found = found + step
        if float(np.abs(step).max()) < 1e-10:
            break
    return np.asarray(found, np.float64)


def calibrate(
    model: str | Path,
    collections: Sequence[Collection],
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Calibrations:
    """The calibrations of every width of a model.

    Args:
        model: as `Encoder.load` takes it.
        collections: questions with documents that answer them and others; see `part_of` for what is used.
        cache: where encodings are kept; None keeps none.
    Raises:
        ExportError: see `fit`.
    """
    sets = [part_of(each) for each in collections]
    found = []
    with Encoder.load(model) as encoder:
        for head in encoder.contract.heads:
            progress(f"fitting confidence at dim {head.dim}")
            view = encoder.with_dim(head.dim)
            pairs = [pairs_of(each, view, Encodings(cache)) for each in sets]
            found.append(fit(pairs, head.dim, view.fingerprint))
    fitted: dict[str, Any] = {
        "documents": {each.name: len(each.documents) for each in sets},
        "collections": {each.name: len(each.queries) for each in sets},
        "bits": BITS,
        "misjudged": MISJUDGED,
    }
    return Calibrations(tuple(found), fitted)
