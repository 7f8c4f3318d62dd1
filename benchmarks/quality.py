"""How well does the built-in model retrieve, by width and bits, on real collections?

Every document is scored, for every query: what is measured is the encoder, the head and the codec. After the
rows of each collection come tables over several: the average by width, by model, and each language against
BM25 with a 95 % interval of the difference. The built-in model reads English: its rows on Japanese (jsquad)
and Chinese (drcd) are what a wrong model gives, and averages by width and model leave them out; what the
right one gives is in multilingual.py. The same with other models: `latebolt eval --table`. Needs the
collections at LATEBOLT_DATA (BEIR layout) and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import argparse
from typing import Any

from harness import data_folder, record
from latebolt.caches import cache_folder
from latebolt.evaluate import Evaluation, Grid, evaluate_collection, read_collection, rows_of
from latebolt.evaluate.tables import TABLES

COLLECTIONS = "en=squad,en=cosqa,en=pubmedqa,ja=jsquad,zh=drcd"
READS = "en"
MEASURE = "nDCG@10"


def main() -> None:
    """BM25 beside every combination of width and bits, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 queries of two collections; keeps no record")
    parser.add_argument("--collections", default=COLLECTIONS, help="language=folder, ...")
    parser.add_argument("--dims", default="128,96,64")
    parser.add_argument("--bits", default="32,4,2,1")
    parser.add_argument("--queries", type=int, default=2000, help="at most so many, evenly spread; 0 for all")
    given = parser.parse_args()
    grid = Grid(dims=numbers(given.dims), bits=numbers(given.bits))
    if given.quick:
        grid = Grid(dims=[64], bits=[32, 2])
    names = ["en=pubmedqa", "ja=jsquad"] if given.quick else given.collections.split(",")
    rows = evaluated(names, grid, 20 if given.quick else given.queries, {READS})
    record("quality", rows, ("ir-measures", "bm25s"), given.quick)


def evaluated(names: list[str], grid: Grid, queries: int, read: set[str]) -> list[dict[str, Any]]:
    """Rows of every collection, language=folder, and of the tables over several.

    Args:
        queries: at most so many of a collection, 0 for all.
        read: the languages that averages by width and model take in.
    """
    evaluations = []
    for name in names:
        language, _, folder = name.partition("=")
        collection = read_collection(data_folder() / folder, language).with_queries(queries or None)
        evaluations.append(evaluate_collection(collection, grid, cache_folder("eval"), show_progress=True))
    return [row for each in evaluations for row in rows_of(each)] + tables(evaluations, read)


def numbers(text: str) -> list[int]:
    """Of a list with commas."""
    return [int(each) for each in text.split(",")]


def tables(evaluations: list[Evaluation], read: set[str]) -> list[dict[str, Any]]:
    """Rows of each table, which "table" names."""
    some = [each for each in evaluations if each.collection.label in read]
    chosen = {"dims": some, "models": some, "languages": evaluations}
    return [{"table": name, **row} for name, some in chosen.items() for row in TABLES[name](some, MEASURE)]


if __name__ == "__main__":
    main()
