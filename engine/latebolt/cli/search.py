"""`latebolt search` and `latebolt rerank`: hits for people, or JSON for programs."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebolt.cli.common import hit_lines, is_index, json_option, match_line, model_options, threads_option
from latebolt.cli.terminal import note, print_json, say
from latebolt.errors import InvalidInput

if TYPE_CHECKING:
    from latebolt.index.search.fusion import Mode


@click.command("search")
@click.argument("index", type=click.Path())
@click.argument("query")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits wanted.")
@click.option("--where", help="Only documents whose metadata satisfy this, e.g. 'year >= 2020'.")
@click.option(
    "--mode",
    type=click.Choice(["late", "bm25", "hybrid"]),
    default="late",
    show_default=True,
    help="By late interaction, by shared words, or by both.",
)
@click.option("--exhaustive", is_flag=True, help="Score every document exactly, however many there are.")
@click.option("--explain", is_flag=True, help="Say which words matched, and where the time went.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@threads_option
@json_option
def search_command(
    index: str,
    query: str,
    k: int,
    where: str | None,
    mode: Mode,
    exhaustive: bool,
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

    start = time.perf_counter()
    if not is_index(index) and is_index(query):
        raise InvalidInput(f"{query}: is an index, and the index comes first. {_swapped(query, index)}")
    opened = Index.open(index, device=device, threads=threads)
    if as_json and not explain:
        print_json([hit.record() for hit in opened.search(query, k, where, exhaustive, mode)])
        return
    opened.encoder  # noqa: B018 - loaded now, so that the search's own time can be told
    loaded = time.perf_counter()
    found = opened.search(query, k, where, exhaustive, mode, explain=True)
    load_ms = 1e3 * (loaded - start)
    if as_json:
        print_json({**found.record(), "load_ms": load_ms})
        return
    if not found.hits:
        note("no document qualifies")
    for rank, (hit, matches) in enumerate(zip(found.hits, found.alignments, strict=True), start=1):
        say(hit_lines(rank, hit, matches))
        if explain:
            say(f"     {match_line(matches)}")
    if explain:
        for stage in found.stages:
            documents = f", {stage.documents} documents" if stage.documents else ""
            note(f"{stage.name}: {stage.ms:.1f} ms{documents}")
        for road in found.roads:
            note(f"segment {road.segment}: {road.way}, since {road.why}")
        note(f"loading: {load_ms:.0f} ms")


def _swapped(first: str, second: str) -> str:
    command = click.get_current_context().info_name
    return f"Did you mean latebolt {command} {shlex.quote(first)} {shlex.quote(second)}?"


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
    from latebolt.alignment import align
    from latebolt.checks import check_query
    from latebolt.corpus.documents import read_passages
    from latebolt.encoder.tally import gathered

    check_query(query)
    if file != "-" and not Path(file).exists() and Path(query).is_file():
        raise InvalidInput(
            f"{file}: there is no such file, and the query comes first. {_swapped(file, query)}"
        )
    passages = read_passages(file)
    encoder = Encoder.load(model, precision, dim, device, threads)
    hits = encoder.rerank(query, [passage.text for passage in passages], k)
    if as_json:
        print_json([hit.record() for hit in hits])
        return
    with gathered():  # the ranking has told already what was cut
        alignments = align(encoder, query, [hit.text or "" for hit in hits])
    for rank, (hit, matches) in enumerate(zip(hits, alignments, strict=True), start=1):
        say(hit_lines(rank, hit, matches))
