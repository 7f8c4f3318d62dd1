"""Chooses how a copy of an index is kept in Qdrant, by what is measured on a sample of the index: the
cheapest first stage and the smallest storage with which a search finds enough of what comparing all finds.

A first stage is measured by its candidates, each compared exactly. A storage is measured in Qdrant's own
engine (qdrant-edge-py, in a folder that goes away), with the chosen first stage, from end to end. The same
index gives the same choice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from latebolt.adapters.qdrant_common.shape import CANDIDATES
from latebolt.adapters.qdrant_common.storage import STORAGES
from latebolt.adapters.qdrant_common.vectors import copied_vectors
from latebolt.adapters.stages.base import MeanStage, PooledStage, Stage
from latebolt.adapters.stages.learned import LearnedStage
from latebolt.adapters.stages.overlap import (
    QUERIES,
    K,
    Sample,
    fraction,
    is_held_out,
    overlap,
    sentence_of,
    stage_overlap,
    window_of,
)
from latebolt.arrays import Float32, Int64
from latebolt.errors import InvalidInput
from latebolt.index.index import Index
from latebolt.values import TokenVectors

DOCUMENTS: Final = 2000
OVERLAP: Final = 0.98
_FEW_POOLED: Final = 32  # token vectors for each that is kept: about five a document
FIRST_STAGES: Final = ("auto", "mean", "pooled", "learned")


@dataclass(frozen=True)
class Measured:
    """One thing that was tried.

    Args:
        what: "first stage" or "storage".
        name: of it.
        overlap: share of the exact top ten that was found.
    """

    what: str
    name: str
    overlap: float


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen, and why.

    Args:
        stage: the first stage.
        storage: its name.
        wanted: least overlap that was asked for.
        measured: all that was tried, in order.
        documents, total: of the sample, and of the index.
        queries: that were asked.
        candidates: that the first stage handed on.
    """

    stage: Stage
    storage: str
    wanted: float
    measured: tuple[Measured, ...]
    documents: int
    total: int
    queries: int
    candidates: int

    @property
    def reached(self) -> bool:
        """Whether all that was chosen keeps as much as was asked for."""
        chosen = [each for each in self.measured if each.name in (self.stage_name, self.storage)]
        return all(each.overlap >= self.wanted for each in chosen)

    @property
    def stage_name(self) -> str:
        """The first stage as `measured` calls it."""
        return _shown(self.stage)

    def record(self) -> dict[str, Any]:
        """As JSON values, for a collection's metadata."""
        return {
            "first_stage": self.stage_name,
            "storage": self.storage,
            "wanted": self.wanted,
            "documents": self.documents,
            "total": self.total,
            "queries": self.queries,
            "candidates": self.candidates,
            "measured": [{**asdict(each), "overlap": round(each.overlap, 4)} for each in self.measured],
        }

    def __str__(self) -> str:
        of_all = f"{self.documents:,} of {self.total:,}" if self.documents < self.total else f"{self.total:,}"
        tried = ", ".join(f"{each.name} {each.overlap:.3f}" for each in self.measured)
        short = "" if self.reached else f"; none reaches {self.wanted:g}, these are the best"
        return (
            f"first stage {self.stage_name}, storage {self.storage}: share of the exact top {K}, on {of_all} "
            f"documents, {self.queries} queries of their own, {self.candidates} candidates: {tried}{short}"
        )


def choose(
    index: Index,
    vectors: str,
    first_stage: str = "auto",
    storage: str = "auto",
    wanted: float = OVERLAP,
    storages: Sequence[str] = tuple(STORAGES),
    documents: int = DOCUMENTS,
) -> Choice:
    """Measure on a sample of an index, and choose.

    Args:
        vectors: where a copy will have its token vectors from, "texts" or "codes"; see `push.push`.
        first_stage: "auto", the cheapest of "mean" and "pooled" that keeps enough; one of these or "learned",
            which is fitted to the sample's other documents first.
        storage: "auto", the smallest that keeps enough, or a name of `storage.STORAGES`.
        wanted: least share of the exact top ten, above 0 and up to 1.
        storages: names to choose from; only the last of one.
        documents: of the sample at most, about.
    Raises:
        InvalidInput: a name or number that does not fit; the index is empty; "learned" was asked for and
            keeps less than was wanted, or the index has too few documents to fit it.
        RuntimeUnavailable: several storages are to be measured, and qdrant-edge-py is not installed.
    """
    if not isinstance(wanted, float | int) or not 0 < wanted <= 1:
        raise InvalidInput(f"overlap should be above 0 and at most 1, got {wanted!r}.")
    if first_stage not in FIRST_STAGES:
        raise InvalidInput(f"first_stage should be one of {', '.join(FIRST_STAGES)}, got {first_stage!r}.")
    if storage != "auto" and storage not in STORAGES:
        raise InvalidInput(f"storage should be auto or one of {', '.join(STORAGES)}, got {storage!r}.")
    sample = sample_of(index, vectors, documents)
    exact, candidates = sample.exact(), sample.candidates(CANDIDATES)
    stage, tried = _choose_stage(index, sample, exact, candidates, first_stage, wanted)
    ladder = list(storages) if storage == "auto" else [storage]
    kept = ladder[-1]
    if len(ladder) > 1:
        best = -1.0
        for name in ladder:
            found = Measured("storage", name, _storage_overlap(stage, name, sample, exact, candidates))
            tried.append(found)
            if found.overlap > best:
                kept, best = name, found.overlap
            if found.overlap >= wanted:
                break
    return Choice(
        stage,
        kept,
        float(wanted),
        tuple(tried),
        len(sample.documents),
        sample.total,
        len(sample.queries),
        candidates,
    )


def chosen(
    index: Index,
    vectors: str,
    first_stage: str,
    storage: str,
    wanted: float,
    storages: Sequence[str] = tuple(STORAGES),
) -> tuple[str | Stage, str, Choice | None]:
    """First stage and storage of a copy, measured only where there is something to choose or to fit.

    Args:
        storages: that the engine has, from the smallest on; the last is taken where nothing is measured.
        Others: see `choose`.
    """
    if is_open(first_stage, storage, storages) and (len(index) or first_stage == "learned"):
        choice = choose(index, vectors, first_stage, storage, wanted, storages)
        return choice.stage, choice.storage, choice
    named = "mean" if first_stage == "auto" else first_stage
    return named, storages[-1] if storage == "auto" else storage, None


def is_open(first_stage: str, storage: str, storages: Sequence[str]) -> bool:
    """Whether there is something to measure: to choose, or to fit."""
    return first_stage in ("auto", "learned") or (storage == "auto" and len(storages) > 1)


def _choose_stage(
    index: Index, sample: Sample, exact: Sequence[Int64], candidates: int, wanted_stage: str, wanted: float
) -> tuple[Stage, list[Measured]]:
    dim = index.dim
    ladder: list[Stage]
    if wanted_stage == "learned":
        ladder = [LearnedStage.fit(sample.fitted)]
    elif wanted_stage == "mean":
        ladder = [MeanStage(dim)]
    else:
        ladder = [PooledStage(dim, _FEW_POOLED), PooledStage(dim)]
        ladder = [MeanStage(dim), *ladder] if wanted_stage == "auto" else ladder
    tried: list[Measured] = []
    best = ladder[0]
    for stage in ladder:
        kept = stage_overlap(stage, sample, exact, candidates)
        if not tried or kept > max(each.overlap for each in tried):
            best = stage
        tried.append(Measured("first stage", _shown(stage), kept))
        if kept >= wanted:
            break
    if wanted_stage == "learned" and tried[0].overlap < wanted:
        raise InvalidInput(
            f"{index.path}: a learned first stage keeps {tried[0].overlap:.3f} of the exact top {K} (on "
            f"{len(sample.queries)} queries that it was not fitted on, {candidates} candidates), less than "
            f"{wanted:g}. Use --first-stage pooled, or ask for less with --overlap."
        )
    return best, tried


def _shown(stage: Stage) -> str:
    return stage.kind if isinstance(stage, LearnedStage) else stage.name


def _storage_overlap(
    stage: Stage, storage: str, sample: Sample, exact: Sequence[Int64], candidates: int
) -> float:
    from latebolt.adapters.qdrant_edge import Shard

    dim = sample.documents.dim
    names = [str(i) for i in range(len(sample.documents))]
    with (
        tempfile.TemporaryDirectory(prefix="latebolt-trial-") as folder,
        Shard.create(Path(folder) / "s", dim=dim, first_stage=stage, storage=storage) as shard,
    ):
        shard.add_vectors(names, sample.documents)
        shard.optimize()
        answers = [shard.search_vectors(query, K, candidates=candidates) for query in sample.queries]
    found = [np.array([int(hit.id) for hit in hits], np.int64) for hits in answers]
    return overlap(found, exact)


def sample_of(index: Index, vectors: str, most: int = DOCUMENTS, queries: int = QUERIES) -> Sample:
    """About so many documents of an index with the vectors that a copy will have, and queries made of some.

    By a number made of the id: the same documents each time, and most of them after additions too.

    Raises:
        InvalidInput: the index is empty.
    """
    total = int(index.info()["passages"])
    if not total:
        raise InvalidInput(f"{index.path}: is empty, so there is nothing to measure on. Add documents first.")
    share = most / total
    matrices: list[Float32] = []
    asked: list[tuple[float, str | None, int]] = []
    for block in index.iter_documents():
        keys = [f"{id_}\0{passage}" for id_, passage in zip(block.ids, block.passages, strict=True)]
        rows = [row for row, key in enumerate(keys) if share >= 1 or fraction(key, "sample") < share]
        if not rows:
            continue
        texts = [block.texts[row] for row in rows]
        stored = list(block.token_vectors(rows))
        for row, text, matrix in zip(
            rows, texts, copied_vectors(index, vectors, texts, stored)[0], strict=True
        ):
            if is_held_out(keys[row]) and len(matrix):
                sentence = sentence_of(text) if text is not None and vectors == "texts" else None
                asked.append((fraction(keys[row], "query"), sentence, len(matrices)))
            matrices.append(matrix)
    if not matrices:  # a share so small that no document had it; the next larger one has some
        return sample_of(index, vectors, most * 2, queries)
    held_out = np.zeros(len(matrices), np.bool_)
    held_out[[row for _, _, row in asked]] = True
    asked = sorted(asked)[:queries]
    if not asked:
        filled = [i for i, matrix in enumerate(matrices) if len(matrix)]
        asked = [(0.0, None, row) for row in filled[:queries]]
    sentences = [sentence for _, sentence, _ in asked if sentence is not None]
    encoded = iter(index.encoder.encode_queries(sentences) if sentences else ())
    made = [window_of(matrices[row]) if sentence is None else next(encoded) for _, sentence, row in asked]
    return Sample(
        TokenVectors.from_matrices(matrices, index.dim),
        held_out,
        TokenVectors.from_matrices(made, index.dim),
        total,
    )
