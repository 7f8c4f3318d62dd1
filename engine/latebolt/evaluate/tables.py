"""Tables over several collections: the average by width, by model, and each language against BM25.

Rows of plain values, as a table or JSON shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latebolt.evaluate.compare import compare
from latebolt.evaluate.run import Evaluation, Scored, Variant, rows_of

Rows = list[dict[str, Any]]
Columns = dict[str, Variant | None]  # None: BM25
AVERAGE = "average"


def by_variant(evaluations: Sequence[Evaluation], measure: str) -> Rows:
    """`rows_of` each collection, with the differences to BM25 and to the first variant.

    "vs": [{against, difference, low, high, p, significant, won, tied, lost}, ...] of `measure`.
    """
    rows = []
    for evaluation in evaluations:
        comparisons = compare(evaluation, measure)
        for scored, row in zip(evaluation.scored, rows_of(evaluation), strict=True):
            row["vs"] = [each.record() for each in comparisons if each.scored is scored]
            rows.append(row)
    return rows


def by_dimension(evaluations: Sequence[Evaluation], measure: str) -> Rows:
    """A row a collection and an average, a column a width; for each way to get vectors of such a width."""
    variants = _variants(evaluations)
    dims = sorted({each.dim for each in variants}, reverse=True)
    rows: Rows = []
    kinds = dict.fromkeys(
        (each.model, each.precision, each.bits, each.pool, each.passages) for each in variants
    )
    for model, precision, bits, pool, passages in kinds:
        base = {"model": model, "precision": precision, "bits": bits, "pool": pool, "passages": passages}
        columns: Columns = {
            f"dim {dim}": Variant(model, precision, dim, bits, pool, passages) for dim in dims
        }
        rows += [{**base, **row} for row in _with_average(evaluations, columns, measure)]
    return rows


def by_model(evaluations: Sequence[Evaluation], measure: str) -> Rows:
    """A row a collection and an average, columns for BM25 and for the first variant of each model."""
    columns: Columns = {"BM25": None}
    columns |= {str(variant): variant for variant in _first_of_models(evaluations)}
    return _with_average(evaluations, columns, measure)


def by_language(evaluations: Sequence[Evaluation], measure: str) -> Rows:
    """A row a label and model: BM25, the model's first variant, and the difference with its interval.

    Several collections of one label are averaged and have no interval here: each has its own in `by_variant`.
    """
    rows: Rows = []
    for variant in _first_of_models(evaluations):
        for label in dict.fromkeys(each.collection.label for each in evaluations):
            chosen = [each for each in evaluations if each.collection.label == label]
            found = [_of(each, variant) for each in chosen]
            if any(each is None for each in found):
                continue
            bm25 = float(np.mean([each.scored[0].mean(measure) for each in chosen]))
            model = float(np.mean([each.mean(measure) for each in found if each]))
            row = {"language": label, "collections": len(chosen), "model": str(variant), "BM25": bm25}
            row |= {measure: model, "difference": model - bm25, "low": None, "high": None, "p": None}
            if len(chosen) == 1:
                comparisons = compare(chosen[0], measure)
                [one] = [c for c in comparisons if c.scored is found[0] and c.other.variant is None]
                row |= {"low": one.difference.low, "high": one.difference.high, "p": one.difference.p}
            rows.append(row)
        mine = [row for row in rows if row["model"] == str(variant)]
        if len(mine) > 1:
            means = {name: float(np.mean([row[name] for row in mine])) for name in ("BM25", measure)}
            total = {"language": AVERAGE, "collections": sum(row["collections"] for row in mine)}
            total |= {"model": str(variant), **means, "difference": means[measure] - means["BM25"]}
            rows.append({**total, "low": None, "high": None, "p": None})
    return rows


TABLES: dict[str, Callable[[Sequence[Evaluation], str], Rows]] = {
    "variants": by_variant,
    "dims": by_dimension,
    "models": by_model,
    "languages": by_language,
}


def _variants(evaluations: Sequence[Evaluation]) -> list[Variant]:
    return list(dict.fromkeys(s.variant for each in evaluations for s in each.scored if s.variant))


def _first_of_models(evaluations: Sequence[Evaluation]) -> list[Variant]:
    firsts: dict[str, Variant] = {}
    for variant in _variants(evaluations):
        firsts.setdefault(variant.model, variant)
    return list(firsts.values())


def _of(evaluation: Evaluation, wanted: Variant | None) -> Scored | None:
    return next((scored for scored in evaluation.scored if scored.variant == wanted), None)


def _with_average(evaluations: Sequence[Evaluation], columns: Columns, measure: str) -> Rows:
    """A row a collection; then the average, of a column that every collection has."""
    rows: Rows = []
    for evaluation in evaluations:
        row: dict[str, Any] = {"collection": evaluation.collection.name}
        for name, wanted in columns.items():
            scored = _of(evaluation, wanted)
            row[name] = None if scored is None else scored.mean(measure)
        rows.append(row)
    if len(rows) > 1:
        average: dict[str, Any] = {"collection": AVERAGE}
        for name in columns:
            found = [row[name] for row in rows]
            average[name] = None if None in found else float(np.mean(found))
        rows.append(average)
    return rows
