"""How well does the starter, the English model, retrieve, by width and bits, on real collections?

Every document is scored, for every query: what is measured is the encoder, the head and the codec. After the
rows of each collection come tables over several: the average by width, by model, and each language against
BM25 with a 95 % interval of the difference. The starter reads English: its rows on Japanese (jsquad)
and Chinese (drcd) are what a wrong model gives, and averages by width and model leave them out; what the
right one gives is in multilingual.py. The same with other models: `latebolt eval --table`. Needs the
collections at LATEBOLT_DATA (BEIR layout) and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from harness import data_folder, record
from latebolt.caches import cache_folder
from latebolt.evaluate import Evaluation, Grid, evaluate_collection, read_collection, rows_of
from latebolt.evaluate.tables import TABLES

COLLECTIONS = "en=squad,en=cosqa,en=pubmedqa,ja=jsquad,zh=drcd"
QUICK_COLLECTIONS = "en=pubmedqa,ja=jsquad"
MEASURE = "nDCG@10"


def main() -> None:
    """BM25 beside every combination of width and bits, then the tables."""
    run("quality", __doc__, "starter", COLLECTIONS, QUICK_COLLECTIONS, 2000, {"en"})


def run(
    name: str,
    description: str | None,
    model: str,
    collections: str,
    quick_collections: str,
    queries: int,
    read: set[str],
) -> None:
    """The command of a benchmark of one model.

    Args:
        name: of the record.
        collections: language=folder, with commas, or folder:160 for its documents in passages of 160 tokens;
            quick_collections: those of --quick.
        queries: at most so many of a collection, if the command line does not say otherwise.
        read: the languages that averages by width and model take in.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="20 queries of few collections; keeps no record")
    parser.add_argument("--collections", help="language=folder[:passage_tokens], ...")
    parser.add_argument("--dims", default="128,96,64")
    parser.add_argument("--bits", default="32,4,2,1")
    parser.add_argument("--queries", type=int, default=queries, help="at most so many, evenly spread; 0: all")
    given = parser.parse_args()
    grid = Grid(models=(model,), dims=numbers(given.dims), bits=numbers(given.bits))
    if given.quick:
        grid = Grid(models=(model,), dims=[64], bits=[32, 2])
    evaluations = []
    for each in (given.collections or (quick_collections if given.quick else collections)).split(","):
        language, _, folder = each.partition("=")
        folder, _, tokens = folder.partition(":")
        collection = read_collection(data_folder() / folder, language)
        collection = collection.with_queries(20 if given.quick else given.queries or None)
        cut = dataclasses.replace(grid, passage_tokens=int(tokens) if tokens else None)
        evaluations.append(evaluate_collection(collection, cut, cache_folder("eval"), show_progress=True))
    rows = [row for one in evaluations for row in rows_of(one)] + tables(evaluations, read)
    record(name, rows, ("ir-measures", "bm25s"), given.quick)


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
