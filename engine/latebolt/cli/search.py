"""`latebolt search` and `latebolt rerank`: hits for people, or JSON for programs."""

from __future__ import annotations

import time

import click

from latebolt.cli.common import (
    hit_lines,
    hit_record,
    json_option,
    match_line,
    model_options,
    note,
    print_json,
)


@click.command("search")
@click.argument("index", type=click.Path())
@click.argument("query")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits wanted.")
@click.option("--where", help="Only documents whose metadata satisfy this, e.g. 'year >= 2020'.")
@click.option("--explain", is_flag=True, help="Say which words matched, and where the time went.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
@json_option
def search_command(
    index: str,
    query: str,
    k: int,
    where: str | None,
    explain: bool,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Print the documents of INDEX that answer QUERY best.

    \b
    latebolt search notes.index "how do I renew my passport"
    latebolt search papers.index "sparse attention" -k 3 --where 'year >= 2020 and lang in ("en", "de")'
    """
    from latebolt import Index
    from latebolt.rerank import align

    start = time.perf_counter()
    opened = Index.open(index, device=device, threads=threads)
    encoder = opened.encoder
    loaded = time.perf_counter()
    hits = opened.search(query, k, where)
    searched = time.perf_counter()
    timings = {"load_ms": 1e3 * (loaded - start), "search_ms": 1e3 * (searched - loaded)}
    wanted = explain or not as_json
    matches = [align(encoder, query, hit.text) if wanted and hit.text else [] for hit in hits]
    if as_json:
        records = [hit_record(hit) for hit in hits]
        if explain:
            for record, found in zip(records, matches, strict=True):
                record["matches"] = [match._asdict() for match in found]
            print_json({"hits": records, **timings})
        else:
            print_json(records)
        return
    if not hits:
        note("no document qualifies")
    for rank, (hit, found) in enumerate(zip(hits, matches, strict=True), start=1):
        click.echo(hit_lines(rank, hit, found))
        if explain:
            click.echo(f"     {match_line(found)}")
    if explain:
        note(f"loading {timings['load_ms']:.0f} ms, search {timings['search_ms']:.1f} ms")


@click.command("rerank")
@click.argument("query")
@click.argument("file")
@click.option("-k", type=click.IntRange(min=1), help="Hits wanted.  [default: all]")
@model_options
@json_option
def rerank_command(
    query: str,
    file: str,
    k: int | None,
    model: str,
    precision: str | None,
    dim: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Order the passages of FILE (one a line, or .jsonl; - for standard input) by QUERY.

    \b
    latebolt rerank "What is the population of Berlin?" passages.txt -k 3
    """
    from latebolt import Encoder
    from latebolt.cli.inputs import read_passages
    from latebolt.rerank import align, check_query

    check_query(query)
    passages = read_passages(file)
    encoder = Encoder.load(model, precision, dim, device, threads)
    hits = encoder.rerank(query, [passage.text for passage in passages], k)
    if as_json:
        print_json([hit_record(hit) for hit in hits])
        return
    for rank, hit in enumerate(hits, start=1):
        click.echo(hit_lines(rank, hit, align(encoder, query, hit.text or "")))
