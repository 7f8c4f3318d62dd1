"""Compares every graph with the float32 original on real texts: figures, not what is done about them.

Each text is one run, as the runtime does it on a CPU. The original is the PyTorch module, or the graph that
an export started from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tokenizers import Tokenizer

from latebolt.contract import Frame
from latebolt_export import texts
from latebolt_export.sessions import open_file

TEXTS = 48
LONGEST = 256  # tokens of a parity text; `texts.of_lengths` adds longer ones
QUERIES, QUERY_TOKENS = 16, 14  # texts of which the beginning serves as a query, and how much of it
MOST_REARRANGED = 1 << 30  # bytes of a graph that is compared at full speed
TIMED_TOKENS, TIMED_RUNS = 128, 9

Vectors = dict[str, list[np.ndarray]]  # output name -> float32 [tokens, dim] of each text
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # int64 [tokens] -> output name -> float32 [tokens, dim]


class HeadParity(msgspec.Struct, frozen=True):
    """One output of one graph against the same output of the original."""

    max_abs: float
    cosine_mean: float
    cosine_p1: float  # 1st percentile over tokens
    cosine_min: float
    rank_agreement: float = 1.0  # share of document pairs that MaxSim orders as the original does
    ndcg: float | None = None  # nDCG@10 on the collection that was given


class GraphParity(msgspec.Struct, frozen=True):
    """One graph: its heads by width, and what it costs."""

    heads: dict[str, HeadParity]
    bytes: int
    tokens_per_second: float  # one 128-token text a run, one thread, this machine


class Report(msgspec.Struct, frozen=True):
    """Content of report.json."""

    name: str
    against: str  # what the graphs were compared with
    texts: int
    tokens: int
    longest: int
    precisions: dict[str, GraphParity]
    worst_matmuls: list[str]  # int8: inputs whose rounding costs most, worst first
    float_matmuls: list[str]  # int8: MatMuls left in float32 to keep the budget
    collection: str = ""  # where nDCG was measured


@dataclass(frozen=True, eq=False)
class Reference:
    """Texts as ids, and what the original makes of them."""

    ids: list[np.ndarray]
    n_queries: int  # the last so many are queries, the others documents
    vectors: Vectors

    @property
    def longest(self) -> int:
        return max(map(len, self.ids))


def encode(tokenizer_json: str, passages: Sequence[str], longest: int) -> list[np.ndarray]:
    """int64 ids of each text with the tokenizer's own frame, at most `longest`."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(longest)
    return [np.array(encoding.ids, dtype=np.int64) for encoding in tokenizer.encode_batch(list(passages))]


def sample(tokenizer_json: str, frame: Frame, limit: int) -> tuple[list[np.ndarray], int]:
    """Ids to compare on, of every length up to `limit`, and how many of the last are queries."""
    real = encode(tokenizer_json, texts.parity_texts(TEXTS), min(LONGEST, limit))
    first, last = len(frame.prefix), len(frame.suffix)
    bodies = [one[first : len(one) - last] for one in real]
    # Other scripts stand at the end of the list; taken in turns, every long text has some.
    mixed = np.concatenate([bodies[i] for i in np.argsort(np.arange(len(bodies)) % 8, kind="stable")])
    lengths = [np.array(one, np.int64) for one in texts.of_lengths(mixed.tolist(), frame, limit)]
    step = max(1, len(bodies) // QUERIES)
    frames = np.array(frame.prefix, np.int64), np.array(frame.suffix, np.int64)
    room = max(1, min(QUERY_TOKENS, limit) - first - last)
    queries = [np.concatenate([frames[0], body[:room], frames[1]]) for body in bodies[::step][:QUERIES]]
    return [*lengths, *real, *queries], len(queries)


def reference(run: Run, ids: list[np.ndarray], n_queries: int) -> Reference:
    """What the original makes of each text."""
    vectors: Vectors = {}
    for one in ids:
        for name, value in run(one).items():
            vectors.setdefault(name, []).append(value)
    return Reference(ids, n_queries, vectors)


def runner(session: Any) -> Run:
    """A graph as the original."""
    names = [output.name for output in session.get_outputs()]

    def run(ids: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value[0] for name, value in zip(names, session.run(names, feed(ids)), strict=True)}

    return run


def measure(path: Path, n_bytes: int, truth: Reference, longest: int | None = None) -> GraphParity:
    """Run a graph file on the reference's texts, on the CPU.

    Args:
        n_bytes: of all its files.
        longest: leave out longer texts.
    """
    session = open_file(path, rearrange=n_bytes < MOST_REARRANGED)
    names = list(truth.vectors)
    some = [i for i, one in enumerate(truth.ids) if longest is None or len(one) <= longest]
    found: Vectors = {name: [] for name in names}
    for i in some:
        for name, value in zip(names, session.run(names, feed(truth.ids[i])), strict=True):
            found[name].append(value[0].astype(np.float32))
    heads = {}
    for name in names:
        expected = [truth.vectors[name][i] for i in some]
        heads[name.removeprefix("embeddings_")] = compare(expected, found[name], truth.n_queries)
    del session
    return GraphParity(heads, n_bytes, _speed(path, names[:1], truth.ids))


def compare(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], n_queries: int) -> HeadParity:
    """Both float32 [tokens, dim] of unit rows for each text, queries last."""
    rows, others = np.concatenate(expected), np.concatenate(found)
    cosine = (rows * others).sum(1)
    return HeadParity(
        max_abs=float(np.abs(rows - others).max()),
        cosine_mean=float(cosine.mean()),
        cosine_p1=float(np.quantile(cosine, 0.01)),
        cosine_min=float(cosine.min()),
        rank_agreement=rank_agreement(_maxsim(expected, n_queries), _maxsim(found, n_queries)),
    )


def rank_agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """Share of document pairs ordered alike; both float [queries, documents]."""
    if expected.shape[0] == 0 or expected.shape[1] < 2:
        return 1.0
    first, second = np.triu_indices(expected.shape[1], 1)
    same = np.sign(expected[:, first] - expected[:, second]) == np.sign(found[:, first] - found[:, second])
    return float(same.mean())


def _maxsim(vectors: Sequence[np.ndarray], n_queries: int) -> np.ndarray:
    documents, queries = vectors[: len(vectors) - n_queries], vectors[len(vectors) - n_queries :]
    return np.array([[(query @ document.T).max(1).sum() for document in documents] for query in queries])


def feed(ids: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of one text."""
    return {"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])}


def _speed(path: Path, names: list[str], ids: list[np.ndarray]) -> float:
    session = open_file(path, threads=1)
    longest = max(map(len, ids))
    inputs = feed(np.resize(np.concatenate(ids), min(TIMED_TOKENS, longest)))
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        session.run(names, inputs)
        seconds.append(time.perf_counter() - start)
    return round(inputs["input_ids"].size / float(np.median(seconds)))
