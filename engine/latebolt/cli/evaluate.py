"""`latebolt eval`: retrieval quality on test collections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latebolt.cli.common import is_terminal, json_option, numbers, table, threads_option
from latebolt.cli.terminal import note, print_json, say

if TYPE_CHECKING:
    from latebolt.evaluate import Collection

_TABLES = ("variants", "dims", "models", "languages")
_MEASURES = ("nDCG@10", "R@10", "R@100", "RR@10", "AP@100")


@click.command("eval")
@click.argument("folders", nargs=-1, type=click.Path(), metavar="[LABEL=]FOLDER...")
@click.option("--corpus", type=click.Path(), help="Instead of folders: documents, JSON lines, plain or .gz.")
@click.option("--queries", type=click.Path(), help="... its queries, JSON lines.")
@click.option("--qrels", type=click.Path(), help="... its judgements: query, document, grade; or TREC's.")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("starter",),
    show_default="starter",
    help="Built-in name, folder, or hub id; may be given several times.",
)
@click.option("--precisions", default="int8", show_default=True, help="e.g. fp32,int8")
@click.option("--dims", default="", help="e.g. 128,64  [default: every head]")
@click.option("--bits", default="32,2", show_default=True, help="32 = exact; 16, 8, 4, 2, 1 = stored.")
@click.option("--pools", default="1", show_default=True, help="Pool factors of documents, e.g. 1,2")
@click.option(
    "--passage-tokens",
    type=click.IntRange(min=1),
    help="Cut documents into passages of so many tokens; the best one counts.",
)
@click.option(
    "--late-chunking",
    is_flag=True,
    help="Beside passages encoded by themselves, those encoded within the text around them.",
)
@click.option("--max-queries", type=click.IntRange(min=1), help="Only so many queries, evenly spread.")
@click.option(
    "--table",
    "shown",
    type=click.Choice(_TABLES),
    default="variants",
    show_default=True,
    help="What to print: a row a combination; or the average over collections by width or by model; or each "
    "label against BM25.",
)
@click.option(
    "--measure",
    type=click.Choice(_MEASURES, case_sensitive=False),
    default="nDCG@10",
    show_default=True,
    help="What is compared, averaged and plotted.",
)
@click.option("--report", type=click.Path(), help="Write report.md, report.json and report.html there.")
@click.option("--cache", type=click.Path(), help="Where encodings are kept.  [default: the user's cache]")
@click.option("--no-cache", is_flag=True, help="Keep no encodings; an interrupted run starts over.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, cuda:0,cuda:1 or auto.")
@threads_option
@json_option
def eval_command(
    folders: tuple[str, ...],
    corpus: str | None,
    queries: str | None,
    qrels: str | None,
    models: tuple[str, ...],
    precisions: str,
    dims: str,
    bits: str,
    pools: str,
    passage_tokens: int | None,
    late_chunking: bool,
    max_queries: int | None,
    shown: str,
    measure: str,
    report: str | None,
    cache: str | None,
    no_cache: bool,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure nDCG, recall, MRR (RR) and MAP (AP) on test collections, with BM25 beside.

    A FOLDER is in BEIR layout: corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/test.tsv; plain or .gz.
    A LABEL such as a language groups collections. Every document is scored for every query, for every
    combination of what is asked for. Differences to BM25 and to the first combination come with 95 %
    intervals of a paired bootstrap over queries; + and - mark those that are significant (p < 0.05,
    corrected by Holm).

    Encodings are kept on disk (4 x dim bytes a token), so a run that was interrupted goes on, and a second
    one with other bits starts at once. Needs: pip install 'latebolt[eval]'

    \b
    latebolt eval ./scifact --dims 128,64 --bits 32,2,1 --report ./report
    latebolt eval ./scifact ./nfcorpus ./fiqa --dims 128,96,64 --bits 32 --table dims
    latebolt eval ./scifact --model starter --model ./my-model --table models
    latebolt eval ja=./jsquad zh=./drcd en=./squad --table languages
    latebolt eval ./manuals --passage-tokens 250 --late-chunking
    latebolt eval --corpus docs.jsonl --queries asked.jsonl --qrels judged.tsv
    """
    from latebolt.caches import cache_folder
    from latebolt.errors import InvalidInput
    from latebolt.evaluate import Grid, evaluate_collection
    from latebolt.evaluate.tables import TABLES

    if cache and no_cache:
        raise InvalidInput("give --cache or --no-cache, not both.")
    grid = Grid(
        models=models,
        precisions=tuple(part.strip() for part in precisions.split(",") if part.strip()),
        dims=numbers(dims, "--dims") or None,
        bits=numbers(bits, "--bits"),
        pools=numbers(pools, "--pools"),
        passage_tokens=passage_tokens,
        late_chunking=late_chunking,
    )
    grid.encoders()  # a model or width that is not there is told before the collections are read
    if report:
        from latebolt.evaluate.report import prepare

        prepare(report)
    collections = _collections(folders, corpus, queries, qrels)
    kept = None if no_cache else Path(cache) if cache else cache_folder("eval")
    found = [
        evaluate_collection(each.with_queries(max_queries), grid, kept, threads, device, is_terminal())
        for each in collections
    ]
    if report:
        from latebolt.evaluate.report import write_report

        for path in write_report(found, report, measure):
            note(f"wrote {path}")
    if as_json:
        print_json(TABLES[shown](found, measure))
        return
    from latebolt.evaluate.report import cell, columns_of, summary

    rows: list[dict[str, Any]] = (
        summary(found, measure) if shown == "variants" else TABLES[shown](found, measure)
    )
    names = columns_of(rows)
    say(table([names, *([cell(row.get(name)) for name in names] for row in rows)]))


def _collections(
    folders: tuple[str, ...], corpus: str | None, queries: str | None, qrels: str | None
) -> list[Collection]:
    """All are read before any is run, so that the last one's mistake is told at once."""
    from latebolt.errors import InvalidInput
    from latebolt.evaluate import read_collection, read_files

    named = (corpus, queries, qrels)
    if not folders and not any(named):
        raise InvalidInput("name a folder in BEIR layout, or --corpus, --queries and --qrels.")
    if any(named) and not all(named):
        raise InvalidInput("--corpus, --queries and --qrels go together; name all three.")
    found = []
    for name in folders:
        label, equals, rest = name.partition("=")
        is_label = bool(equals) and label.strip() != "" and not Path(name).exists()
        found.append(read_collection(rest, label) if is_label else read_collection(name))
    if corpus and queries and qrels:
        found.append(read_files(corpus, queries, qrels))
    return found
