"""Writes an evaluation as report.json, report.md and one self-contained page, report.html.

Texts, ids and names come from collections and are data: they are escaped for Markdown and for HTML, and the
page forbids itself scripts and anything from elsewhere.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from latebolt import drafts
from latebolt.errors import InvalidInput, LateboltError
from latebolt.evaluate.compare import Case, Comparison, cases, compare
from latebolt.evaluate.plots import quality_against_bytes, quality_against_latency, require_matplotlib
from latebolt.evaluate.run import Evaluation
from latebolt.evaluate.tables import TABLES, Rows

_TEXT = 320  # characters of a text that are shown
_NOTE = (
    "Differences are means over queries with 95 % intervals of a paired bootstrap; + is significantly better "
    "and - significantly worse (p below 0.05 after Holm's correction over all comparisons of a collection), "
    "no mark is neither. Fewer than 10 queries get no mark."
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; display: block; overflow-x: auto; }
td, th { border: 1px solid #8886; padding: .25rem .5rem; text-align: left; vertical-align: top; }
svg { max-width: 100%; height: auto; background: white; }
summary { cursor: pointer; margin: .5rem 0; }
"""


def prepare(folder: str | Path) -> Path:
    """Make the folder, and see that a report can be made at all: to be asked before hours of work.

    Raises:
        InvalidInput: the folder is a file.
        LateboltError: it cannot be made.
        RuntimeUnavailable: matplotlib is not installed.
    """
    root = Path(folder)
    require_matplotlib()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidInput(f"{root}: is not a folder. Name another for the report.") from error
    except OSError as error:
        raise LateboltError(f"{root}: cannot be made ({error.strerror}).") from error
    return root


def write_report(evaluations: Sequence[Evaluation], folder: str | Path, measure: str) -> list[Path]:
    """The three files, each replaced as a whole; other files of the folder are left alone.

    Args:
        measure: which of `MEASURES` is compared and plotted.
    Raises:
        InvalidInput, LateboltError, RuntimeUnavailable: see `prepare`; or a file cannot be written.
    """
    root = prepare(folder)
    written = {
        "report.json": msgspec.json.format(
            msgspec.json.encode(record(evaluations, measure)), indent=2
        ).decode(),
        "report.md": markdown(evaluations, measure),
        "report.html": page(evaluations, measure),
    }
    for name, text in written.items():
        with drafts.file_for(root / name) as file:
            file.write(text.encode("utf-8"))
    return [root / name for name in written]


def record(evaluations: Sequence[Evaluation], measure: str) -> dict[str, Any]:
    """All tables, and for each comparison the values of every query with the largest wins and losses."""
    return {
        "measure": measure,
        "tables": {name: make(evaluations, measure) for name, make in TABLES.items()},
        "queries": [
            {"collection": each.collection.name, "variant": scored.name, "values": scored.values[measure]}
            for each in evaluations
            for scored in each.scored
        ],
        "cases": [
            {"collection": each.collection.name, "variant": one.scored.name, "against": one.against}
            | dict(
                zip(("wins", "losses"), ([asdict(c) for c in part] for part in cases(each, one)), strict=True)
            )
            for each in evaluations
            for one in compare(each, measure)
        ],
    }


def summary(evaluations: Sequence[Evaluation], measure: str) -> Rows:
    """`by_variant` for people: differences in words, one column for each thing compared with."""
    rows = []
    for row in TABLES["variants"](evaluations, measure):
        shown = {
            k: v for k, v in row.items() if k not in ("vs", "documents", "queries", "bytes_per_document")
        }
        for vs in row["vs"]:
            name = "vs BM25" if vs["against"] == "BM25" else "vs first"
            shown[name] = difference(vs)
            shown[f"{name}: won/tied/lost"] = f"{vs['won']}/{vs['tied']}/{vs['lost']}"
        rows.append(shown)
    if all(row.get("pool", 1) == 1 for row in rows):  # then these tell nothing
        rows = [{k: v for k, v in row.items() if k not in ("pool", "bytes_per_text_token")} for row in rows]
    if not any(row.get("passages") for row in rows):
        rows = [{k: v for k, v in row.items() if k != "passages"} for row in rows]
    return rows


def difference(vs: dict[str, Any]) -> str:
    """+0.0123 [+0.0040, +0.0200] +"""
    mark = ("+" if vs["difference"] > 0 else "-") if vs["significant"] else ""
    return f"{vs['difference']:+.4f} [{vs['low']:+.4f}, {vs['high']:+.4f}] {mark}".rstrip()


def cell(value: object) -> str:
    """A value as tables show it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"
    return str(value)


def columns_of(rows: Rows) -> list[str]:
    """Names of all rows, without "vs", in the order of the longest row: BM25's has no width or bits."""
    longest = sorted(rows, key=len, reverse=True)
    return [name for name in dict.fromkeys(name for row in longest for name in row) if name != "vs"]


_TITLES = {"dims": "By width", "models": "By model", "languages": "By language against BM25"}


def markdown(evaluations: Sequence[Evaluation], measure: str) -> str:
    """The report without plots."""
    parts = [f"# Retrieval quality, {escape_markdown(measure)}", _NOTE]
    parts += ["## Every combination", _markdown_table(summary(evaluations, measure))]
    for name, title in _TITLES.items():
        parts += [f"## {title}", _markdown_table(TABLES[name](evaluations, measure))]
    for evaluation in evaluations:
        parts.append(f"## Wins and losses: {escape_markdown(evaluation.collection.name)}")
        for one in _shown(evaluation, measure):
            parts.append(f"### {escape_markdown(_title(one))}")
            for title, found in zip(("Wins", "Losses"), cases(evaluation, one), strict=True):
                rows = [_case_row(case, one) for case in found]
                parts.append(f"{title}:\n\n{_markdown_table(rows)}" if rows else f"{title}: none.")
    return "\n\n".join(parts) + "\n"


def page(evaluations: Sequence[Evaluation], measure: str) -> str:
    """The report as one HTML page with its plots inside."""
    parts = [f"<h1>Retrieval quality, {html.escape(measure)}</h1><p>{html.escape(_NOTE)}</p>"]
    parts += ["<h2>Every combination</h2>", _html_table(summary(evaluations, measure))]
    for name, title in _TITLES.items():
        parts += [f"<h2>{title}</h2>", _html_table(TABLES[name](evaluations, measure))]
    for evaluation in evaluations:
        parts.append(f"<h2>{html.escape(evaluation.collection.name)}</h2>")
        if len(evaluation.scored) > 1:
            parts += [
                quality_against_bytes(evaluation, measure),
                quality_against_latency(evaluation, measure),
            ]
        for one in _shown(evaluation, measure):
            parts.append(f"<details><summary>{html.escape(_title(one))}</summary>")
            for title, found in zip(("Wins", "Losses"), cases(evaluation, one), strict=True):
                rows = [_case_row(case, one) for case in found]
                parts.append(f"<h3>{title}</h3>" + (_html_table(rows) if rows else "<p>none</p>"))
            parts.append("</details>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width"><title>latebolt eval</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table."""
    flat = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:@])", r"\\\1", flat)


def _shown(evaluation: Evaluation, measure: str) -> list[Comparison]:
    """Comparisons whose queries are shown: the first variant against BM25, the others against the first."""
    found = compare(evaluation, measure)
    first = evaluation.scored[1] if len(evaluation.scored) > 1 else None
    return [one for one in found if one.scored is first or one.other is first]


def _title(comparison: Comparison) -> str:
    won, tied, lost = comparison.counts()
    return (
        f"{comparison.scored.name} against {comparison.against}: {won} won, {tied} tied, {lost} lost, "
        f"{difference(comparison.record())}"
    )


def _case_row(case: Case, comparison: Comparison) -> dict[str, Any]:
    return {
        "change": f"{case.change:+.4f}",
        "query": f"{case.query_id}: {_cut(case.query)}",
        "relevant": _cut(case.relevant),
        f"first of {comparison.scored.name}": _cut(case.mine),
        f"first of {comparison.against}": _cut(case.others),
    }


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _TEXT else flat[:_TEXT].rsplit(" ", 1)[0] + " ..."


def _markdown_table(rows: Rows) -> str:
    names = columns_of(rows)
    lines = [[escape_markdown(name) for name in names], ["---"] * len(names)]
    lines += [[_markdown_cell(row.get(name)) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_cell(value: object) -> str:
    shown = cell(value)
    # Figures are left readable; brackets without an address behind them are no markup.
    return shown if re.fullmatch(r"[\d\s+\-.,/\[\]–]*", shown) else escape_markdown(shown)


def _html_table(rows: Rows) -> str:
    names = columns_of(rows)

    def line(tag: str, values: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    body = [line("td", [cell(row.get(name)) for name in names]) for row in rows]
    return "<table>" + "\n".join([line("th", names), *body]) + "</table>"
