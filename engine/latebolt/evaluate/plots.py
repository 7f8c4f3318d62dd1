"""Plots of an evaluation as SVG text: quality against bytes a token, quality against latency."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from latebolt.errors import RuntimeUnavailable
from latebolt.evaluate.run import Evaluation, Scored


def require_matplotlib() -> None:
    """Nothing, or an error that names the package.

    Raises:
        RuntimeUnavailable: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise RuntimeUnavailable(
            "matplotlib is not installed. Run \"pip install 'latebolt[eval]'\"."
        ) from error


def quality_against_bytes(evaluation: Evaluation, measure: str) -> str:
    """One point a variant; the bytes are those of a token of text, so that pooling counts."""
    return _plot(
        evaluation, measure, lambda each: each.bytes_per_text_token, "bytes a token of text (log scale)"
    )


def quality_against_latency(evaluation: Evaluation, measure: str) -> str:
    """One point a variant: time to encode one query and to score every document for it."""
    return _plot(
        evaluation, measure, lambda each: each.query_ms, "ms a query: encode, score all documents (log scale)"
    )


def _plot(evaluation: Evaluation, measure: str, size: Callable[[Scored], float | None], label: str) -> str:
    """Lines join the variants that differ in bits only; BM25 is a dashed line."""
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    # Names are data: "$" in them is no formula. Letters become paths, so that the page needs no font.
    settings: Any = {"svg.fonttype": "path", "svg.hashsalt": f"{label}{measure}", "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for name, line in _lines(evaluation.scored).items():
            points = sorted((x, each.mean(measure), each) for each in line if (x := size(each)) is not None)
            xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
            axes.plot(xs, ys, marker="o", label=name)
            for x, y, each in points:
                bits = each.variant.bits if each.variant else 0
                axes.annotate(f"{bits}", (x, y), textcoords="offset points", xytext=(4, 5), fontsize=7)
        bm25 = evaluation.scored[0].mean(measure)
        axes.axhline(bm25, linestyle="--", color="grey", linewidth=1, label="BM25")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")  # the usual one writes formulas
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        axes.set_ylabel(measure)
        axes.set_title(f"{evaluation.collection.name} (numbers: bits a dimension)", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    return svg[svg.index("<svg") :]  # without the XML head, which has no place inside a page


def _lines(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    lines: dict[str, list[Scored]] = {}
    for each in scored:
        if (variant := each.variant) is not None:
            pooled = f", pool {variant.pool}" if variant.pool > 1 else ""
            name = f"{variant.model} {variant.precision}, dim {variant.dim}{pooled}"
            lines.setdefault(name, []).append(each)
    return lines
