"""What a document is in Qdrant, a point with an id, a payload and one or two vectors, and what is done with
points wherever they are kept: in a client's collection (`adapters.qdrant`) or an edge shard
(`adapters.qdrant_edge`). Imports neither.

- Qdrant's ids are numbers or UUIDs, ours are strings: a point's id is the UUIDv5 of ours, so that adding a
  document again replaces it. The string is kept in the payload.
- The payload is {"id", "text", "metadata"}, so that Qdrant's filters name a field of the metadata as
  "metadata.year". Of documents cut into passages, each passage is a point, with its number as "passage".
- The token vectors are a multivector compared by MaxSim. A second vector may stand beside it for a cheap
  first stage: the mean of the token vectors, or token vectors pooled to an eighth.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Float32
from latebolt.checks import CheckedTexts, check_many, check_query
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import pool_tokens
from latebolt.errors import InvalidInput, ModelMismatch
from latebolt.hits import Hit
from latebolt.index.documents.checked import CheckedDocument, with_ids
from latebolt.index.documents.documents import decode_metadata
from latebolt.index.index import Index
from latebolt.index.ingest.sources import Metadata, batches_of, one_batch
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors

FirstStage = Literal["mean", "pooled"]

ID: Final = "id"
TEXT: Final = "text"
METADATA: Final = "metadata"
PASSAGE: Final = "passage"
MARK: Final = "latebolt"  # in the metadata of a collection
DIGEST: Final = "digest"  # of what a migration has sent, see `adapters.qdrant_push`

TOKENS: Final = "tokens"  # name of the multivector, where there are two vectors
FIRST: Final = "first"  # name of the first stage's
POOL_FACTOR: Final = 8
CANDIDATES: Final = 200  # points that the first stage hands on
# Of quantised token vectors, so many times k are compared again as floats.
OVERSAMPLING: Final = 4.0

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "latebolt:document")
_CHUNK: Final = 256  # documents encoded at a time
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


def first_stage_of(matrix: Float32, kind: FirstStage) -> Float32:
    """What the first stage compares, of a document's token vectors or, for "mean", of a query's."""
    if kind == "mean":
        return np.asarray(matrix.mean(axis=0, dtype=np.float32))
    return pool_tokens(np.ascontiguousarray(matrix), POOL_FACTOR, 0)


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


def check_first_stage(kind: str | None) -> None:
    """Raise InvalidInput for a first stage that there is not."""
    if kind not in (None, "mean", "pooled"):
        raise InvalidInput(f'first_stage should be "mean", "pooled" or None, got {kind!r}.')


@dataclass(frozen=True)
class CollectionSpec:
    """What a collection or shard is made for.

    Args:
        dim: size of its token vectors.
        mark: what it keeps beside that: "model", its "fingerprint", and whether documents come cut into
            "passages".
    """

    dim: int
    mark: dict[str, Any]


def collection_spec(encoder: Encoder | None, dim: int | None, like: Index | None) -> CollectionSpec:
    """What to make a collection for.

    Raises:
        InvalidInput: no width is given, or two that differ; encoder and index are of different models.
    """
    given = {"dim": dim} if dim is not None else {}
    given |= {name: one.dim for name, one in (("encoder", encoder), ("like", like)) if one is not None}
    if len(set(given.values())) != 1:
        found = ", ".join(f"{name} {width}" for name, width in given.items()) or "nothing"
        raise InvalidInput(
            f"a collection needs one width of token vectors, of encoder, dim or like (an index), got {found}."
        )
    passages = like is not None and like.info()["passage_tokens"] is not None
    mark: dict[str, Any] = {"model": None, "fingerprint": None, "passages": passages}
    if like is not None and like.model is not None:
        mark |= {"model": like.model.source, "fingerprint": like.model.fingerprint}
    if encoder is not None:
        if mark["fingerprint"] not in (None, encoder.fingerprint):
            raise InvalidInput(
                f'like was made with model "{mark["model"]}", and encoder "{encoder.model}" gives other '
                "vectors."
            )
        mark |= {"model": encoder.model, "fingerprint": encoder.fingerprint}
    return CollectionSpec(next(iter(given.values())), mark)


def check_model(place: str, mark: Mapping[str, Any], model: str | None, fingerprint: str | None) -> None:
    """Raise ModelMismatch where a collection was made for another model than a given one."""
    wanted = mark.get("fingerprint")
    if None not in (wanted, fingerprint) and wanted != fingerprint:
        raise ModelMismatch(
            f'{place}: was made for model "{mark.get("model")}", and "{model}" gives other vectors. Use the '
            "model it was made for, or make another collection."
        )


class Points(ABC):
    """Documents as points: what a collection and an edge shard have in common.

    Args:
        place: what messages call it.
        dim: size of its token vectors.
        encoder: for texts and queries; None where only vectors go in and out.
        first_stage: what a search begins with; None for MaxSim alone.
        mark: what it was made for, see `CollectionSpec`; nothing of a collection that was made by hand.
    Raises:
        ModelMismatch: `encoder` gives vectors of another size, or is not the model it was made for.
    """

    most_values: int | None = None  # that a multivector may hold; documents with more are shortened

    def __init__(
        self,
        place: str,
        dim: int,
        encoder: Encoder | None,
        first_stage: FirstStage | None,
        mark: Mapping[str, Any],
    ) -> None:
        if encoder is not None:
            if encoder.dim != dim:
                raise ModelMismatch(
                    f"{place}: holds token vectors of size {dim}, and the encoder gives {encoder.dim}. Load "
                    f"the encoder with dim={dim}, or make another collection."
                )
            check_model(place, mark, encoder.model, encoder.fingerprint)
        self.place, self.dim, self.first_stage, self.mark = place, dim, first_stage, mark
        self.passages = bool(mark.get("passages"))  # documents are cut, and a search has to tell them apart
        self._encoder = encoder

    @property
    def encoder(self) -> Encoder:
        """The encoder of texts and queries.

        Raises:
            InvalidInput: there is none.
        """
        if self._encoder is None:
            raise InvalidInput(
                f"{self.place}: was opened without an encoder. Use add_vectors and search_vectors, or open "
                "it with encoder=..."
            )
        return self._encoder

    # Writing

    def add(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadata: Iterable[Metadata] | None = None,
        show_progress: bool = False,
    ) -> list[str]:
        """Encode documents and write them, some hundred at a time.

        Each request is written when it is answered, and sent again where it fails for a reason that passes;
        after an error or Ctrl-C, what was written stays. Given the same ids, the same call again replaces it.

        Args:
            texts: the documents; any iterable, of which memory holds 32,768 at a time.
            ids: one str a text; a document with an id that exists is replaced. Random UUIDs by default, as
                `QdrantClient.upload_collection` gives.
            metadata: one JSON object (or None) a text, the payload's "metadata".
            show_progress: a bar on stderr.
        Returns:
            The ids.
        Raises:
            InvalidInput: lengths differ, or a value does not fit; names the position.
        """
        encoder = self.encoder
        added: list[str] = []
        total = len(texts) if isinstance(texts, Sequence) else None
        with progress_bar(total, "upload", "text", show_progress) as bar:
            for batch in batches_of(texts, ids, metadata):
                documents = batch.documents
                if not batch.is_named:
                    documents = with_ids(documents, (str(uuid.uuid4()) for _ in documents))
                for start in range(0, len(documents), _CHUNK):
                    chunk = documents[start : start + _CHUNK]
                    texts_here = CheckedTexts(batch.texts[start : start + _CHUNK])
                    self._write_documents(chunk, encoder.encode_documents(texts_here), bar)
                added += [document.id for document in documents]
        return added

    def add_vectors(
        self,
        ids: Sequence[str],
        token_vectors: TokenVectors,
        texts: Sequence[str] | None = None,
        metadata: Sequence[Metadata] | None = None,
        show_progress: bool = False,
    ) -> list[str]:
        """Write documents whose token vectors are there already; see `add`.

        Args:
            token_vectors: one entry a document, of the collection's width. A document without vectors is
                kept, and no search finds it.
        """
        if token_vectors.dim != self.dim:
            raise InvalidInput(f"token_vectors should have dim {self.dim}, got {token_vectors.dim}.")
        if not np.isfinite(token_vectors.values).all():
            raise InvalidInput("token_vectors has a value that is not finite.")
        check_many(ids, "ids")  # which have no default here
        documents = one_batch(len(token_vectors), ids, texts, metadata).documents
        with progress_bar(len(documents), "upload", "document", show_progress) as bar:
            self._write_documents(documents, token_vectors, bar)
        return [document.id for document in documents]

    def _write_documents(
        self, documents: Sequence[CheckedDocument], vectors: TokenVectors, bar: progress_bar
    ) -> None:
        points = (
            self.point(document.id, document.text, decode_metadata(document.metadata), matrix)
            for document, matrix in zip(documents, vectors, strict=True)
        )
        self.write(points, bar)

    def point(
        self,
        id: str,
        text: str | None,
        metadata: Metadata,
        matrix: Float32,
        passage: int = 0,
        digest: str | None = None,
    ) -> NewPoint:
        """A document, or a passage of one, as the point to be written for it."""
        if self.most_values is not None:
            matrix = shortened(matrix, self.most_values // self.dim)
        payload: dict[str, Any] = {ID: id, TEXT: text, METADATA: metadata}
        if self.passages:
            payload[PASSAGE] = passage
        if digest is not None:
            payload[DIGEST] = digest
        first = None
        if self.first_stage is not None and len(matrix):
            first = first_stage_of(matrix, self.first_stage)
        return NewPoint(point_id(id, passage), payload, matrix, first)

    def write(self, points: Iterable[NewPoint], bar: progress_bar | None = None) -> None:
        """Write points, request by request."""
        for batch in batches(points):
            self._upsert(batch)
            if bar is not None:
                bar.step(len(batch), sum(len(point.tokens) for point in batch))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents; unknown ids are ignored."""
        if isinstance(ids, str | bytes):
            raise InvalidInput(f"ids should be a list of str, got one {type(ids).__name__}.")
        for start in range(0, len(ids), _BATCH_POINTS):
            some = list(ids[start : start + _BATCH_POINTS])
            if self.passages:
                self._delete_documents(some)
            else:
                self.delete_points([point_id(id_) for id_ in some])

    # Searching

    def search(
        self,
        query: str,
        k: int = 10,
        where: Any = None,
        exhaustive: bool = False,
        candidates: int = CANDIDATES,
        search_params: Any = None,
    ) -> list[Hit]:
        """The best documents for a query by MaxSim, best first.

        A document that was cut into passages comes once, with the score and the text of its best passage.

        Args:
            query: a text with at least one word.
            k: hits wanted.
            where: a filter of Qdrant; fields of the metadata are named "metadata.year".
            exhaustive: compare the float vectors of every document, without the first stage, an HNSW graph
                or quantised vectors.
            candidates: documents that the first stage hands on to MaxSim, where there is one; at least k.
            search_params: of Qdrant, for every stage. By default, where token vectors are quantised, the
                best 4 k are compared again as floats.
        Raises:
            InvalidInput: an empty query, or k or candidates below 1.
        """
        check_query(query)
        [matrix] = self.encoder.encode_queries([query])
        return self.search_vectors(matrix, k, where, exhaustive, candidates, search_params)

    def search_vectors(
        self,
        matrix: npt.ArrayLike,
        k: int = 10,
        where: Any = None,
        exhaustive: bool = False,
        candidates: int = CANDIDATES,
        search_params: Any = None,
    ) -> list[Hit]:
        """`search` with a query's token vectors, float32 [n_query >= 1, dim]."""
        query = np.asarray(matrix, np.float32)
        if query.ndim != 2 or query.shape[1] != self.dim or not len(query):
            raise InvalidInput(f"the query should be [n_query >= 1, {self.dim}], got shape {query.shape}.")
        for name, value in (("k", k), ("candidates", candidates)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} should be an int of at least 1, got {value!r}.")
        first = None
        if self.first_stage is not None and not exhaustive:
            first = first_stage_of(query, "mean") if self.first_stage == "mean" else query
        return self._find(PointQuery(query, first, k, max(k, candidates), where, exhaustive, search_params))

    @staticmethod
    def hit(id: Any, payload: Mapping[str, Any] | None, score: float) -> Hit:
        """A scored point; one that somebody else wrote keeps its own id, and its payload as metadata."""
        payload = payload or {}
        if ID not in payload:
            return Hit(str(id), score, None, dict(payload))
        return Hit(payload[ID], score, payload.get(TEXT), payload.get(METADATA) or {})

    # What the two engines do each in its own way

    @abstractmethod
    def __len__(self) -> int:
        """Documents."""

    def __bool__(self) -> bool:
        """There is one, however many documents it holds."""
        return True

    @abstractmethod
    def _upsert(self, batch: Sequence[NewPoint]) -> None:
        """Write points, until they are there."""

    @abstractmethod
    def _find(self, wanted: PointQuery) -> list[Hit]:
        """The search itself."""

    @abstractmethod
    def _delete_documents(self, ids: Sequence[str]) -> None:
        """Delete all passages of documents."""

    @abstractmethod
    def delete_points(self, point_ids: Sequence[str | int]) -> None:
        """Delete points by their UUIDs."""

    @abstractmethod
    def digests(self, point_ids: Sequence[str]) -> dict[str, str | None]:
        """The payload's digest of those of these points that exist."""

    @abstractmethod
    def point_ids(self) -> Iterator[list[str | int]]:
        """All points' ids, UUIDs or the numbers that somebody else gave, some thousand at a time."""
