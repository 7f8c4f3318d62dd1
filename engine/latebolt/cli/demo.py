"""`latebolt demo`: the whole job on text every machine has, offline, with time and size of each step."""

from __future__ import annotations

import platform
import shlex
import time
from pathlib import Path

import click

from latebolt.cli.common import (
    hit_lines,
    human_bytes,
    is_terminal,
    json_option,
    match_line,
    resident_mb,
    threads_option,
)
from latebolt.cli.terminal import print_json, say, styled

# Asked of the English docstrings by a model that reads other languages too.
QUESTIONS_ELSEWHERE = (
    "wie entpacke ich ein zip-archiv",
    "как разделить строку по пробелам",
    "cómo comprimir un archivo con gzip",
    "ファイルをコピーする",
)
QUESTIONS = (
    "how do I read a zip file",
    "split a string on whitespace",
    "run a function in another process",
)
BERLIN_QUERY = "What is the population of Berlin?"
BERLIN_QUERIES_ELSEWHERE = (
    "Wie viele Einwohner hat Berlin?",
    "¿Cuántos habitantes tiene Berlín?",
    "Сколько людей живёт в Берлине?",
    "柏林有多少人口？",
)
BERLIN_PASSAGES = (
    "The population of Berlin grew by about 27,000 people last year, the city's statistical office reports.",
    "Mount Berlin is a glacier-covered volcano in Marie Byrd Land, Antarctica.",
    "Population as of 31.12.2023 by nationality and federal states: Germans, foreigners, total, per cent.",
    "The urban area of Berlin has about 4.5 million people, which makes it the most populous of Germany.",
    "Irving Berlin was an American composer and songwriter, born in 1888.",
    "Berlin is a town in Hartford County, Connecticut, with a population of 20,175 at the 2020 census.",
    "Berlin is the capital and largest city of Germany, with more than 3.85 million inhabitants.",
    "Babylon Berlin is a German television series set in the last years of the Weimar Republic.",
)


@click.command("demo")
@click.option(
    "--index",
    "folder",
    default="latebolt-demo",
    show_default=True,
    type=click.Path(),
    help="Where the index is kept; a second run reuses it.",
)
@click.option(
    "--model",
    type=click.Choice(["starter", "multilingual"]),
    default="starter",
    show_default=True,
    help="Built-in model: English, or many languages.",
)
@click.option("--bits", type=click.Choice(["1", "2", "4"]), default="2", show_default=True)
@threads_option
@json_option
def demo_command(folder: str, model: str, bits: str, threads: int | None, as_json: bool) -> None:
    """Rerank passages, index the standard library's docstrings, answer questions: offline, no PyTorch.

    Asks eight passages about Berlin; then reads the docstrings of this Python's public modules, classes and
    functions, encodes them with a built-in model, keeps them as residual codes on disk, and searches them
    in plain English; with `--model multilingual`, which takes minutes, in other languages too.

    \b
    latebolt demo
    latebolt demo --model multilingual --index many-languages
    """
    from latebolt import Encoder, memory
    from latebolt.alignment import align

    memory.do_with_little()  # it is for trying out, beside whatever else runs on somebody's laptop

    def tell(text: str = "") -> None:
        if not as_json:
            say(text)

    report: dict[str, object] = {}
    start = time.perf_counter()
    encoder = Encoder.load(model, threads=threads)
    elsewhere = model != "starter"
    load_s = time.perf_counter() - start
    tell(
        f"model   {encoder.model} {encoder.precision}, dim {encoder.dim}, {encoder.threads} threads: "
        f"loaded in {1e3 * load_s:.0f} ms"
    )
    report["load_ms"] = 1e3 * load_s

    # Ahead of the index, which takes its time: a model is tried in a second.
    reranked = []
    for query in (BERLIN_QUERY, *BERLIN_QUERIES_ELSEWHERE * elsewhere):
        start = time.perf_counter()
        ranked = encoder.rerank(query, list(BERLIN_PASSAGES), k=3)
        took_ms = 1e3 * (time.perf_counter() - start)
        tell(f"\n{styled(f'rerank 8 passages: {query}', bold=True)}   ({took_ms:.1f} ms)")
        for rank, hit in enumerate(ranked, start=1):
            tell(hit_lines(rank, hit, align(encoder, query, [hit.text or ""])[0]))
        reranked.append({"query": query, "ms": took_ms, "hits": [hit.record() for hit in ranked]})
    report["rerank"] = reranked[0]
    if elsewhere:
        report["rerank_elsewhere"] = reranked[1:]
    version = f"{platform.python_version()}-{bits}bit"
    path = Path(folder) / (f"python-{version}-{model}" if elsewhere else f"python-{version}")
    index, report["built"] = _open_or_build(path, encoder, int(bits), tell)
    info = index.info()
    tell(
        f"index   {info['documents']} documents, {info['tokens']} tokens, {human_bytes(info['bytes'])} "
        f"on disk; {info['bytes_per_token']:.0f} bytes a token where float32 takes {4 * info['dim']}"
    )
    report["index"] = info

    encoder.encode_queries(["warm up"])  # the session of queries made room for that of documents
    answers = []
    for question in QUESTIONS + QUESTIONS_ELSEWHERE * elsewhere:
        start = time.perf_counter()
        hits = index.search(question, k=3)
        took_ms = 1e3 * (time.perf_counter() - start)
        tell(f"\n{styled(question, bold=True)}   ({took_ms:.1f} ms)")
        for rank, hit in enumerate(hits, start=1):
            [matches] = align(encoder, question, [hit.text or ""])
            tell(hit_lines(rank, hit, matches, 160))
            tell(f"     {styled(match_line(matches), dim=True)}")
        answers.append({"query": question, "ms": took_ms, "hits": [hit.record() for hit in hits]})
    report["answers"] = answers

    report["peak_memory_mb"] = resident_mb()
    tell(f"\npeak memory {resident_mb():.0f} MB. Ask it something yourself:")
    tell(f'  latebolt search {shlex.quote(str(path))} "your question"')
    if not elsewhere:
        tell("In other languages: latebolt demo --model multilingual")
    if as_json:
        print_json(report)


def _open_or_build(path: Path, encoder, bits: int, tell):  # type: ignore[no-untyped-def]
    """The demo's index, built when it is not there yet, and figures of the building."""
    from latebolt import Index
    from latebolt.corpus.stdlib import read_stdlib
    from latebolt.errors import ModelMismatch

    try:
        index = Index.open_or_create(path, encoder, bits)
    except ModelMismatch:
        import shutil

        shutil.rmtree(path)  # of an older version of the built-in model
        index = Index.create(path, encoder, bits)
    if len(index):
        tell(f"corpus  reusing the index at {path}")
        return index, None
    start = time.perf_counter()
    documents = read_stdlib()
    read_s = time.perf_counter() - start
    tell(f"corpus  {len(documents)} docstrings of Python {platform.python_version()}, read in {read_s:.1f} s")
    start = time.perf_counter()
    index.add(
        [document.text for document in documents],
        [document.id or "" for document in documents],
        [document.metadata for document in documents],
        show_progress=is_terminal(),
    )
    built_s = time.perf_counter() - start
    tokens = index.info()["tokens"]
    tell(
        f"build   encoded and written in {built_s:.1f} s ({tokens / built_s:,.0f} tokens/s, "
        f"{len(documents) / built_s:.0f} documents/s)"
    )
    return index, {"read_s": read_s, "build_s": built_s, "documents": len(documents)}
