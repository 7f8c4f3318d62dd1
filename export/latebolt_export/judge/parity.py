"""Compares every graph with the float32 original on real texts: figures, not what is done about them.

Each text is one run, as the runtime does it on a CPU, with the ids and the mask that the runtime makes of it.
The original is the PyTorch module, or the graph that an export started from.
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

from latebolt.encoder.text import TextPipeline
from latebolt_export.judge import texts
from latebolt_export.judge.side_by_side import SideBySide
from latebolt_export.sessions import open_file

TEXTS = 48
LONGEST = 256  # tokens of a parity text; `texts.of_lengths` adds longer ones
QUERIES, QUERY_WORDS = 16, 9  # texts of which the beginning serves as a query, and how much of it
MOST_REARRANGED = 1 << 30  # bytes of a graph that is compared at full speed
TIMED_TOKENS, TIMED_RUNS = 128, 9

Vectors = dict[str, list[np.ndarray]]  # output name -> float32 [tokens, dim] of each text
# ids and mask, int64 [tokens] -> output name -> float32 [tokens, dim]
Run = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


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
    word_table: str = ""  # int8: how it is kept, int8, int4 or float32
    as_runtime: int = 0  # texts with markers, prompts, expansion and mask as the runtime makes them
    masked: int = 0  # texts of these whose mask has zeros
    rules: list[str] = []  # the text rules, in words; the comparison of graphs says nothing of them
    notes: list[str] = []  # settings of the source that could not be kept
    heads: dict[str, str] = {}  # width -> where its weights come from
    beside: SideBySide | None = None  # the library that the checkpoint was made for


@dataclass(frozen=True, eq=False)
class Sample:
    """Texts to compare on, as ids: first of every length, without markers; then as the runtime makes them."""

    ids: list[np.ndarray]  # int64 [tokens] each
    masks: list[np.ndarray]  # likewise; ones, then zeros
    n_queries: int  # the last so many are queries, the others documents
    as_runtime: int  # the last so many are made by the text rules

    @property
    def longest(self) -> int:
        return max(map(len, self.ids))

    @property
    def masked(self) -> int:
        """Texts of which a part is not attended to."""
        return sum(1 for mask in self.masks if not mask.all())


@dataclass(frozen=True, eq=False)
class Reference:
    """Texts as ids, and what the original makes of them."""

    sample: Sample
    vectors: Vectors


def encode(tokenizer_json: str, passages: Sequence[str], longest: int) -> list[np.ndarray]:
    """int64 ids of each text with the tokenizer's own frame, at most `longest`."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(longest)
    return [np.array(encoding.ids, dtype=np.int64) for encoding in tokenizer.encode_batch(list(passages))]


def sample(tokenizer_json: str, pipeline: TextPipeline) -> Sample:
    """Texts of every length that the encoder takes, then documents and queries by the contract's rules.

    Args:
        pipeline: of the same tokenizer; holds the contract.
    """
    passages, contract = texts.parity_texts(TEXTS), pipeline.contract
    frame, limit = contract.frame, contract.max_tokens
    first, last = len(frame.prefix), len(frame.suffix)
    bodies = [one[first : len(one) - last] for one in encode(tokenizer_json, passages, min(LONGEST, limit))]
    # Other scripts stand at the end of the list; taken in turns, every long text has some.
    mixed = np.concatenate([bodies[i] for i in np.argsort(np.arange(len(bodies)) % 8, kind="stable")])
    lengths = [np.array(one, np.int64) for one in texts.of_lengths(mixed.tolist(), frame, limit)]
    starts = [" ".join(text.split()[:QUERY_WORDS]) for text in passages]
    longest = min(LONGEST, contract.document.max_tokens, limit)
    made = pipeline.tokenize(passages, "document", longest, at_once=True)
    made += pipeline.tokenize(starts[:: max(1, len(starts) // QUERIES)][:QUERIES], "query")
    masks = [np.ones_like(one) for one in lengths]
    masks += [(np.arange(len(one.ids)) < one.attended).astype(np.int64) for one in made]
    return Sample([*lengths, *(one.ids for one in made)], masks, len(made) - len(passages), len(made))


def reference(run: Run, sample: Sample) -> Reference:
    """What the original makes of each text."""
    vectors: Vectors = {}
    for ids, mask in zip(sample.ids, sample.masks, strict=True):
        for name, value in run(ids, mask).items():
            vectors.setdefault(name, []).append(value)
    return Reference(sample, vectors)


def runner(session: Any) -> Run:
    """A graph as the original."""
    names = [output.name for output in session.get_outputs()]

    def run(ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        found = session.run(names, feed(ids, mask))
        return {name: value[0] for name, value in zip(names, found, strict=True)}

    return run


def measure(path: Path, n_bytes: int, truth: Reference, longest: int | None = None) -> GraphParity:
    """Run a graph file on the reference's texts, on the CPU.

    Args:
        n_bytes: of all its files.
        longest: leave out longer texts.
    """
    heads = _heads(path, n_bytes, truth, longest)
    return GraphParity(heads, n_bytes, _speed(path, list(truth.vectors)[:1], truth.sample.ids))


def _heads(path: Path, n_bytes: int, truth: Reference, longest: int | None) -> dict[str, HeadParity]:
    """Every output, in a session that is gone with its vectors when the next one is opened."""
    session = open_file(path, rearrange=n_bytes < MOST_REARRANGED)
    names = list(truth.vectors)
    ids, masks = truth.sample.ids, truth.sample.masks
    some = [i for i, one in enumerate(ids) if longest is None or len(one) <= longest]
    found: Vectors = {name: [] for name in names}
    for i in some:
        for name, value in zip(names, session.run(names, feed(ids[i], masks[i])), strict=True):
            found[name].append(value[0].astype(np.float32))
    heads = {}
    for name in names:
        expected = [truth.vectors[name][i] for i in some]
        heads[name.removeprefix("embeddings_")] = compare(expected, found[name], truth.sample.n_queries)
    return heads


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
    """float32 [queries, documents]; one product a query, as a thousand small ones take ten times as long."""
    documents, queries = vectors[: len(vectors) - n_queries], vectors[len(vectors) - n_queries :]
    rows = np.concatenate(documents).T
    starts = np.cumsum([0, *map(len, documents[:-1])])
    return np.array([np.maximum.reduceat(query @ rows, starts, axis=1).sum(0) for query in queries])


def feed(ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of one text."""
    return {"input_ids": ids[None], "attention_mask": mask[None]}


def _speed(path: Path, names: list[str], ids: list[np.ndarray]) -> float:
    session = open_file(path, threads=1)
    longest = max(map(len, ids))
    timed = np.resize(np.concatenate(ids), min(TIMED_TOKENS, longest))
    inputs = feed(timed, np.ones_like(timed))
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        session.run(names, inputs)
        seconds.append(time.perf_counter() - start)
    return round(inputs["input_ids"].size / float(np.median(seconds)))
