"""What is done with documents as points wherever they are kept: in a client's collection (`adapters.qdrant`,
`adapters.qdrant_async`) or an edge shard (`adapters.qdrant_edge`). Imports none of these.

`DocumentPoints` checks, encodes and makes points, and knows no engine; `Points` writes and asks, one call
after another.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.adapters.qdrant_common.shape import (
    CANDIDATES,
    DIGEST,
    ID,
    METADATA,
    PASSAGE,
    TEXT,
    NewPoint,
    PointQuery,
    batches,
    check_model,
    point_id,
    shortened,
)
from latebolt.adapters.stages.base import Stage
from latebolt.arrays import Float32
from latebolt.checks import CheckedTexts, check_many, check_query
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, ModelMismatch
from latebolt.hits import Hit
from latebolt.index.documents.checked import CheckedDocument, with_ids
from latebolt.index.documents.documents import decode_metadata
from latebolt.index.ingest.sources import Metadata, batches_of, one_batch
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors

_CHUNK: Final = 256  # documents encoded at a time
_DELETED: Final = 256  # documents deleted by a request


class DocumentPoints:
    """Documents as points, without an engine.

    Args:
        place: what messages call it.
        dim: size of its token vectors.
        encoder: for texts and queries; None where only vectors go in and out.
        stage: what a search begins with; None for MaxSim alone.
        mark: what it was made for, see `CollectionSpec`; nothing of a collection that was made by hand.
    Raises:
        ModelMismatch: `encoder` gives vectors of another size, or is not the model it was made for.
    """

    most_values: int | None = None  # that a multivector may hold; documents with more are shortened

    def __init__(
        self, place: str, dim: int, encoder: Encoder | None, stage: Stage | None, mark: Mapping[str, Any]
    ) -> None:
        if encoder is not None:
            if encoder.dim != dim:
                raise ModelMismatch(
                    f"{place}: holds token vectors of size {dim}, and the encoder gives {encoder.dim}. Load "
                    f"the encoder with dim={dim}, or make another collection."
                )
            check_model(place, mark, encoder.model, encoder.fingerprint)
        self.place, self.dim, self.stage, self.mark = place, dim, stage, mark
        self.passages = bool(mark.get("passages"))  # documents are cut, and a search has to tell them apart
        self._encoder = encoder

    @property
    def first_stage(self) -> str | None:
        """Name of what a search begins with; None for MaxSim alone."""
        return None if self.stage is None else self.stage.kind

    @property
    def storage(self) -> str | None:
        """How token vectors are kept, see `storage.STORAGES`; None where nobody has noted it."""
        return self.mark.get("storage")

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

    def encoded(
        self, texts: Iterable[str], ids: Iterable[str] | None, metadata: Iterable[Metadata] | None
    ) -> Iterator[list[NewPoint]]:
        """Checked and encoded documents as points, some hundred at a time; see `Points.add`."""
        encoder = self.encoder
        for batch in batches_of(texts, ids, metadata):
            documents = batch.documents
            if not batch.is_named:
                documents = with_ids(documents, (str(uuid.uuid4()) for _ in documents))
            for start in range(0, len(documents), _CHUNK):
                texts_here = CheckedTexts(batch.texts[start : start + _CHUNK])
                vectors = encoder.encode_documents(texts_here)
                yield list(self._made(documents[start : start + _CHUNK], vectors))

    def given(
        self,
        ids: Sequence[str],
        token_vectors: TokenVectors,
        texts: Sequence[str] | None,
        metadata: Sequence[Metadata] | None,
    ) -> tuple[list[str], Iterator[NewPoint]]:
        """Ids and points of checked documents whose vectors are there already; see `Points.add_vectors`."""
        if token_vectors.dim != self.dim:
            raise InvalidInput(f"token_vectors should have dim {self.dim}, got {token_vectors.dim}.")
        if not np.isfinite(token_vectors.values).all():
            raise InvalidInput("token_vectors has a value that is not finite.")
        check_many(ids, "ids")  # which have no default here
        documents = one_batch(len(token_vectors), ids, texts, metadata).documents
        return [document.id for document in documents], self._made(documents, token_vectors)

    def _made(self, documents: Sequence[CheckedDocument], vectors: TokenVectors) -> Iterator[NewPoint]:
        for start in range(0, len(documents), _CHUNK):
            some = documents[start : start + _CHUNK]
            payloads = [self.payload(each.id, each.text, decode_metadata(each.metadata)) for each in some]
            matrices = [vectors[row] for row in range(start, start + len(some))]
            yield from self.points_of(payloads, matrices)

    def payload(
        self, id: str, text: str | None, metadata: Metadata, passage: int = 0, digest: str | None = None
    ) -> dict[str, Any]:
        """Of the point of a document, or of a passage of one."""
        payload: dict[str, Any] = {ID: id, TEXT: text, METADATA: metadata}
        if self.passages:
            payload[PASSAGE] = passage
        if digest is not None:
            payload[DIGEST] = digest
        return payload

    def points_of(self, payloads: Sequence[dict[str, Any]], matrices: Sequence[Float32]) -> list[NewPoint]:
        """Some hundred documents, or passages, as the points to be written for them."""
        if self.most_values is not None:
            matrices = [shortened(matrix, self.most_values // self.dim) for matrix in matrices]
        firsts: dict[int, Float32] = {}
        if self.stage is not None:
            filled = [i for i, matrix in enumerate(matrices) if len(matrix)]
            made = self.stage.of_documents([matrices[i] for i in filled])
            firsts = dict(zip(filled, made, strict=True))
        return [
            NewPoint(point_id(payload[ID], payload.get(PASSAGE, 0)), payload, matrix, firsts.get(i))
            for i, (payload, matrix) in enumerate(zip(payloads, matrices, strict=True))
        ]

    @staticmethod
    def checked_deletions(ids: Sequence[str]) -> Iterator[list[str]]:
        """Ids of documents to be deleted, by requests."""
        if isinstance(ids, str | bytes):
            raise InvalidInput(f"ids should be a list of str, got one {type(ids).__name__}.")
        return (list(ids[start : start + _DELETED]) for start in range(0, len(ids), _DELETED))

    def asked(
        self,
        matrix: npt.ArrayLike,
        k: int,
        where: Any,
        exhaustive: bool,
        candidates: int,
        search_params: Any,
    ) -> PointQuery:
        """A checked search; see `Points.search_vectors`."""
        query = np.asarray(matrix, np.float32)
        if query.ndim != 2 or query.shape[1] != self.dim or not len(query):
            raise InvalidInput(f"the query should be [n_query >= 1, {self.dim}], got shape {query.shape}.")
        for name, value in (("k", k), ("candidates", candidates)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} should be an int of at least 1, got {value!r}.")
        first = None if self.stage is None or exhaustive else self.stage.of_query(query)
        return PointQuery(query, first, k, max(k, candidates), where, exhaustive, search_params)

    def query_matrix(self, query: str) -> Float32:
        """Token vectors of a query that has at least one word."""
        check_query(query)
        return self.encoder.encode_queries([query])[0]

    @staticmethod
    def hit(id: Any, payload: Mapping[str, Any] | None, score: float) -> Hit:
        """A scored point; one that somebody else wrote keeps its own id, and its payload as metadata."""
        payload = payload or {}
        if ID not in payload:
            return Hit(str(id), score, None, dict(payload))
        return Hit(payload[ID], score, payload.get(TEXT), payload.get(METADATA) or {})


class Points(DocumentPoints, ABC):
    """Documents as points: what a collection and an edge shard have in common."""

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
        added: list[str] = []
        total = len(texts) if isinstance(texts, Sequence) else None
        with progress_bar(total, "upload", "text", show_progress) as bar:
            for points in self.encoded(texts, ids, metadata):
                self.write(points, bar)
                added += [point.payload[ID] for point in points]
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
        names, points = self.given(ids, token_vectors, texts, metadata)
        with progress_bar(len(names), "upload", "document", show_progress) as bar:
            self.write(points, bar)
        return names

    def write(self, points: Iterable[NewPoint], bar: progress_bar | None = None) -> None:
        """Write points, request by request."""
        for batch in batches(points):
            self._upsert(batch)
            if bar is not None:
                bar.step(len(batch), sum(len(point.tokens) for point in batch))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents; unknown ids are ignored."""
        for some in self.checked_deletions(ids):
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
            exhaustive: compare the vectors of every document as they are stored, without the first stage, an
                HNSW graph or vectors quantised beside them.
            candidates: documents that the first stage hands on to MaxSim, where there is one; at least k.
            search_params: of Qdrant, for every stage. By default, where token vectors are quantised, the
                best 4 k are compared again as floats.
        Raises:
            InvalidInput: an empty query, or k or candidates below 1.
        """
        matrix = self.query_matrix(query)
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
        return self._find(self.asked(matrix, k, where, exhaustive, candidates, search_params))

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
