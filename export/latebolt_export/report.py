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
    lines = [
        f"# {report.name}: parity with PyTorch",
        "",
        f"{report.texts} texts, {report.tokens} tokens, one text a run, CPU, one thread. Cosine and "
        "difference are between unit token vectors of the graph and of the float32 PyTorch module.",
        "",
        "| precision | dim | cosine mean | 1st percentile | min | max abs difference | MB | tokens/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for precision, graph in report.precisions.items():
        for dim, head in graph.heads.items():
            accuracy = f"{head.cosine_mean:.5f} | {head.cosine_p1:.5f} | {head.cosine_min:.5f}"
            cost = f"{graph.bytes / 1e6:.1f} | {graph.tokens_per_second:,.0f}"
            lines.append(f"| {precision} | {dim} | {accuracy} | {head.max_abs:.1e} | {cost} |")
    if report.worst_matmuls:
        lines += ["", "int8 rounding costs most in: " + ", ".join(report.worst_matmuls) + "."]
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
