"""Holds a parity report to its budgets."""

from __future__ import annotations

from collections.abc import Callable

from latebolt.errors import ExportError
from latebolt_export.judge.budgets import Budgets
from latebolt_export.judge.parity import GraphParity, HeadParity, Report


def hold_to(budgets: Budgets, report: Report) -> None:
    """Raise ExportError for the first graph past its budget; int8's names the worst MatMuls."""
    bounds: dict[str, tuple[str, str, float, Callable[[HeadParity], float]]] = {
        "fp32": ("largest absolute difference", "at most", budgets.fp32_max_abs, lambda head: head.max_abs),
        "fp16": ("smallest token cosine", "at least", budgets.fp16_min_cosine, lambda head: head.cosine_min),
        "int8": ("mean token cosine", "at least", budgets.int8_mean_cosine, lambda head: head.cosine_mean),
    }
    for precision, graph in report.precisions.items():
        what, direction, bound, of = bounds[precision]
        for dim, head in graph.heads.items():
            # `not (a <= b)`, so that a NaN fails as well
            kept = of(head) <= bound if direction == "at most" else of(head) >= bound
            if not kept:
                raise ExportError(
                    f"{report.name}: {precision} dim {dim}: {what} against {report.against} should be "
                    f"{direction} {bound:g}, got {of(head):.6g}.{_worst(precision, report)} "
                    f"Loosen the budget or leave {precision} out."
                )
    for dim, head in _heads(report, "int8").items():
        lost = _ndcg_loss(head, _heads(report, "fp32").get(dim))
        if not lost <= budgets.int8_ndcg_loss:
            raise ExportError(
                f"{report.name}: int8 dim {dim}: nDCG@10 on {report.collection} should be at most "
                f"{budgets.int8_ndcg_loss:g} below fp32, got {lost:.4f}.{_worst('int8', report)} "
                f"Loosen the budget or leave int8 out."
            )


def keeps_int8(budgets: Budgets, graph: GraphParity) -> bool:
    """Whether every head of an int8 graph is within its budget of token cosine."""
    return all(head.cosine_mean >= budgets.int8_mean_cosine for head in graph.heads.values())


def _heads(report: Report, precision: str) -> dict[str, HeadParity]:
    return report.precisions[precision].heads if precision in report.precisions else {}


def _ndcg_loss(head: HeadParity, whole: HeadParity | None) -> float:
    if whole is None or whole.ndcg is None or head.ndcg is None:
        return 0.0
    return whole.ndcg - head.ndcg


def _worst(precision: str, report: Report) -> str:
    if precision != "int8" or not report.worst_matmuls:
        return ""
    return f" Worst MatMuls: {', '.join(report.worst_matmuls[:3])}."
