"""Turns the records under results/ into REPORT.md and the figures of the README.

Run it after a benchmark; nothing in the report is typed by hand.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import HERE, RESULTS


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; columns that are the same in every row are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    kept = [n for n in names if len({str(row.get(n)) for row in rows}) > 1 or len(rows) == 1]
    lines = ["| " + " | ".join(kept) + " |", "|" + " --- |" * len(kept)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in kept) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def constants(rows: list[dict[str, Any]]) -> str:
    """What every row shares."""
    if len(rows) < 2:
        return ""
    shared = {n: rows[0][n] for n in rows[0] if len({str(row.get(n)) for row in rows}) == 1}
    return ", ".join(f"{name} {_cell(value)}" for name, value in shared.items())


def section(record: dict[str, Any]) -> str:
    """One benchmark's part of the report, with the question its file asks."""
    name = record["benchmark"]
    question = (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or "").strip()
    machine = record["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    plain = [row for row in record["rows"] if "table" not in row]
    tables = "".join(f"\n\n{markdown(rows)}" for rows in _named_tables(record["rows"]))
    return (
        f"## {name}\n\n{question}\n\n{markdown(plain)}{tables}\n\n"
        + (f"In every row: {constants(plain)}. " if constants(plain) else "")
        + f"Measured {record['date']} at {record['commit']} on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['isa']}, Python {machine['python']}; {versions}. Again: `python benchmarks/{name}.py`\n"
    )


def _named_tables(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """The rows of each table that a record holds beside its own rows."""
    for name in dict.fromkeys(row["table"] for row in rows if "table" in row):
        yield [row for row in rows if row.get("table") == name]


def table_quality(rows: list[dict[str, Any]], model: str = "starter", script: str = "quality") -> str:
    """nDCG@10 by collection, width and bits, with bytes a token."""
    rows = [row for row in rows if "table" not in row]
    late = [row for row in rows if row["model"] != "BM25"]
    # Of documents in passages, too: BM25 reads them whole, as it does without.
    collections = list(dict.fromkeys((row["collection"], row.get("passages") or "") for row in late))
    most = max(row["queries"] for row in rows)
    lines = [
        f"Retrieval quality of the {model}, nDCG@10 over at most {most} queries of a collection "
        f"(`python benchmarks/{script}.py --queries {most}`):",
        "",
        "| model | bytes a token | "
        + " | ".join(name + (f", passages of {cut} tokens" if cut else "") for name, cut in collections)
        + " |",
        "| --- |" + " ---: |" * (len(collections) + 1),
    ]

    def line(label: str, size: str, chosen: list[dict[str, Any]]) -> str:
        found = {(row["collection"], row.get("passages") or ""): row["nDCG@10"] for row in chosen}
        shown = [found[each if each in found else (each[0], "")] for each in collections]
        return f"| {label} | {size} | " + " | ".join(f"{gain:.3f}" for gain in shown) + " |"

    lines.append(line("BM25", "–", [row for row in rows if row["model"] == "BM25"]))
    for dim, bits in dict.fromkeys((row["dim"], row["bits"]) for row in late):
        chosen = [row for row in late if (row["dim"], row["bits"]) == (dim, bits)]
        label = f"dim {dim}, float32" if bits == 32 else f"dim {dim}, {bits} bit"
        lines.append(line(label, f"{chosen[0]['bytes_per_token']:.0f}", chosen))
    return "\n".join(lines)


def table_multilingual(rows: list[dict[str, Any]]) -> str:
    """The same of the model for many languages."""
    return table_quality(rows, "model for many languages", "multilingual")


def table_codec(rows: list[dict[str, Any]]) -> str:
    """nDCG@10 that the codes in use lose, by bits, width and collection."""
    kept = [row for row in rows if row["weights"].startswith("Lloyd-Max")]
    collections = list(dict.fromkeys(row["collection"] for row in kept))
    lines = [
        "What the codes lose in nDCG@10 against float32, mean over several seeds ± their standard deviation "
        "(`python benchmarks/codec.py`):",
        "",
        "| | bytes a token | " + " | ".join(collections) + " |",
        "| --- |" + " ---: |" * (len(collections) + 1),
    ]
    for dim, weights in dict.fromkeys((row["dim"], row["weights"]) for row in kept):
        chosen = [row for row in kept if (row["dim"], row["weights"]) == (dim, weights)]
        losses = [f"{row['loss']:.4f} ± {row['loss_sd']:.4f}" for row in chosen]
        bits = weights.removeprefix("Lloyd-Max ")
        lines.append(f"| dim {dim}, {bits} | {chosen[0]['bytes']:.0f} | " + " | ".join(losses) + " |")
    return "\n".join(lines)


def table_pooling(rows: list[dict[str, Any]]) -> str:
    """nDCG@10 and bytes a document, by what pooling keeps and bits."""
    collections = list(dict.fromkeys(row["collection"] for row in rows))
    lines = [
        "What token pooling and bits leave of nDCG@10, and bytes a document of codes "
        "(`python benchmarks/pooling.py`; [curves](results/pooling.svg)):",
        "",
        "| vectors kept | bits | " + " | ".join(f"{name} | bytes" for name in collections) + " |",
        "| --- | ---: |" + " ---: |" * (2 * len(collections)),
    ]
    for kept, bits in dict.fromkeys((row["kept"], row["bits"]) for row in rows):
        found = {row["collection"]: row for row in rows if (row["kept"], row["bits"]) == (kept, bits)}
        cells = [
            f"{found[name]['nDCG@10']:.3f} | {found[name]['bytes_a_document']:,.0f}" for name in collections
        ]
        lines.append(f"| {kept} | {'float32' if bits == 32 else bits} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table_maxsim(rows: list[dict[str, Any]]) -> str:
    """Nanoseconds a document token, out of cache."""
    chosen = [row for row in rows if row["size"] == "out of cache"]
    lines = [
        "MaxSim, 32 query tokens x 128 dimensions, ns a document token, out of cache "
        "(`python benchmarks/maxsim.py`):",
        "",
        "| | 1 thread | 2 threads |",
        "| --- | ---: | ---: |",
    ]
    for kernel in dict.fromkeys(row["kernel"] for row in chosen):
        found = {row["threads"]: row["ns_a_token"] for row in chosen if row["kernel"] == kernel}
        lines.append(f"| {kernel} | {found[1]:.1f} | {found[2]:.1f} |")
    return "\n".join(lines)


def table_encode(rows: list[dict[str, Any]]) -> str:
    """Documents a second in bulk, one short text, memory."""
    lines = [
        "Encoding real texts of mixed lengths, 2 threads, the same weights (`python benchmarks/encode.py`):",
        "",
        "| encoder | | documents/s | one short text, ms | peak MB |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    measured = [row for row in rows if "documents_per_s" in row]
    for row in measured:
        lines.append(
            f"| {row['encoder']} | {row['contender']} | {row['documents_per_s']:.0f} "
            f"| {row['one_short_text_ms']:.1f} | {row['peak_MB']:.0f} |"
        )
    unchecked = [row["encoder"] for row in measured if row.get("vectors", "").startswith("not checked")]
    if unchecked:
        lines += ["", f"Peers' vectors were not compared with ours: {'; '.join(dict.fromkeys(unchecked))}."]
    return "\n".join(lines)


def table_cold_start(rows: list[dict[str, Any]]) -> str:
    """Times and memory of a fresh process, in a sentence."""
    found = {row["what"]: row for row in rows}
    whole = found["embedded process, start to exit"]
    return (
        "A fresh process imports latebolt, loads model and index, answers twice and exits in "
        f"{whole['ms']:.0f} ms at {whole['peak_MB']:.0f} MB resident. Without a model, the first search of a "
        f"process takes {found['first search of an index, kernels compiled']['ms']:.0f} ms, and "
        f"{found['first search of an index, no kernel compiled yet']['ms']:.0f} ms where the machine has not "
        "compiled its kernels yet (`python benchmarks/cold_start.py`)." + table_first_answers(rows)
    )


# Steps of a cold search that are not ours to shorten.
_OTHERS_STEPS = (
    "interpreter and site",
    "the command line (click)",
    "NumPy",
    "msgspec, sqlite3, tokenizers",
    "ONNX Runtime",
)


def table_cold_search(rows: list[dict[str, Any]]) -> str:
    """The steps of a cold `latebolt search`, by model, what its parts take alone, and what is not ours."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    steps = [row for row in rows if row["part"] != "alone"]
    alone = [row for row in rows if row["part"] == "alone"]
    kept = {(row["model"], row["what"]): row["ms"] for row in rows}

    def by_model(some: list[dict[str, Any]], keys: dict[str, str]) -> list[str]:
        body = []
        for what in dict.fromkeys(row["what"] for row in some):
            found = {row["model"]: row for row in some if row["what"] == what}
            cells = [found[model].get(key) for model in models for key in keys]
            body.append([what, *("" if cell is None else f"{cell:.0f}" for cell in cells)])
        return _table("", [f"{model}, {unit}" for model in models for unit in keys.values()], body)

    whole = kept["starter", "`latebolt search`"]
    others = sum(kept["starter", step] for step in _OTHERS_STEPS)
    saved = " and ".join(
        f"{kept[model, 'graph'] - kept[model, 'graph, optimised beforehand']:.0f} ms ({model})"
        for model in models
    )
    return "\n".join(
        [
            "Where a cold `latebolt search` spends its time, from the start of its process to its exit "
            "(`python benchmarks/cold_search.py`):",
            "",
            *by_model(steps, {"ms": "ms", "cpu_ms": "CPU ms"}),
            "",
            "Parts of loading the model, each alone in a process:",
            "",
            *by_model(alone, {"ms": "ms"}),
            "",
            f"Of the starter's {whole:.0f} ms, {others:.0f} are the interpreter and imports of other "
            f"libraries, and {kept['starter', 'graph']:.0f} ONNX Runtime's loading of the graph. A cache of "
            f"the optimised graph would take {saved} off a thread that others run beside; there is none.",
        ]
    )


def _table(head: str, numbers: list[str], lines: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table of a column of names and columns of numbers."""
    top = [f"| {head} | " + " | ".join(numbers) + " |", "| --- |" + " ---: |" * len(numbers)]
    return top + ["| " + " | ".join(line) + " |" for line in lines]


def table_first_answers(rows: list[dict[str, Any]]) -> str:
    """Import, loading and the first answer of a fresh process, beside others; "" where none was measured."""
    chosen = [row for row in rows if row["what"].startswith("first answer: ")]
    if len(chosen) < 2:
        return ""
    numbers = ["import, ms", "load, ms", "first answer, ms", "together, ms", "peak MB"]
    lines = (
        [
            row["what"].removeprefix("first answer: "),
            *(f"{row[name]:.0f}" for name in ("import_ms", "load_ms", "answer_ms", "ms", "peak_MB")),
        ]
        for row in chosen
    )
    return "\n\n" + "\n".join(_table("a fresh process", numbers, lines))


def table_frameworks(rows: list[dict[str, Any]]) -> str:
    """What an import changes for users of two libraries."""
    numbers = ["import, s", "index, s", "a search, ms", "peak MB", "index, MB", "installed, MB"]
    lines = (
        [
            row["contender"],
            *(f"{row[name]:.1f}" for name in ("import_s", "build_s", "p50_ms")),
            f"{row['peak_MB']:.0f}",
            f"{row['disk_MB']:.1f}",
            f"{row['installed_MB']:.0f}",
        ]
        for row in rows
    )
    title = (
        f"The libraries that two adapters stand for, {rows[0]['passages']:,} passages, the same weights, "
        f"{rows[0]['threads']} threads (`python benchmarks/frameworks.py`):"
    )
    return "\n".join([title, "", *_table("", numbers, lines)])


def table_qdrant(rows: list[dict[str, Any]]) -> str:
    """Copies in Qdrant beside their index."""
    title = (
        f"The same {rows[0]['documents']:,} documents in an index and in Qdrant's own engine, in one process "
        "(`python benchmarks/qdrant.py`):"
    )
    return _beside_engines(title, rows)


def table_engines(rows: list[dict[str, Any]]) -> str:
    """Other engines beside an index."""
    title = (
        f"The same {rows[0]['documents']:,} documents in an index, in LanceDB and in PostgreSQL with "
        "pgvector (`python benchmarks/engines.py`):"
    )
    return _beside_engines(title, rows)


def _beside_engines(title: str, rows: list[dict[str, Any]]) -> str:
    """What was not measured of a row is a dash."""
    numbers = {
        "p50, ms": ("p50_ms", ".1f"),
        "share of the exact top 10": ("overlap", ".3f"),
        "build, s": ("build_s", ".1f"),
        "bytes a token": ("bytes_per_token", ".0f"),
        "in memory": ("resident_bytes_per_token", ".0f"),
    }
    kept = {name: about for name, about in numbers.items() if any(about[0] in row for row in rows)}
    lines = (
        [row["name"], *(f"{row[key]:{form}}" if key in row else "–" for key, form in kept.values())]
        for row in rows
        if "left out" not in row
    )
    left_out = [f"{row['name']}: {row['left out']}." for row in rows if "left out" in row]
    return "\n".join([title, "", *_table("", list(kept), lines), *(["", *left_out] if left_out else [])])


def table_search(rows: list[dict[str, Any]]) -> str:
    """Build, size, memory, speed and quality of one search after another."""
    lengths = [row for row in rows if row.get("table") == "lengths"]
    rows = [row for row in rows if "table" not in row]
    first = rows[0]
    lost_over = max(row.get("queries for lost", 0) for row in rows)
    lines = [
        f"Search, {first['documents']:,} documents, {first['tokens']:,} tokens, {first['threads']} threads, "
        f"{first['queries']} queries, the same vectors (`python benchmarks/search.py`):",
        "",
        "| | build, s | bytes a token | resident MB | p50, ms | x NumPy | batch, queries/s | nDCG@10 "
        f"| lost over {lost_over:,} queries (95 %) |",
        "| --- |" + " ---: |" * 8,
    ]
    for row in rows:
        build = f"{row['build_s']:.0f}" if row.get("build_s") is not None else "–"
        size = f"{row['bytes_a_token']:.0f}" if row.get("bytes_a_token") is not None else "–"
        lost = f"{row['lost']:.4f} ({row['lost, 95 %']})" if row.get("lost") is not None else "–"
        lines.append(
            f"| {row['contender']} | {build} | {size} | {row['resident_MB']:.0f} | {row['p50_ms']:.2f} "
            f"| {row['x NumPy']:.1f} | {row['batch_queries_per_s']:.0f} | {row['nDCG@10']:.3f} | {lost} |"
        )
    if lengths:
        lines += ["", *lines_by_length(lengths)]
    return "\n".join(lines)


def lines_by_length(rows: list[dict[str, Any]]) -> list[str]:
    """The share of exact hits that are found, and the median, by words of the question."""
    words = list(dict.fromkeys(row["words"] for row in rows))
    lines = [
        "The same by length of question: first hit and first ten as exact scoring has them, median in ms:",
        "",
        "| words | " + " | ".join(str(n) for n in words) + " |",
        "| --- |" + " ---: |" * len(words),
    ]
    for contender in dict.fromkeys(row["contender"] for row in rows):
        found = {row["words"]: row for row in rows if row["contender"] == contender}
        cells = [f"{r['overlap@1']:.2f}, {r['overlap@10']:.3f}, {r['p50_ms']:.1f}" for r in found.values()]
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    return lines


def table_peers(rows: list[dict[str, Any]]) -> str:
    """A table for each size and number of threads: what each setting of each contender costs and finds."""
    lengths = [row for row in rows if row.get("table") == "lengths"]
    speeds = [row for row in rows if "batch_queries_per_s" in row]
    left_out = [row for row in rows if "left out" in row]
    parts = [
        "## Other libraries, beside each other\n\nThe same vectors, each contender in its own process "
        "(`python benchmarks/peers.py`). By words of a query: first hit and first ten as exact scoring has "
        "them, median in ms."
    ]
    for tokens, threads in sorted({(row["tokens"], row["threads"]) for row in lengths}):
        words = list(dict.fromkeys(row["words"] for row in lengths if row["tokens"] == tokens))
        lines = []
        for row in speeds:
            if (row["tokens"], row["threads"]) != (tokens, threads):
                continue
            same = ("contender", "setting", "tokens", "threads")
            found = {r["words"]: r for r in lengths if all(r[name] == row[name] for name in same)}
            cells = [
                f"{one['overlap@1']:.2f}, {one['overlap@10']:.3f}, {one['p50_ms']:.2f}"
                for one in (found[each] for each in words)
            ]
            build, size = (
                f"{row[name]:.0f}" if row.get(name) is not None else "–"
                for name in ("build_s", "bytes_a_token")
            )
            about = [build, size, f"{row['resident_MB']:.0f}", f"{row['batch_queries_per_s']:.0f}"]
            lines.append([f"{row['contender']}, {row['setting']}", *about, *cells])
        names = ["build, s", "bytes a token", "resident MB", "batch, queries/s", *words]
        on = "one thread" if threads == 1 else f"{threads} threads"
        parts.append("\n".join([f"{tokens:,} tokens, {on}:", "", *_table("", names, lines)]))
    parts += [f"{row['tokens']:,} tokens: {row['contender']} {row['left out']}." for row in left_out]
    return "\n\n".join(parts)


def table_real_scale(rows: list[dict[str, Any]]) -> str:
    """Milliseconds and overlap by size, commit and kind of question, and queries a second of many at once."""
    parts = []
    runs = [(row["documents"], row["commit"], row["threads"]) for row in rows]
    for size, commit, threads in dict.fromkeys(runs):
        some = [row for row, run in zip(rows, runs, strict=True) if run == (size, commit, threads)]
        first = some[0]
        lines = [
            [
                row["questions"],
                *(f"{row[name]:.2f}" for name in ("p50_ms", "p95_ms")),
                *(f"{row[name]:.3f}" for name in ("overlap_at_1", "overlap_at_10")),
                *(f"{row[name]:.3f}" if name in row else "" for name in ("ndcg", "ndcg_exhaustive")),
            ]
            for row in some
            if "p50_ms" in row
        ]
        at_once = next(row for row in some if "queries_per_s" in row)
        title = (
            f"{size:,} real passages, {first['tokens'] / 1e6:.1f} M tokens of {first['bytes_a_token']:.1f} "
            f"bytes, {threads} threads, commit {commit}: {first['resident_mb']:,.0f} MB resident, of which "
            f"{first['own_mb']:,.0f} are no mapped files; {at_once['questions']}: "
            f"{at_once['queries_per_s']:,.0f} queries/s."
        )
        names = ["p50 ms", "p95 ms", "overlap@1", "overlap@10", "nDCG@10", "of exhaustive"]
        parts.append("\n".join([title, "", *_table("questions", names, lines)]))
    return "\n\n".join(parts)


def table_storage(rows: list[dict[str, Any]]) -> str:
    """Bytes of a token on disk, beside what the formulas say."""
    numbers = ["bytes a token", "`latebolt cost` says", "float32 at 128 takes x as much"]
    lines = (
        [
            f"{row['store']}, dim {row['dim']}",
            f"{row['bytes_a_token']:.1f}",
            f"{row['foretold']:.1f}",
            f"{row['float32 at 128 / this']:.1f}",
        ]
        for row in sorted(rows, key=lambda row: (-row["dim"], -row["bytes_a_token"]))
    )
    first = rows[0]
    title = (
        f"On disk, {first['documents']:,} documents of {first['tokens']:,} tokens, without their texts "
        "(`python benchmarks/storage.py`):"
    )
    return "\n".join([title, "", *_table("", numbers, lines)])


def table_memory(rows: list[dict[str, Any]]) -> str:
    """Memory of one job after another."""
    numbers = ["documents", "peak MB", "at the end, without pages of files, MB"]
    lines = (
        [
            row["job"],
            f"{row['documents']:,}" if row["documents"] else "–",
            f"{row['peak_MB']:.0f}",
            f"{row['own_MB']:.0f}",
        ]
        for row in rows
    )
    title = "Memory, a fresh process a row (`python benchmarks/memory.py`):"
    return "\n".join([title, "", *_table("", numbers, lines)])


def table_scale(rows: list[dict[str, Any]]) -> str:
    """Search and storage by number of passages."""
    lines = [
        "Searching passages of about 60 tokens made from real ones, dim 128, 2 bit, 2 threads "
        "(`python benchmarks/scale.py`):",
        "",
        "| passages | build, s | p50 ms | p95 ms | filtered to 0.1 %, p50 ms | overlap@10 | nDCG@10 lost "
        "| GB on disk | MB resident | of them no file's |",
        "| ---: |" + " ---: |" * 9,
    ]
    for row in rows:
        built = f"{row['train_s'] + row['write_s'] + row['finish_s']:.0f}" if "train_s" in row else "–"
        filtered = f"{row['filtered_p50_ms']:.1f}" if "filtered_p50_ms" in row else "–"
        star = {"copied": " *", "extrapolated": " (extrapolated)"}.get(row["codes"], "")
        kept = f"{row['overlap_at_10']:.3f} | {row['ndcg_loss']:.3f}" if "overlap_at_10" in row else "– | –"
        lines.append(
            f"| {row['documents']:,}{star} | {built} | {row['p50_ms']:.1f} | {row['p95_ms']:.1f} "
            f"| {filtered} | {kept} | {row['bytes'] / 1e9:.2f} "
            f"| {row['resident_mb']:.0f} | {row['own_mb']:.0f} |"
        )
    lines += ["", "\\* passages put together from codes of real tokens instead of being encoded one by one."]
    return "\n".join(lines)


def table_export(rows: list[dict[str, Any]]) -> str:
    """Cost of an export and of int8, in a paragraph."""
    found = {row["part"]: row for row in rows}
    size, small = found["size"], found["small"]
    long = {row["precision"]: row for row in rows if row["part"] == "long"}
    losses = [row for row in rows if row["part"] == "ndcg"]
    worst = max(losses, key=lambda row: row["loss_percent"])
    return (
        "Export (`python benchmarks/export.py`): a checkpoint as large as jina-colbert-v2 becomes fp32 and "
        f"int8 in {size['seconds']:.0f} s on two cores, in {size['peak_mb'] / size['checkpoint_mb']:.1f} "
        f"times its size of memory; one of {small['checkpoint_mb']:.0f} MB takes {small['peak_mb']:.0f} MB, "
        f"of which torch and ONNX Runtime take {small['imports_mb']:.0f} by themselves. A document of 8,192 "
        f"tokens takes {long['fp32']['more_mb']:.0f} MB over the loaded graph (int8: "
        f"{long['int8']['more_mb']:.0f}). int8 keeps a mean token cosine of "
        f"{min(row['cosine_mean'] for row in losses):.4f} or more to fp32 on "
        f"{len({row['collection'] for row in losses})} collections; where it costs most nDCG@10 "
        f"({worst['collection']}, dim {worst['dim']}), that is {worst['loss_percent']:.1f} %."
    )


def table_vocabulary(rows: list[dict[str, Any]]) -> str:
    """The languages that are named, in bands, and what is to be said of all."""
    every = sorted(row["more_tokens_percent"] for row in rows)
    lines = [
        "Tokens more that `multilingual` takes for its cut vocabulary, over the half of Tatoeba's sentences "
        f"that had no part in the choice (`python benchmarks/vocabulary.py`); of all {len(rows)} languages "
        f"half take at most {every[len(every) // 2]:.1f} %:",
        "",
        "| tokens more | languages |",
        "| --- | --- |",
    ]
    named = sorted((row for row in rows if row["language"]), key=lambda row: str(row["language"]))
    for low, high in itertools.pairwise(BANDS):
        band = [row for row in named if low < row["more_tokens_percent"] <= high]
        if high < BANDS[-1]:
            title = f"{low} to {high} %" if low > 0 else f"at most {high} %"
            cell = ", ".join(row["language"] for row in band)
        else:
            title = "more"
            cell = ", ".join(f"{row['language']} ({row['more_tokens_percent']:.0f} %)" for row in band)
        lines.append(f"| {title} | {cell} |")
    return "\n".join(lines)


def table_serve(rows: list[dict[str, Any]]) -> str:
    """Requests a second and latencies by clients, the overhead, and what the rough load left."""
    loads = [row for row in rows if "of_embedded" in row]
    lines = [
        f"`latebolt serve`, {rows[0]['threads']} threads, another process as clients on the same cores, "
        "texts never seen unless it says so; rerank is 1 query x 50 passages (`python benchmarks/serve.py`):",
        "",
        "| | cache | clients | requests/s | of embedded | p50, ms | p95, ms | p99, ms |",
        "| --- | --- |" + " ---: |" * 6,
    ]
    for row in loads:
        lines.append(
            f"| {row['work']} | {row['cache']} | {row['clients']} | {row['requests_per_s']:.1f} "
            f"| {row['of_embedded']:.2f} | {row['p50_ms']:.1f} | {row['p95_ms']:.1f} | {row['p99_ms']:.1f} |"
        )
    found = {row["work"]: row for row in rows}
    if "overhead" in found:
        one = found["overhead"]
        lines += [
            "",
            f"One search at an idle server takes {one['p50_ms']:.1f} ms, {one['overhead_p50_ms']:.1f} ms "
            "more than in the library (medians).",
        ]
    if "mixed" in found:
        one = found["mixed"]
        start, minute, end = one["start"], one["early"], one["end"]
        statuses = ", ".join(f"{n:,} {name}" for name, n in one["classes"].items())
        lines += [
            "",
            f"After {one['seconds']:.0f} s of slow, huge, malformed and leaving clients beside normal ones "
            f"({statuses}): {start['resident_MB']} MB resident at the start, {minute['resident_MB']} after "
            f"{min(60.0, one['seconds'] / 3):.0f} s, {end['resident_MB']} at the end; {start['threads']}, "
            f"{minute['threads']} and {end['threads']} threads; {start['descriptors']}, "
            f"{minute['descriptors']} and {end['descriptors']} descriptors. Of {one['acknowledged']:,} "
            f"acknowledged documents, {one['lost']} were missing after kill -9 and a new start.",
        ]
    return "\n".join(lines)


def table_search_before(rows: list[dict[str, Any]]) -> str:
    """Searches now and then, by length of question."""
    first = rows[0]
    body = []
    for row in rows:
        cells = [f"{row[f'{name}, {what} ms']:.2f}" for what in ("mean", "p50") for name in ("before", "now")]
        times = [f"{row[f'now, {what} ms'] / row[f'before, {what} ms']:.2f}" for what in ("mean", "p50")]
        shares = [f"{row[f'{name}, of the best ten']:.3f}" for name in ("before", "now")]
        body.append([f"{row['words']}", *cells[:2], times[0], *cells[2:], times[1], *shares])
    numbers = [
        "mean ms before",
        "now",
        "times",
        "median before",
        "now",
        "times",
        "of the best ten before",
        "now",
    ]
    return "\n".join(
        [
            f"A search that finds what is there, beside the one of {first['before']} in the same run: "
            f"{first['documents']:,} documents, {first['tokens']:,} tokens, 2 bit, by words of a question; "
            "single words are those that 3 to 20 documents hold (`python benchmarks/search_before.py`):",
            "",
            *_table("words", numbers, body),
        ]
    )


def table_second_run(rows: list[dict[str, Any]]) -> str:
    """Seconds and encoded texts of three runs over a folder, and what is wrong afterwards."""
    judged = (
        "deleted, still found",
        "renamed, found twice",
        "renamed, new name not found",
        "changed, not found",
    )
    numbers = [f"{what}, {unit}" for what in ("first", "nothing new", "20 news") for unit in ("s", "encoded")]
    lines = []
    for library, way in dict.fromkeys((row["library"], row["way"]) for row in rows):
        runs = [row for row in rows if (row["library"], row["way"]) == (library, way)]
        cells = [
            cell
            for row in runs
            if "seconds" in row
            for cell in (f"{row['seconds']:.1f}", str(row.get("encoded", "fails")))
        ]
        notes = [row["note"] for row in runs if row.get("note")]
        cells += ["–"] * (6 - len(cells)) + [str(runs[-1].get(name, "–")) for name in judged]
        lines.append([f"{library}, {way}", *cells, "; ".join(notes)])
    title = (
        f"A folder of {rows[0]['files']} files, indexed, indexed again, and again after 10 were changed, 5 "
        "renamed and 5 deleted; a process each time, its start included (`python benchmarks/second_run.py`):"
    )
    return "\n".join([title, "", *_table("", [*numbers, *judged, ""], lines)])


def table_bulk(rows: list[dict[str, Any]]) -> str:
    """Memory by size of a folder, and seconds of a run over files of which none has changed."""
    numbers = ["files", "GB", "documents", "passed over", "peak MB", "own MB", "CPU, s", "s", "load"]
    lines = (
        [
            row["run"],
            *(f"{row['files']:,}", f"{row['GB']:.2f}", f"{row['documents']:,}", str(row["passed over"])),
            *(f"{row['peak_MB']:.0f}", f"{row['own_MB']:.0f}"),
            *(f"{row['cpu_s']:.1f}", f"{row['wall_s']:.1f}", f"{row['load']:.0f}"),
        ]
        for row in sorted(rows, key=lambda row: ("table" in row, row["run"], row["GB"]))
    )
    title = (
        "Folders of mixed files, most of whose bytes are read and passed over, and 10,000 small ones "
        "(`python benchmarks/bulk.py` says what they are and are not):"
    )
    return "\n".join([title, "", *_table("`latebolt index`", numbers, lines)])


def table_arm(rows: list[dict[str, Any]]) -> str:
    """Instructions a token on ARM: a line a kernel and shape, a column a CPU and instruction set."""
    columns = list(dict.fromkeys((row["cpu"], row["instruction set"]) for row in rows))
    found: dict[tuple[Any, ...], dict[tuple[str, str], float]] = {}
    for row in rows:
        shape = tuple(row.get(name, "") for name in ("kernel", "dim", "bits", "query tokens"))
        found.setdefault(shape, {})[row["cpu"], row["instruction set"]] = row["instructions a token"]
    lines = (
        [*map(str, shape), *(f"{counts[each]:,.0f}" if each in counts else "" for each in columns)]
        for shape, counts in found.items()
    )
    names = ["dim", "bits", "query tokens", *(f"{cpu}, {name}" for cpu, name in columns)]
    return "## Instructions a token on ARM\n\n" + "\n".join(_table("kernel", names, lines))


def table_instruction_sets(rows: list[dict[str, Any]]) -> str:
    """Nanoseconds a token: a line a kernel and length of query, a column an instruction set."""
    sets = list(dict.fromkeys(row["instruction set"] for row in rows))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        line = row["kernel"], str(row.get("query tokens", ""))
        found.setdefault(line, {})[row["instruction set"]] = row["ns_a_token"]
    lines = ([*line, *(f"{took[name]:,.1f}" for name in sets)] for line, took in found.items())
    head = "## Instruction sets, ns a token of 128 dimensions on one thread\n\n"
    return head + "\n".join(_table("kernel", ["query tokens", *sets], lines))


def table_windows(rows: list[dict[str, Any]]) -> str:
    """nDCG of a model by how it reads documents: a line a collection, a column a way."""
    ways = list(dict.fromkeys(row["read"] for row in rows))
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["collection"], row["language"]), {})[row["read"]] = row
    lines = (
        [
            *line,
            str(some[ways[0]]["queries"]),
            *(f"{some[way]['nDCG@10']:.4f}" for way in ways),
            *(
                f"{some[way]['difference']:+.4f} [{some[way]['low']:+.4f}, {some[way]['high']:+.4f}]"
                for way in ways[2:]
            ),
        ]
        for line, some in found.items()
    )
    names = ["language", "questions", *ways, *(f"{way} - at once" for way in ways[2:])]
    return "## Documents read in windows, nDCG@10\n\n" + "\n".join(_table("collection", names, lines))


TABLES = {
    "quality": table_quality,
    "multilingual": table_multilingual,
    "codec": table_codec,
    "pooling": table_pooling,
    "encode": table_encode,
    "export": table_export,
    "vocabulary": table_vocabulary,
    "maxsim": table_maxsim,
    "instruction_sets": table_instruction_sets,
    "windows": table_windows,
    "search": table_search,
    "search_before": table_search_before,
    "peers": table_peers,
    "real_scale": table_real_scale,
    "scale": table_scale,
    "storage": table_storage,
    "memory": table_memory,
    "cold_start": table_cold_start,
    "cold_search": table_cold_search,
    "serve": table_serve,
    "frameworks": table_frameworks,
    "qdrant": table_qdrant,
    "engines": table_engines,
    "second_run": table_second_run,
    "bulk": table_bulk,
    "arm_instructions": table_arm,
}
START, END = "<!-- figures: written by benchmarks/report.py -->", "<!-- end of figures -->"
BANDS = (-math.inf, 1, 3, 6, 10, math.inf)  # per cent


# What is claimed, ours, the others', and the row that says when ours was measured.
Claim = tuple[str, str, str, dict[str, Any]]


def _row(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    return next(row for row in rows if all(row.get(name) == value for name, value in wanted.items()))


def claim_encode(rows: list[dict[str, Any]]) -> Claim:
    """Documents a second, int8, beside torch and the best of FastEmbed."""
    small = [row for row in rows if row["encoder"].startswith("384")]
    ours, torch = _row(small, contender="latebolt int8"), _row(small, contender="torch fp32")
    best = max(row["documents_per_s"] for row in small if row["contender"].startswith("FastEmbed"))
    return (
        "encode in bulk, int8",
        f"{ours['documents_per_s']:.0f} documents/s",
        f"torch fp32 {torch['documents_per_s']:.0f}, FastEmbed at its best batch {best:.0f}",
        ours,
    )


def claim_export(rows: list[dict[str, Any]]) -> Claim:
    """What int8 costs where it costs most."""
    losses = [row for row in rows if row["part"] == "ndcg"]
    worst = max(losses, key=lambda row: row["loss_percent"])
    return (
        "[nDCG](docs/words.md#ndcg)@10 that int8 costs, at worst",
        f"{worst['loss_percent']:.1f} %",
        f"fp32, {len({row['collection'] for row in losses})} collections at 128, 96 and 64 dimensions",
        worst,
    )


def claim_maxsim(rows: list[dict[str, Any]]) -> Claim:
    """Nanoseconds a document token on 2-bit codes."""
    chosen = [row for row in rows if row["size"] == "out of cache" and row["threads"] == 1]
    found = {row["kernel"]: row["ns_a_token"] for row in chosen}
    return (
        "MaxSim on 2-bit codes, one thread",
        f"{found['latebolt residual 2 bit']:.0f} ns a token",
        f"NumPy float32 {found['NumPy sgemm + reduceat']:.0f}, maxsim-cpu {found['maxsim-cpu']:.0f}",
        _row(chosen, kernel="latebolt residual 2 bit"),
    )


def claim_search(rows: list[dict[str, Any]]) -> Claim:
    """Median of a search and bytes a token."""
    ours, exact = _row(rows, contender="latebolt 2 bit"), _row(rows, contender="NumPy exact float32")
    return (
        f"search {ours['tokens'] / 1e6:.1f} M tokens, 2 bit",
        f"{ours['p50_ms']:.1f} ms, {ours['bytes_a_token']:.0f} bytes a token",
        f"exact in NumPy {exact['p50_ms']:.0f} ms, 512 bytes",
        ours,
    )


def claim_cold_search(rows: list[dict[str, Any]], cold_start: list[dict[str, Any]]) -> Claim:
    """What a user waits for who asks once, from the start of the process to its exit."""
    ours = _row(rows, model="starter", what="`latebolt search`")
    torch = _row(cold_start, what="first answer: PyTorch and transformers")
    return (
        "a cold `latebolt search`, start to exit",
        f"{ours['ms']:.0f} ms",
        f"PyTorch and transformers {torch['ms']:.0f} ms until a first answer",
        ours,
    )


def claim_serve(rows: list[dict[str, Any]]) -> Claim:
    """What HTTP adds to a search."""
    one = _row(rows, work="overhead")
    return (
        "a search over HTTP, idle server",
        f"{one['p50_ms']:.1f} ms",
        f"{one['embedded_p50_ms']:.1f} ms in the library",
        one,
    )


CLAIMS = {
    "encode": claim_encode,
    "export": claim_export,
    "maxsim": claim_maxsim,
    "search": claim_search,
    "cold_search": claim_cold_search,
    "serve": claim_serve,
}

# Records whose rows a claim takes beside its own.
BESIDE = {"cold_search": ("cold_start",)}


def write_readme(records: list[dict[str, Any]]) -> None:
    """Put one line a claim between the README's two markers, each with its day and processor."""
    found = {record["benchmark"]: record for record in records}
    lines = ["| | latebolt | beside it | measured |", "| --- | ---: | --- | --- |"]
    for name, claim in CLAIMS.items():
        if name in found:
            record = found[name]
            beside = (found[each]["rows"] for each in BESIDE.get(name, ()))
            what, ours, others, row = claim(record["rows"], *beside)
            day = row.get("date", record["date"])
            cpu = row.get("cpu", record["machine"]["cpu"])
            where = f"[{day}](benchmarks/REPORT.md#{name}), {cpu}"
            lines.append(f"| {what} | {ours} | {others} | {where} |")
    write_between(HERE.parent / "README.md", "\n".join(lines))


def write_between(path: Path, text: str) -> None:
    """Put a text between a file's two markers."""
    before, rest = path.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    path.write_text(before + START + "\n" + text + "\n" + END + after, encoding="utf-8")


def table_operate(rows: list[dict[str, Any]]) -> str:
    """What happened in an operator's day, what clients saw of it, and what else was to be seen."""
    told = ("what happens", "seconds", "answered", "refused", "lost", "refused as meant", "refusals")
    kinds = ("slowest search, s", "slowest addition, s")
    body = []
    for row in rows:
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else ""
        counts = [f"{row[name]}" if name in row else "" for name in told[2:6]]
        slowest = [f"{row[name]:.1f}" if name in row else "" for name in kinds]
        rest = [
            f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}"
            for name, value in row.items()
            if name not in told + kinds
        ]
        body.append([row["what happens"], seconds, *counts, *slowest, "; ".join(rest)])
    names = ["s until all is well", "answered", "refused", "lost", "refused as meant", *kinds, "also seen"]
    return "\n".join(_table("", names, body))


def write_operations(records: list[dict[str, Any]]) -> None:
    """Put an operator's day between the markers of the page for operators."""
    for record in records:
        if record["benchmark"] == "operate":
            machine = record["machine"]
            where = f"Measured {record['date']} on {machine['cpu']}, {machine['cores']} cores."
            page = HERE.parent / "docs" / "operations.md"
            write_between(page, f"{where}\n\n{table_operate(record['rows'])}")


def tables_of_sizes(rows: dict[str, list[dict[str, Any]]]) -> str:
    """What shards, several machines, object stores and other engines cost, for docs/scaling.md."""
    shards, nodes, stores = rows["shards"], rows["nodes"], rows["object_store"]
    one = _row(shards, what="one index", mode="late")
    hybrid = {row["what"]: row for row in shards if row.get("mode") == "hybrid"}
    in_process = _table(
        f"{one['documents']:,} documents, {one['tokens'] / 1e6:.1f} M tokens, in one process",
        ["p50, late, ms", "queries/s", "p50, hybrid, ms", "of the top ten"],
        (
            [
                row["what"],
                f"{row['p50_ms']:.1f}",
                f"{row['queries_s']:.0f}",
                f"{hybrid[row['what']]['p50_ms']:.1f}",
                f"{row['of the top ten']:g}",
            ]
            for row in shards
            if row.get("mode") == "late"
        ),
    )
    over_http = _table(
        "over HTTP",
        ["p50, ms", "queries/s"],
        (
            [row["what"], f"{row['p50_ms']:.1f}", f"{row['queries_a_second']:.0f}"]
            for row in nodes
            if "queries_a_second" in row
        ),
    )
    told = {
        "requests": "searches or texts",
        "wrong": "wrong",
        "failed": "failed",
        "gap_s": "longest without an answer, s",
        "recovery_s": "all replicas back, s",
        "acknowledged": "written, acknowledged",
        "lost": "lost",
    }
    deaths = _table(
        "while two clients search and one writes",
        list(told.values()),
        (
            [
                row["what"],
                *(f"{row[n]:.1f}" if isinstance(row.get(n), float) else f"{row.get(n, '')}" for n in told),
            ]
            for row in nodes
            if "lost" in row
        ),
    )
    seconds = {(row["store"], row["step"]): row["seconds"] for row in stores}
    names = list(dict.fromkeys(row["store"] for row in stores))
    published = _table(
        f"{stores[0]['MB']:.0f} MB of index, seconds",
        names,
        (
            [step, *(f"{seconds[name, step]:.3g}" for name in names)]
            for step in dict.fromkeys(row["step"] for row in stores)
        ),
    )
    tables = [in_process, over_http, deaths, published]
    storages, stages = ("2 bit", "4 bit", "turbo4", "turbo8", "float32"), ("its own", "mean", "learned")
    qdrant = (
        row
        for row in rows["qdrant"]
        if row["dim"] == 128 and row["storage"] in storages and row["first stage"] in stages
        if "bytes_per_token" in row and not row["name"].endswith("exhaustive")
    )
    for chosen in (qdrant, rows["engines"]):
        tables.append(
            _table(
                "engine",
                ["bytes a token", "of the exact ten", "p50, ms"],
                (
                    [
                        row["name"],
                        f"{row['bytes_per_token']:.0f}",
                        f"{row['overlap']:.3f}",
                        f"{row['p50_ms']:.1f}",
                    ]
                    for row in chosen
                ),
            )
        )
    return "\n\n".join("\n".join(table) for table in tables)


def write_sizes(records: list[dict[str, Any]]) -> None:
    """Put what was measured between the markers of the page about sizes."""
    found = {record["benchmark"]: record for record in records}
    names = ("shards", "nodes", "object_store", "qdrant", "engines")
    if found.keys() >= set(names):
        measured = ", ".join(
            f"[{name}](../benchmarks/REPORT.md#{name}) {record['date']} on {record['machine']['cpu']}"
            for name, record in ((name, found[name]) for name in names)
        )
        tables = tables_of_sizes({name: found[name]["rows"] for name in names})
        write_between(HERE.parent / "docs" / "scaling.md", f"{measured}; two cores.\n\n{tables}")


def main() -> None:
    """Write REPORT.md, the README's figures, and the tables of the pages for operators and about sizes."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = (
        "# Measurements\n\nMade by `python benchmarks/report.py` from the records under results/: first the "
        "tables, then every record with its machine and versions. Records were taken on several virtual "
        "machines with two processors; compare within a table.\n"
    )
    rows = {record["benchmark"]: record["rows"] for record in records}
    tables = "\n\n".join(make(rows[name]) for name, make in TABLES.items() if name in rows)
    path = HERE / "REPORT.md"
    path.write_text(f"{text}\n{tables}\n\n" + "\n".join(section(record) for record in records))
    write_readme(records)
    write_operations(records)
    write_sizes(records)
    pages = "README.md, docs/operations.md and docs/scaling.md"
    print(f"wrote {path} and the figures of {pages} from {len(records)} records")


if __name__ == "__main__":
    main()
