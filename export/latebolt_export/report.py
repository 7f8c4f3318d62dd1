"""Writes a parity report where people and programs look for it: REPORT.md, report.json, the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from latebolt_export.parity import Report


def write(report: Report, folder: Path) -> None:
    """Write report.json and REPORT.md into the model folder."""
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (folder / "REPORT.md").write_text(markdown(report), encoding="utf-8")


def markdown(report: Report) -> str:
    """The report as a page with one table."""
    ndcg = bool(report.collection)
    lines = [
        f"# {report.name}: parity with {report.against}",
        "",
        f"{report.texts} texts of 1 to {report.longest} tokens, {report.tokens} tokens in all, one text a "
        f"run, CPU. Cosine and difference are between unit token vectors of the graph and {report.against} "
        "in float32; rank agreement is the share of document pairs that MaxSim puts in the same order; "
        "tokens/s are one 128-token text a run on one thread.",
        "",
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
    if ndcg:
        lines += ["", f"nDCG@10 on {report.collection}, every document scored exactly."]
    if report.worst_matmuls:
        lines += ["", "int8 rounding costs most in: " + ", ".join(report.worst_matmuls) + "."]
    if report.float_matmuls:
        lines += ["", "Left in float32: " + ", ".join(report.float_matmuls) + "."]
    return "\n".join(lines) + "\n"


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
