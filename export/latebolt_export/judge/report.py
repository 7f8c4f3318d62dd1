"""Writes a parity report where people and programs look for it: REPORT.md, report.json, the contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from latebolt_export.judge.parity import Report
from latebolt_export.judge.side_by_side import SideBySide

CUT = re.compile(r"rows 0:\d+ of the (\d+) head")  # what `heads.choose` calls a width cut from a wider head
WORD_TABLES = {
    "int8": "int8, 8 bits a weight with a step a row",
    "int4": "int4, 4 bits a weight with a step for 32 of them",
    "float32": "float32",
}
MOST_SHOWN = 12  # texts that came out differently, on the page


def write(report: Report, folder: Path) -> None:
    """Write report.json and REPORT.md into the model folder."""
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (folder / "REPORT.md").write_text(markdown(report), encoding="utf-8")


def markdown(report: Report) -> str:
    """The report as a page: the rules, what was compared, one table, and what else was found."""
    lines = [f"# {report.name}: parity with {report.against}", ""]
    if report.notes:
        lines += [*(f"- Note: {note}" for note in report.notes), ""]
    if report.rules:
        lines += ["How texts become tokens, as read from the source:", ""]
        lines += [*(f"- {rule}" for rule in report.rules), ""]
    lines += [_covered(report), "", *_table(report)]
    if report.collection:
        lines += ["", f"nDCG@10 on {report.collection}, every document scored exactly."]
    lines += _cut_heads(report)
    if report.worst_matmuls:
        lines += ["", "int8 rounding costs most in: " + ", ".join(report.worst_matmuls) + "."]
    if report.word_table:
        lines += ["", f"Word table of the int8 graph: {WORD_TABLES[report.word_table]}."]
    if report.float_matmuls:
        lines += ["", "Left in float32: " + ", ".join(report.float_matmuls) + "."]
    if report.beside is not None:
        lines += ["", *_beside(report.beside)]
    return "\n".join(lines) + "\n"


def _covered(report: Report) -> str:
    covered = (
        f"{report.texts} texts of 1 to {report.longest} tokens, {report.tokens} tokens in all, one text a run"
    )
    if report.as_runtime:
        covered += (
            f", CPU; {report.as_runtime} of them with markers, prompts, expansion and mask as the runtime "
            f"makes them ({report.masked} with tokens that are not attended to)"
        )
    else:
        covered += ", CPU"
    beside = "" if report.beside else " (--compare puts the library that the checkpoint was made for beside)"
    return (
        f"{covered}. This compares graphs, on the same ids: whether the rules above are the checkpoint's own "
        f"is not in the table{beside}. Cosine and difference are between unit token vectors of the graph and "
        f"{report.against} in float32; rank agreement is the share of document pairs that MaxSim puts in the "
        f"same order; tokens/s are one 128-token text a run on one thread."
    )


def _table(report: Report) -> list[str]:
    ndcg = bool(report.collection)
    lines = [
        "| precision | dim | cosine mean | 1st percentile | min | max abs difference | rank agreement |"
        + (" nDCG@10 |" if ndcg else "")
        + " MB | tokens/s |",
        "| --- " * (9 + ndcg) + "|",
    ]
    for precision, graph in report.precisions.items():
        for dim, head in graph.heads.items():
            cells = [precision, dim, f"{head.cosine_mean:.5f}", f"{head.cosine_p1:.5f}"]
            cells += [f"{head.cosine_min:.5f}", f"{head.max_abs:.1e}", f"{head.rank_agreement:.4f}"]
            if ndcg:
                cells.append("" if head.ndcg is None else f"{head.ndcg:.4f}")
            cells += [f"{graph.bytes / 1e6:.1f}", f"{graph.tokens_per_second:,.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cut_heads(report: Report) -> list[str]:
    """A line for each width that is rows of a wider head, with what that costs where it was measured."""
    lines = []
    for dim, source in report.heads.items():
        if cut := CUT.match(source):
            wider = cut.group(1)
            line = f"dim {dim} is {source}: only a head trained nested keeps its quality."
            measured = [
                (precision, graph.heads[wider].ndcg, graph.heads[dim].ndcg)
                for precision, graph in report.precisions.items()
                if wider in graph.heads
            ]
            losses = [
                f"{whole - part:.4f} below dim {wider} ({precision})"
                for precision, whole, part in measured
                if whole is not None and part is not None
            ]
            if losses:
                line += f" Its nDCG@10 on {report.collection} is {', '.join(losses)}."
            else:
                line += (
                    f" What it loses against dim {wider} was not measured (--collection with both widths)."
                )
            lines += ["", line]
    return lines


def _beside(beside: SideBySide) -> list[str]:
    """The checkpoint's own library beside the runtime: counts of vectors, and the largest difference."""
    verdict = "the same" if beside.agrees else "NOT the same"
    lines = [
        f"## Beside {beside.library}: {verdict}",
        "",
        f"{beside.precision}, dim {beside.dim}, the same texts through both, to unit token vectors.",
        "",
        "| kind | texts | same number of vectors | vectors | largest difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, n_texts in beside.texts.items():
        counts = f"{kind} | {n_texts} | {beside.same_counts[kind]} | {beside.vectors[kind]}"
        lines.append(f"| {counts} | {beside.max_abs[kind]:.1e} |")
    if beside.differences:
        lines += ["", "| kind | text | vectors here | there | largest difference |", "| --- " * 5 + "|"]
    for each in beside.differences[:MOST_SHOWN]:
        text = " ".join(each.text.split()).replace("|", "\\|").replace("`", "'")
        apart = "" if each.max_abs is None else f"{each.max_abs:.1e}"
        lines.append(f"| {each.kind} | `{text}` | {each.ours} | {each.theirs} | {apart} |")
    if len(beside.differences) > MOST_SHOWN:
        lines += ["", f"and {len(beside.differences) - MOST_SHOWN} more texts (report.json has all)."]
    return lines


def summary(report: Report) -> dict[str, Any]:
    """What the contract keeps: the accuracy of each precision and head, nothing of this machine's speed."""
    return {
        "texts": report.texts,
        "tokens": report.tokens,
        "precisions": {
            precision: {dim: msgspec.to_builtins(head) for dim, head in graph.heads.items()}
            for precision, graph in report.precisions.items()
        },
    }
