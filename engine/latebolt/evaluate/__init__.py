"""Retrieval quality on test collections: by model, precision, width, bits and pooling, with BM25 beside.

collection reads, measures and statistics judge, baseline and run make rankings, cache keeps encodings,
compare and tables set results side by side, plots and report show them.
"""

from __future__ import annotations

from latebolt.evaluate.baseline import bm25_run
from latebolt.evaluate.collection import Collection, read_collection, read_files
from latebolt.evaluate.measures import DEPTH, MEASURES, measure, measure_queries, ranking_of
from latebolt.evaluate.run import Evaluation, Grid, evaluate, evaluate_collection, late_run, rows_of

__all__ = [
    "Collection",
    "DEPTH",
    "Evaluation",
    "Grid",
    "MEASURES",
    "bm25_run",
    "evaluate",
    "evaluate_collection",
    "late_run",
    "measure",
    "measure_queries",
    "ranking_of",
    "read_collection",
    "read_files",
    "rows_of",
]
