"""Compares every graph with the PyTorch module on real texts, and holds it to the budgets.

Each text is one run, as the runtime does it on a CPU. Measures only; what is done about it is said elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer

from latebolt.errors import ExportError
from latebolt_export.budgets import Budgets
from latebolt_export.module import TokenEmbedder

TEXTS = 48
LONGEST = 384  # tokens of a parity text
TIMED_TOKENS, TIMED_RUNS = 128, 9


class HeadParity(msgspec.Struct, frozen=True):
    """One output of one graph against the same output of the PyTorch module."""

    max_abs: float
    cosine_mean: float
    cosine_p1: float  # 1st percentile over tokens
    cosine_min: float


class GraphParity(msgspec.Struct, frozen=True):
    """One graph: its heads by width, and what it costs."""

    heads: dict[str, HeadParity]
    bytes: int
    tokens_per_second: float  # one 128-token text a run, one thread, this machine


class Report(msgspec.Struct, frozen=True):
    """Content of report.json."""

    name: str
    texts: int
    tokens: int
    precisions: dict[str, GraphParity]
    worst_matmuls: list[str]  # int8: inputs whose rounding costs most, worst first


@dataclass(frozen=True, eq=False)
class Reference:
    """Texts as ids, and what the PyTorch module makes of them: float32 [tokens, dim] an output and text."""

    ids: list[np.ndarray]
    vectors: dict[str, list[np.ndarray]]


def encode(tokenizer_json: str, texts: Sequence[str], longest: int) -> list[np.ndarray]:
    """int64 ids of each text with the tokenizer's own frame, at most `longest`."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(longest)
    return [np.array(encoding.ids, dtype=np.int64) for encoding in tokenizer.encode_batch(list(texts))]


def reference(module: TokenEmbedder, ids: list[np.ndarray]) -> Reference:
    """Run the module on each text."""
    vectors: dict[str, list[np.ndarray]] = {output.name: [] for output in module.outputs}
    with torch.inference_mode():
        for one in ids:
            tensor = torch.from_numpy(one)[None]
            for name, value in module(tensor, torch.ones_like(tensor)).items():
                vectors[name].append(value[0].numpy())
    return Reference(ids, vectors)


def measure(path: Path, truth: Reference) -> GraphParity:
    """Run a graph file on the reference's texts, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = list(truth.vectors)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for one in truth.ids:
        for name, value in zip(names, session.run(names, _feed(one)), strict=True):
            found[name].append(value[0])
    heads = {}
    for name in names:
        expected = np.concatenate(truth.vectors[name])
        heads[name.removeprefix("embeddings_")] = compare(expected, np.concatenate(found[name]))
    return GraphParity(heads, path.stat().st_size, _speed(session, names[:1], truth.ids))


def compare(expected: np.ndarray, found: np.ndarray) -> HeadParity:
    """Both float32 [tokens, dim] of unit rows."""
    cosine = (expected * found).sum(1)
    return HeadParity(
        max_abs=float(np.abs(expected - found).max()),
        cosine_mean=float(cosine.mean()),
        cosine_p1=float(np.quantile(cosine, 0.01)),
        cosine_min=float(cosine.min()),
    )


def hold_to(budgets: Budgets, report: Report) -> None:
    """Raise ExportError for the first graph past its budget."""
    bounds = {
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
                hint = ""
                if precision == "int8" and report.worst_matmuls:
                    hint = f" Worst MatMuls: {', '.join(report.worst_matmuls[:3])}."
                raise ExportError(
                    f"{report.name}: {precision} dim {dim}: {what} against PyTorch should be {direction} "
                    f"{bound:g}, got {of(head):.6g}.{hint} Loosen the budget or leave {precision} out."
                )


def _feed(ids: np.ndarray) -> dict[str, np.ndarray]:
    return {"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])}


def _speed(session: onnxruntime.InferenceSession, names: list[str], ids: list[np.ndarray]) -> float:
    feed = _feed(np.resize(np.concatenate(ids), TIMED_TOKENS))
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        session.run(names, feed)
        seconds.append(time.perf_counter() - start)
    return round(TIMED_TOKENS / float(np.median(seconds)))
