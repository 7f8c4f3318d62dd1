"""`latebolt eval`: retrieval quality on a collection in BEIR layout."""

from __future__ import annotations

import click

from latebolt.cli.common import is_terminal, json_option, print_json


def _numbers(value: str, what: str) -> tuple[int, ...]:
    from latebolt.errors import InvalidInput

    try:
        return tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise InvalidInput(f'{what} should be numbers such as 128,64, got "{value}".') from error


@click.command("eval")
@click.argument("folders", nargs=-1, required=True, type=click.Path())
@click.option("--model", default="starter", show_default=True, help="Built-in name, folder, or hub id.")
@click.option("--precisions", default="int8", show_default=True, help="e.g. fp32,int8")
@click.option("--dims", default="", help="e.g. 128,64  [default: every head]")
@click.option("--bits", default="32,2", show_default=True, help="32 = exact; 16, 8, 4, 2, 1 = stored.")
@click.option("--max-queries", type=click.IntRange(min=1), help="Only so many queries, evenly spread.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
@json_option
def eval_command(
    folders: tuple[str, ...],
    model: str,
    precisions: str,
    dims: str,
    bits: str,
    max_queries: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure nDCG@10, recall and MRR on FOLDERS (corpus.jsonl, queries.jsonl, qrels.tsv; plain or .gz).

    Every document is scored, with BM25 beside. Needs: pip install 'latebolt[eval]'

    \b
    latebolt eval ./scifact --dims 128,64 --bits 32,2,1
    """
    from latebolt.evaluate import MEASURES, evaluate

    rows = []
    for folder in folders:
        rows += evaluate(
            folder,
            model,
            tuple(part.strip() for part in precisions.split(",") if part.strip()),
            _numbers(dims, "--dims") or None,
            _numbers(bits, "--bits"),
            threads,
            max_queries,
            show_progress=is_terminal(),
        )
    if as_json:
        print_json(rows)
        return
    names = ("collection", "model", "precision", "dim", "bits", "bytes_per_token", *MEASURES)
    table = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(str(line[i])) for line in table) for i in range(len(names))]
    for line in table:
        click.echo("  ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.4f}"
        if isinstance(value, float) and value < 10
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
