"""How long should the windows be in which the built-in model for many languages reads documents?

The same model reads each document at once, which cuts it off behind 512 tokens, and in windows of so many
tokens, each encoded by itself, whose vectors are joined. Every document is scored for every question, int8,
128 dimensions, float32 vectors; differences to reading at once have 95 % intervals of a paired bootstrap.
Needs the collections at LATEBOLT_DATA (BEIR layout) and `pip install 'latebolt[eval]'`; `--collections
tr=/my/tquad` takes others, by their folders.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from harness import data_folder, record
from latebolt import contract
from latebolt.caches import cache_folder
from latebolt.contract import TOKENS_IN_WINDOWS
from latebolt.encoder.model_folder import find
from latebolt.evaluate import Grid, evaluate_collection, read_collection
from latebolt.evaluate.compare import compare

MODEL, MEASURE = "multilingual", "nDCG@10"
WINDOWS = (128, 160, 200)
QUESTIONS = 1000


def with_window(place: Path, window: int | None) -> str:
    """A folder of the model whose documents are read in windows of so many tokens, or at once."""
    source = find(MODEL)
    folder = place / ("at once" if window is None else f"{window} tokens")
    folder.mkdir()
    for path in source.path.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / contract.FILE_NAME).unlink()
    most = source.contract.max_tokens if window is None else TOKENS_IN_WINDOWS
    rules = msgspec.structs.replace(source.contract.document, window=window, max_tokens=most)
    contract.write(msgspec.structs.replace(source.contract, document=rules), folder)
    return str(folder)


def rows_of(name: str, label: str, models: dict[str, str], questions: int) -> list[dict[str, Any]]:
    """A row for BM25 and one for each way to read a collection's documents."""
    folder = Path(name)
    collection = read_collection(folder if folder.is_absolute() else data_folder() / folder, label)
    collection = collection.with_queries(questions)
    grid = Grid(models=tuple(models.values()), dims=[128], bits=[32])
    evaluation = evaluate_collection(collection, grid, cache_folder("eval"), show_progress=True)
    bm25, *ways = evaluation.scored
    base = {"collection": folder.name, "language": label, "queries": len(collection.queries)}
    changes = {each.scored.name: each for each in compare(evaluation, MEASURE) if each.other is ways[0]}
    rows = [{**base, "read": "BM25", MEASURE: bm25.mean(MEASURE)}]
    for way, scored in zip(models, ways, strict=True):
        row = {**base, "read": way, MEASURE: scored.mean(MEASURE)}
        if scored is not ways[0]:
            change = changes[scored.name].difference
            row |= {"difference": change.mean, "low": change.low, "high": change.high}
        rows.append(row)
    return rows


def main() -> None:
    """Every collection in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="20 questions of one collection; keeps no record"
    )
    parser.add_argument("--collections", default="en=squad,ja=jsquad,zh=drcd", help="language=folder, ...")
    parser.add_argument("--queries", type=int, default=QUESTIONS, help="at most so many, evenly spread")
    given = parser.parse_args()
    some = ["ja=jsquad"] if given.quick else given.collections.split(",")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        ways: list[int | None] = [None, 160] if given.quick else [None, *WINDOWS]
        folders = [with_window(Path(place), window) for window in ways]
        models = {Path(folder).name: folder for folder in folders}
        for each in some:
            label, _, name = each.partition("=")
            rows += rows_of(name, label, models, 20 if given.quick else given.queries)
    record("windows", rows, ("ir-measures", "bm25s"), given.quick)


if __name__ == "__main__":
    main()
