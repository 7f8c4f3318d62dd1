"""Copies an index into Qdrant, and goes on where an earlier copy stopped.

Every point keeps a digest of what it was made from: text, metadata, token vectors, and how these were had. A
second run compares digests and sends what is missing or has changed since. So nothing beside the two ends has
to be kept, a run may be killed anywhere, and running it again after additions brings the copy up to date.

Memory does not grow with the index, but for `prune`, which holds 8 bytes a document.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from latebolt.adapters.qdrant_common.points import Points
from latebolt.adapters.qdrant_common.shape import NewPoint, check_model, point_id
from latebolt.adapters.qdrant_common.trial import sample_of
from latebolt.adapters.qdrant_common.vectors import VectorsFrom, copied_vectors, default_vectors
from latebolt.adapters.stages.learned import LearnedStage
from latebolt.arrays import Float32
from latebolt.errors import InvalidInput
from latebolt.index.index import Index
from latebolt.index.ingest.read_back import StoredDocuments
from latebolt.progress import progress_bar


@dataclass(frozen=True)
class Pushed:
    """What a copy did.

    Args:
        documents: looked at: all of the index's; of one that cuts texts, passages.
        sent: of these, written.
        kept: there already as they should be.
        from_texts, from_codes: of those sent, by where their token vectors came from.
        pruned: points removed because the index does not have them.
        seconds: taken.
    """

    documents: int
    sent: int
    kept: int
    from_texts: int
    from_codes: int
    pruned: int
    seconds: float


def push(
    index: Index,
    target: Points,
    vectors: VectorsFrom | None = None,
    prune: bool = False,
    show_progress: bool = False,
) -> Pushed:
    """Copy the documents of an index into a collection or shard, but for those that are there already.

    Args:
        index: copied as it is now; additions meanwhile are not.
        target: of the index's width, and made with `passages` where the index cuts texts.
        vectors: "texts" encodes each text again with the index's model. Documents without a text keep the
            vectors of the index, and so do those whose vectors were given and are not the model's. "codes"
            makes all vectors again from what the index keeps: no model is loaded, and a search finds what
            an exhaustive one in the index finds. By default what `default_vectors` says.
        prune: remove points of the target that the index does not have, whoever wrote them.
        show_progress: a bar on stderr.
    Raises:
        InvalidInput: the target does not fit the index, or vectors="texts" for an index without a model.
        ModelMismatch: the target was made for another model than the index, or the model found under the
            name that the index recorded is another one.
        What the target raises when a request fails for good. Called again, the copy goes on from there.
    """
    started = time.perf_counter()
    info = index.info()
    _check_target(index, target, info["passage_tokens"] is not None)
    source = vectors or default_vectors(index)
    if source not in ("texts", "codes"):
        raise InvalidInput(f'vectors should be "texts" or "codes", got {vectors!r}.')
    if source == "texts" and info["model"] is None:
        raise InvalidInput(f'{index.path}: has no model to encode texts with. Use vectors="codes".')
    if isinstance(target.stage, LearnedStage) and target.stage.sample is None:
        # Read back from the target, which keeps what searches need. Solved on other token vectors of the same
        # corpus, a document's vector is nearly the same.
        target.stage = target.stage.with_sample(sample_of(index, source).fitted)
    copy = _Copy(index, target, source)
    with progress_bar(info["passages"], "push", "document", show_progress) as bar:
        for block in index.iter_documents():
            copy.send(block, bar)
    if prune:
        copy.prune()
    return copy.done(time.perf_counter() - started)


def _check_target(index: Index, target: Points, cuts: bool) -> None:
    if target.dim != index.dim:
        raise InvalidInput(
            f"{target.place}: holds token vectors of size {target.dim}, and {index.path} has {index.dim}. "
            "Name another collection."
        )
    if index.model is not None:
        check_model(target.place, target.mark, index.model.source, index.model.fingerprint)
    if target.passages != cuts:
        raise InvalidInput(
            f"{target.place}: was made with passages={target.passages}, and {index.path} "
            f"{'cuts its texts into passages' if cuts else 'does not cut its texts'}. Name another "
            "collection."
        )


class _Copy:
    """A copy being made."""

    def __init__(self, index: Index, target: Points, source: VectorsFrom) -> None:
        self._index, self._target, self._source = index, target, source
        self._empty = len(target) == 0
        self._wanted = [np.zeros(0, np.uint64)]
        self._documents = self._sent = self._from_texts = self._pruned = 0

    def done(self, seconds: float) -> Pushed:
        """What was done."""
        sent, texts = self._sent, self._from_texts
        return Pushed(
            self._documents, sent, self._documents - sent, texts, sent - texts, self._pruned, seconds
        )

    def send(self, block: StoredDocuments, bar: progress_bar) -> None:
        """Write those documents of a block that the target lacks."""
        stored = block.token_vectors()
        ids = [point_id(id_, passage) for id_, passage in zip(block.ids, block.passages, strict=True)]
        digests = [self._digest(block, row, stored[row]) for row in range(len(block))]
        there = {} if self._empty else self._target.digests(ids)
        rows = [row for row in range(len(block)) if there.get(ids[row]) != digests[row]]
        self._documents += len(block)
        self._wanted.append(_beginnings(ids))
        bar.step(len(block) - len(rows))
        texts = [block.texts[row] for row in rows]
        matrices, encoded = copied_vectors(self._index, self._source, texts, [stored[row] for row in rows])
        self._from_texts += encoded
        self._target.write(self._points(block, rows, matrices, digests), bar)

    def _points(
        self, block: StoredDocuments, rows: list[int], matrices: list[Float32], digests: list[str]
    ) -> Iterator[NewPoint]:
        payloads = [
            self._target.payload(
                block.ids[row], block.texts[row], block.metadata[row], block.passages[row], digests[row]
            )
            for row in rows
        ]
        for point in self._target.points_of(payloads, matrices):
            yield point
            self._sent += 1

    def _digest(self, block: StoredDocuments, row: int, stored: Float32) -> str:
        stage = None if self._target.stage is None else self._target.stage.name
        parts = [1, self._source, stage, block.texts[row], block.metadata[row]]
        hasher = hashlib.blake2b(msgspec.json.encode(parts), digest_size=16)
        hasher.update(stored.tobytes())
        return hasher.hexdigest()

    def prune(self) -> None:
        """Remove points that no document of the index has."""
        wanted = np.unique(np.concatenate(self._wanted))
        for ids in self._target.point_ids():
            known = np.isin(_beginnings(ids), wanted)
            gone = [id_ for id_, keep in zip(ids, known, strict=True) if not keep]
            if gone:
                self._target.delete_points(gone)
                self._pruned += len(gone)


def _beginnings(point_ids: Sequence[str | int]) -> npt.NDArray[np.uint64]:
    """The first half of each UUID, which tells apart more points than there will be; 0 for a number."""
    halves = [0 if isinstance(id_, int) else uuid.UUID(id_).int >> 64 for id_ in point_ids]
    return np.array(halves, np.uint64)
