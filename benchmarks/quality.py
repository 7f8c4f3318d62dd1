"""How well does the built-in model retrieve, by width and bits, on real collections?

Every document is scored, for every query: what is measured is the encoder, the head and the codec. Needs the
collections at LATEBOLT_DATA (BEIR layout) and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness import HERE, record
from latebolt.evaluate import evaluate

COLLECTIONS = ("squad", "cosqa", "pubmedqa")


def main() -> None:
    """BM25 beside every combination of width and bits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 queries of one collection; keeps no record")
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--dims", default="128,96,64")
    parser.add_argument("--bits", default="32,4,2,1")
    parser.add_argument("--queries", type=int, default=2000, help="at most so many, evenly spread; 0 for all")
    given = parser.parse_args()
    root = Path(os.environ.get("LATEBOLT_DATA", HERE.parents[1] / "shared" / "data"))
    rows = []
    for name in given.collections.split(",")[: 1 if given.quick else None]:
        rows += evaluate(
            root / name,
            dims=[int(dim) for dim in given.dims.split(",")],
            bits=[int(bits) for bits in given.bits.split(",")],
            max_queries=20 if given.quick else given.queries or None,
            show_progress=True,
        )
    record("quality", rows, ("ir-measures", "bm25s"), given.quick)


if __name__ == "__main__":
    main()
