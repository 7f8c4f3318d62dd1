"""How well does the built-in model for many languages retrieve, by language, width and bits, beside BM25?

As quality.py, with `multilingual`: every document is scored, for every query. None of these collections had a
part in fitting its head. Needs them at LATEBOLT_DATA (BEIR layout) and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import argparse

from harness import record
from latebolt.evaluate import Grid
from quality import evaluated, numbers

COLLECTIONS = "en=squad,ja=jsquad,zh=drcd"
MODEL = "multilingual"


def main() -> None:
    """BM25 beside every combination of width and bits, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 queries of one collection; keeps no record")
    parser.add_argument("--collections", default=COLLECTIONS, help="language=folder, ...")
    parser.add_argument("--dims", default="128,96,64")
    parser.add_argument("--bits", default="32,4,2,1")
    parser.add_argument("--queries", type=int, default=500, help="at most so many, evenly spread; 0 for all")
    given = parser.parse_args()
    names = ["ja=jsquad"] if given.quick else given.collections.split(",")
    read = {name.partition("=")[0] for name in names}
    grid = Grid(models=(MODEL,), dims=numbers(given.dims), bits=numbers(given.bits))
    rows = evaluated(names, grid, 20 if given.quick else given.queries, read)
    record("multilingual", rows, ("ir-measures", "bm25s"), given.quick)


if __name__ == "__main__":
    main()
