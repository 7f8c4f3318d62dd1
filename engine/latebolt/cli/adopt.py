"""`latebolt adopt`: take in what a cluster has encoded."""

from __future__ import annotations

import time
from pathlib import Path

import click

from latebolt.cli.common import is_terminal, json_option
from latebolt.cli.suggestions import check_index_first
from latebolt.cli.terminal import note, print_json


@click.command("adopt")
@click.argument("index", type=click.Path())
@click.argument("parts", nargs=-1, required=True, type=click.Path())
@json_option
def adopt_command(index: str, parts: tuple[str, ...], as_json: bool) -> None:
    """Take PARTS into INDEX without encoding anything again.

    PARTS are folders that `latebolt encode --on ray` has filled, or indexes of the same model and centroids.
    Every byte is checked first. All indexes and parts of one come in by one step: when anything fails, INDEX
    stays as it was. Parquet files of vectors come in one by one; do it again when it was stopped. A document
    whose id exists is replaced, so adopting twice changes nothing.

    \b
    latebolt index my.index sample.jsonl
    latebolt encode --on ray --index my.index corpus.parquet parts
    latebolt adopt my.index parts
    """
    from latebolt import Index
    from latebolt.index.ingest.parts import is_vectors

    if Path(index).exists():
        check_index_first(index, *parts)
    started = time.perf_counter()
    opened = Index.open(index)
    vectors = [part for part in parts if is_vectors(Path(part))]
    codes = [part for part in parts if part not in vectors]
    adopted = opened.adopt(codes, show_progress=is_terminal()) if codes else 0
    for part in vectors:
        from latebolt.adapters.parquet import add_parts

        adopted += add_parts(opened, part, show_progress=is_terminal())
    info, seconds = opened.info(), time.perf_counter() - started
    if as_json:
        print_json({**info, "adopted": adopted, "seconds": seconds})
    else:
        counts = f"{info['documents']} documents, {info['tokens']} tokens"
        note(f"{index}: {adopted} adopted in {seconds:.1f} s; {counts}")
