"""`latebolt search` and `latebolt rerank`: hits for people, or JSON for programs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from latebolt.cli.common import (
    hit_lines,
    is_set,
    json_option,
    match_line,
    model_options,
    open_index,
    threads_option,
)
from latebolt.cli.suggestions import check_index_first, did_you_mean
from latebolt.cli.terminal import note, print_json, say
from latebolt.errors import InvalidInput, LateboltError

if TYPE_CHECKING:
    from latebolt.encoder.loading import Loading
    from latebolt.hits import Explanation, Hit


@click.command("search")
@click.argument("index", type=click.Path(), metavar="[INDEX]")
@click.argument("query", required=False, metavar="QUERY")
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
@click.option("--url", help="Ask a running `latebolt serve` at this address instead.")
@click.option("--index", "name", help="The name of its index, with --url.")
@click.option(
    "--api-key", envvar="LATEBOLT_API_KEY", show_envvar=True, help="A key of the server. Use the variable."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, cuda:0,cuda:1 or auto.")
@threads_option
@json_option
def search_command(
    index: str,
    query: str | None,
    url: str | None,
    name: str | None,
    api_key: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
    explain: bool,
    **asked: Any,
) -> None:
    """Print the documents of INDEX that answer QUERY best.

    \b
    latebolt search notes.index "how do I renew my passport"
    latebolt search papers.index "sparse attention" -k 3 --where 'year >= 2020 and lang in ("en", "de")'
    latebolt search --url http://127.0.0.1:8080 --index notes "how do I renew my passport"
    """
    if url is None:
        _refuse("--url", name=name)
        if query is None:
            raise click.UsageError("Missing argument 'QUERY'.", click.get_current_context())
        source: _Source = _Local(index, query, device, threads, asked["mode"] != "bm25")
    else:
        _refuse("an index on this machine", device=device, threads=threads)
        if query is not None:
            raise InvalidInput(f"{index}: with --url, the index is named by --index NAME.")
        query = index
        source = _Server(url, name, api_key)
    with source:
        if as_json and not explain:
            print_json([hit.record() for hit in source.hits(query, asked)])
            return
        found = source.explained(query, asked)
    if as_json:
        print_json({**found.record(), "load_ms": source.load_ms})
        return
    _show(found, explain, source.load_ms)


def _refuse(what: str, **options: object) -> None:
    """Options that were given and mean something only with something else."""
    context = click.get_current_context()
    for option in options:
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            flag = {"name": "index"}.get(option, option)
            raise InvalidInput(f"--{flag} is for a search of {what}. Leave one of the two out.")


def _show(found: Explanation, explain: bool, load_ms: float) -> None:
    """Hits for people."""
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


class _Source(Protocol):
    """Where a search is done. `load_ms`: the time until it could be, 0 where that is somebody else's."""

    load_ms: float

    def hits(self, query: str, asked: Mapping[str, Any]) -> Sequence[Hit[str]]:
        """The hits."""

    def explained(self, query: str, asked: Mapping[str, Any]) -> Explanation:
        """The hits, and how they came about."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...


class _Local:
    def __init__(self, index: str, query: str, device: str, threads: int | None, with_model: bool) -> None:
        self._start, self.load_ms = time.perf_counter(), 0.0
        loading = _begun(index, device, threads) if with_model else None
        from latebolt import Encoder
        from latebolt.encoder import few_texts

        check_index_first(index, query)
        if loading is None:
            self._index = open_index(index, device=device, threads=threads)
        else:
            with few_texts.expected():
                self._index = open_index(index, Encoder.of(loading))

    def hits(self, query: str, asked: Mapping[str, Any]) -> Sequence[Hit[str]]:
        found: Sequence[Hit[str]] = self._index.search(query, **asked)
        return found

    def explained(self, query: str, asked: Mapping[str, Any]) -> Explanation:
        self.load_ms = 1e3 * (time.perf_counter() - self._start)
        return self._index.search(query, **asked, explain=True)

    def __enter__(self) -> _Local:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()


class _Server:
    load_ms = 0.0

    def __init__(self, url: str, name: str | None, api_key: str | None) -> None:
        from latebolt.client import Client

        self._client = Client(url, api_key)
        self._name = name if name is not None else self._only_index(url)

    def _only_index(self, url: str) -> str:
        names = [info.name for info in self._client.list_indexes() if info.state == "ready"]
        if len(names) != 1:
            there = f"has {', '.join(names[:20])}" if names else "has none yet"
            raise InvalidInput(f"{url}: which index? Give --index NAME; the server {there}.")
        return names[0]

    def hits(self, query: str, asked: Mapping[str, Any]) -> Sequence[Hit[str]]:
        found: Sequence[Hit[str]] = self._client.search(self._name, query, **asked)
        return found

    def explained(self, query: str, asked: Mapping[str, Any]) -> Explanation:
        return self._client.search(self._name, query, **asked, explain=True)

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


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
    from latebolt.encoder import few_texts
    from latebolt.encoder.tally import gathered

    check_query(query)
    if file != "-" and not Path(file).exists() and Path(query).is_file():
        raise InvalidInput(
            f"{file}: there is no such file, and the query comes first. {did_you_mean(file, query)}"
        )
    passages = read_passages(file)
    with few_texts.expected():
        encoder = Encoder.load(model, precision, dim, device, threads)
    hits = encoder.rerank(query, [passage.text for passage in passages], k)
    if as_json:
        print_json([hit.record() for hit in hits])
        return
    with gathered():  # the ranking has told already what was cut
        alignments = align(encoder, query, [hit.text or "" for hit in hits])
    for rank, (hit, matches) in enumerate(zip(hits, alignments, strict=True), start=1):
        say(hit_lines(rank, hit, matches))


def _begun(index: str, device: str, threads: int | None) -> Loading | None:
    """The model of an index, whose graph loads while the modules are imported that search; None where that
    cannot be, of which whoever opens the index will say why."""
    from latebolt.devices import resolve
    from latebolt.encoder.loading import begin
    from latebolt.index.format.manifest_file import read_manifest

    with contextlib.suppress(LateboltError, OSError):
        folder = Path(index)
        model = read_manifest(folder / "shard-0" if is_set(folder) else folder).model
        if model is not None:
            return begin(model.source, model.precision, model.dim, resolve(device), threads)
    return None
