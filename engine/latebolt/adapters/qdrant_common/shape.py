"""What a document is in Qdrant: a point with an id, a payload and one or two vectors; and what a collection
notes of what it was made for. Pure; `adapters.qdrant_common.points` is what is done with points.

- Qdrant's ids are numbers or UUIDs, ours are strings: a point's id is the UUIDv5 of ours, so that adding a
  document again replaces it. The string is kept in the payload.
- The payload is {"id", "text", "metadata"}, so that Qdrant's filters name a field of the metadata as
  "metadata.year". Of documents cut into passages, each passage is a point, with its number as "passage".
- The token vectors are a multivector compared by MaxSim. A second vector may stand beside it for a cheap
  first stage, see `adapters.stages`.
- The metadata of a collection has the mark: model, fingerprint, whether there are passages, first stage,
  storage, and what was measured to choose these.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from latebolt.adapters.qdrant_common.storage import Storage, named_storage
from latebolt.adapters.stages.base import MeanStage, PooledStage, Stage
from latebolt.adapters.stages.record import named_stage, stage_from
from latebolt.arrays import Float32
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, ModelMismatch
from latebolt.index.index import Index

ID: Final = "id"
TEXT: Final = "text"
METADATA: Final = "metadata"
PASSAGE: Final = "passage"
MARK: Final = "latebolt"  # in the metadata of a collection
DIGEST: Final = "digest"  # of what a migration has sent, see `adapters.qdrant_common.push`

TOKENS: Final = "tokens"  # name of the multivector, where there are two vectors
FIRST: Final = "first"  # name of the first stage's
CANDIDATES: Final = 200  # points that the first stage hands on
# Of quantised token vectors, so many times k are compared again as floats.
OVERSAMPLING: Final = 4.0

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "latebolt:document")
# Far below the 32 MB that Qdrant takes by default, so that a client's default timeout of 5 s is enough.
_BATCH_BYTES: Final = 4 << 20
_VALUE_BYTES: Final = 12
_BATCH_POINTS: Final = 256


def point_id(id: str, passage: int = 0) -> str:
    """The UUID of a document's point; of one cut into passages, of a passage's."""
    document = uuid.uuid5(_NAMESPACE, id)
    return str(uuid.uuid5(document, str(passage)) if passage else document)


class PointQuery(NamedTuple):
    """A search as an engine answers it.

    query float32 [n_query, dim]; first: what the first stage compares, [dim] or [n, dim], None for MaxSim
    alone; candidates of it; where and search_params are the engine's own.
    """

    query: Float32
    first: Float32 | None
    k: int
    candidates: int
    where: Any
    exhaustive: bool
    search_params: Any


@dataclass(frozen=True, eq=False)
class NewPoint:
    """A point to be written.

    Args:
        id: a UUID.
        payload: JSON values.
        tokens: float32 [n_tokens, dim]; a point without tokens has no vectors, and no search finds it.
        first: what the first stage compares, [dim] or [n, dim].
    """

    id: str
    payload: dict[str, Any]
    tokens: Float32
    first: Float32 | None = None

    @property
    def n_bytes(self) -> int:
        """About how long it is as JSON."""
        values = self.tokens.size + (0 if self.first is None else self.first.size)
        return values * _VALUE_BYTES + 2 * len(self.payload.get(TEXT) or "") + 1000


def batches(points: Iterable[NewPoint]) -> Iterator[list[NewPoint]]:
    """The points in requests of a bounded size; a point that is larger makes one of its own."""
    batch: list[NewPoint] = []
    size = 0
    for point in points:
        if batch and (size + point.n_bytes > _BATCH_BYTES or len(batch) == _BATCH_POINTS):
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += point.n_bytes
    if batch:
        yield batch


def shortened(matrix: Float32, most: int) -> Float32:
    """At most so many token vectors: of the neighbours that are most alike, two become their normalised mean.

    Args:
        matrix: float32 [n, dim], unit length.
        most: at least 1.
    """
    while len(matrix) > most:
        alike = (matrix[:-1] * matrix[1:]).sum(axis=1)
        taken = np.zeros(len(matrix), np.bool_)
        left: list[int] = []
        for i in np.argsort(-alike, kind="stable"):
            if not taken[i] and not taken[i + 1]:
                taken[i : i + 2] = True
                left.append(int(i))
                if len(left) == len(matrix) - most:
                    break
        means = matrix[left] + matrix[np.array(left) + 1]
        joined = matrix.copy()
        joined[left] = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        matrix = np.delete(joined, np.array(left) + 1, axis=0)
    return matrix


@dataclass(frozen=True)
class CollectionSpec:
    """What a collection or shard is made for.

    Args:
        dim: size of its token vectors.
        mark: what it keeps beside that, see the module.
        stage: what its searches begin with; None for MaxSim alone.
        storage: how it keeps token vectors.
    """

    dim: int
    mark: dict[str, Any]
    stage: Stage | None
    storage: Storage


def collection_spec(
    encoder: Encoder | None,
    dim: int | None,
    like: Index | None,
    first_stage: str | Stage | None = None,
    storage: str = "float32",
    has_quantization: bool = False,
    measured: Mapping[str, Any] | None = None,
) -> CollectionSpec:
    """What to make a collection for.

    Args:
        has_quantization: some is asked for by hand.
        measured: JSON values to keep in the mark.
    Raises:
        InvalidInput: no width is given, or two that differ; encoder and index are of different models; there
            is no such first stage or storage.
    """
    given = {"dim": dim} if dim is not None else {}
    given |= {name: one.dim for name, one in (("encoder", encoder), ("like", like)) if one is not None}
    if len(set(given.values())) != 1:
        found = ", ".join(f"{name} {width}" for name, width in given.items()) or "nothing"
        raise InvalidInput(
            f"a collection needs one width of token vectors, of encoder, dim or like (an index), got {found}."
        )
    width = next(iter(given.values()))
    passages = like is not None and like.info()["passage_tokens"] is not None
    stage, kept = named_stage(first_stage, width), named_storage(storage, has_quantization)
    mark: dict[str, Any] = {"model": None, "fingerprint": None, "passages": passages, "storage": kept.name}
    if stage is not None:
        mark["first_stage"] = stage.record()
    if measured is not None:
        mark["measured"] = dict(measured)
    if like is not None and like.model is not None:
        mark |= {"model": like.model.source, "fingerprint": like.model.fingerprint}
    if encoder is not None:
        if mark["fingerprint"] not in (None, encoder.fingerprint):
            raise InvalidInput(
                f'like was made with model "{mark["model"]}", and encoder "{encoder.model}" gives other '
                "vectors."
            )
        mark |= {"model": encoder.model, "fingerprint": encoder.fingerprint}
    return CollectionSpec(width, mark, stage, kept)


def checked_mark(mark: Any, place: str) -> dict[str, Any]:
    """The mark of a collection as it was read; nothing of a collection that was made by hand.

    Raises:
        InvalidInput: it is something else than fields by name.
    """
    if mark is None:
        return {}
    if not isinstance(mark, Mapping):
        raise InvalidInput(
            f'{place}: its metadata has "{MARK}", which should be an object, got {type(mark).__name__}. Push '
            "into a new collection."
        )
    return dict(mark)


def found_stage(mark: Mapping[str, Any] | None, dim: int, is_multi: bool, place: str) -> Stage:
    """The first stage of a collection that has the vector of one; collections of old say nothing of it.

    Args:
        is_multi: the vector is a multivector.
    Raises:
        InvalidInput: the mark's is damaged or does not go with the vector.
    """
    record = (mark or {}).get("first_stage")
    if record is None:
        return PooledStage(dim) if is_multi else MeanStage(dim)
    stage = stage_from(record, dim, place)
    if stage.is_multi != is_multi:
        raise InvalidInput(
            f'{place}: its mark names first stage "{stage.kind}", and vector "{FIRST}" is of another. Push '
            "into a new collection."
        )
    return stage


def check_model(place: str, mark: Mapping[str, Any], model: str | None, fingerprint: str | None) -> None:
    """Raise ModelMismatch where a collection was made for another model than a given one."""
    wanted = mark.get("fingerprint")
    if None not in (wanted, fingerprint) and wanted != fingerprint:
        raise ModelMismatch(
            f'{place}: was made for model "{mark.get("model")}", and "{model}" gives other vectors. Use the '
            "model it was made for, or make another collection."
        )
