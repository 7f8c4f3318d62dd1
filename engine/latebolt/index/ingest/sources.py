"""Where an addition's documents come from: checked ones in batches, and their token vectors when needed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Bool, Float32, Int64
from latebolt.checks import CheckedTexts, check_many
from latebolt.codec.base import Codec, Columns
from latebolt.codec.coding import KERNELS, Placed
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.devices import Device
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.pooling import Pooling
from latebolt.errors import InvalidInput
from latebolt.hits import Span
from latebolt.index.documents.checked import CheckedDocument, check_documents
from latebolt.index.documents.origins import Place, origins_of
from latebolt.index.documents.passages import Cutting, cut_parts
from latebolt.index.documents.windows import TokenPlaces
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors

Metadata = Mapping[str, Any] | None
T = TypeVar("T")

# Of a stream held at a time: documents enough to draw a fair sample from, and characters of their texts, for
# files of a folder may be a thousand times as long as notes.
BATCH_DOCUMENTS: Final = 32_768
BATCH_CHARACTERS: Final = 16_000_000
# Documents cut into passages at a time: bounds the tokens held.
CUT_DOCUMENTS: Final = 64
_UNPOOLED: Final = Pooling()


class TextWindow(NamedTuple):
    """A part of a document's text that is encoded at once, for late chunking.

    Args:
        document: the whole text, of which the characters [start, stop) are meant.
        parts: characters of `text` that each passage has.
        rows: the passages' rows in their batch.
    """

    document: str
    start: int
    stop: int
    parts: Sequence[Span]
    rows: range

    @property
    def text(self) -> str:
        """What is encoded; made when it is asked for, as most of it stands in its neighbours too."""
        return self.document[self.start : self.stop]


@dataclass(frozen=True)
class Batch:
    """Some checked documents of an addition, or passages of them.

    Args:
        first: position of the first in the addition, for messages.
        goes_on: more may follow, nobody knows how many.
        passages: number of each passage within its document; None where each is a document.
        windows: what the passages are cut out of once it is encoded, in the order of their rows; None where
            each is encoded by itself.
    """

    first: int
    documents: Sequence[CheckedDocument]
    goes_on: bool = False
    passages: Sequence[int] | None = None
    windows: Sequence[TextWindow] | None = None

    def __len__(self) -> int:
        return len(self.documents)

    @cached_property
    def texts(self) -> CheckedTexts:
        """The text of each."""
        return CheckedTexts([document.text or "" for document in self.documents])

    @property
    def units(self) -> Sequence[range]:
        """The rows that are encoded together."""
        if self.windows is None:
            return [range(row, row + 1) for row in range(len(self))]
        return [window.rows for window in self.windows]

    @property
    def is_named(self) -> bool:
        """Whether the documents have ids already: all or none of an addition have."""
        return bool(self.documents and self.documents[0].id)


def one_batch(
    n: int,
    ids: Sequence[str] | None,
    texts: Sequence[str | None] | None,
    metadata: Sequence[Metadata] | None,
) -> Batch:
    """A whole addition of n documents, which need not have texts.

    Raises:
        InvalidInput: one of the three is no list, has another length, or a value that does not fit.
    """
    columns: dict[str, Any] = {"texts": texts, "ids": ids, "metadata": metadata}
    for name, values in columns.items():
        if values is not None:
            check_many(values, name)
            columns[name] = values if isinstance(values, Sequence) else list(values)
    return Batch(0, check_documents(n, **columns))


def batches_of(
    texts: Iterable[str],
    ids: Iterable[str] | None,
    metadata: Iterable[Metadata] | None,
    places: Iterable[Place | None] | None = None,
) -> Iterator[Batch]:
    """The documents in batches: all in one if every argument is a sequence, else as they come, in lockstep.

    Raises:
        InvalidInput: the arguments are not of one length, or a value does not fit; names the position. In a
            stream that is known only when it is met.
    """
    given: dict[str, Any] = {"texts": texts, "ids": ids, "metadata": metadata, "places": places}
    for name, values in given.items():
        if values is not None or name == "texts":
            check_many(values, name)
    streams = {name: values for name, values in given.items() if values is not None}
    if all(isinstance(values, Sequence) for values in streams.values()):
        yield Batch(0, check_documents(len(given["texts"]), **given, need_texts=True))
        return
    first = 0
    rows = _in_lockstep(streams)
    for part, goes_on in lots_of(rows, lambda row: _length(row[0]), BATCH_DOCUMENTS, BATCH_CHARACTERS):
        columns: dict[str, Any] = dict.fromkeys(given)
        columns.update(zip(streams, zip(*part, strict=True), strict=True))
        documents = check_documents(len(part), **columns, first=first, need_texts=True)
        yield Batch(first, documents, goes_on)
        first += len(part)
        del part, columns, documents  # before the next ones are read


def lots_of(
    rows: Iterable[T], length: Callable[[T], int], most: int, characters: int
) -> Iterator[tuple[list[T], bool]]:
    """Rows of a stream in lots that fit into memory, and of each whether more may follow.

    Args:
        length: characters of a row.
        most, characters: a lot ends with the row that reaches one of these.
    """
    lot: list[T] = []
    held = 0
    for row in rows:
        lot.append(row)
        held += length(row)
        if len(lot) >= most or held >= characters:
            yield lot, True
            lot, held = [], 0
    if lot:
        yield lot, False


def _length(text: Any) -> int:
    """Of a text that has not been checked yet."""
    return len(text) if isinstance(text, str) else 0


def rows_of(batch: Batch, encoder: Encoder, cutting: Cutting | None) -> Batch:
    """A batch of documents with texts as they are encoded: whole, or as passages, each with its origin."""
    if cutting is not None:
        return _in_passages(batch, encoder, cutting)
    documents = [
        row for document in batch.documents for row in _passages(document, [(0, len(document.text or ""))])
    ]
    return Batch(batch.first, documents, batch.goes_on)


def _passages(document: CheckedDocument, spans: Sequence[Span]) -> Iterator[CheckedDocument]:
    """The passages of a document, which keep its id and metadata."""
    text = document.text or ""
    origins = origins_of(text, spans, document.place, document.id)
    for (start, stop), origin in zip(spans, origins, strict=True):
        yield CheckedDocument(document.id, text[start:stop], document.metadata, origin=origin)


def _in_passages(batch: Batch, encoder: Encoder, cutting: Cutting) -> Batch:
    # Of an encoder that reads less than the one the index was made with, as much as it reads.
    room = None if cutting.window is None else min(cutting.window, encoder.document_room)
    documents: list[CheckedDocument] = []
    passages: list[int] = []
    windows: list[TextWindow] = []
    for start in range(0, len(batch), CUT_DOCUMENTS):
        part = batch.documents[start : start + CUT_DOCUMENTS]
        texts = CheckedTexts(batch.texts[start : start + CUT_DOCUMENTS])
        for document, text, tokens in zip(part, texts, encoder.token_parts(texts), strict=True):
            places = None if room is None else TokenPlaces()
            parts = tokens if places is None else places.passing(tokens)
            spans = list(cut_parts(parts, cutting, document.breaks)) or [(0, len(text))]
            if places is not None and room is not None:
                windows += _windows(text, spans, places, room, len(documents))
            documents += _passages(document, spans)
            passages += range(len(spans))
    return Batch(batch.first, documents, batch.goes_on, passages, None if room is None else windows)


def _windows(
    text: str, spans: Sequence[Span], places: TokenPlaces, room: int, first_row: int
) -> Iterator[TextWindow]:
    """The windows that a document's passages are cut out of; `first_row` is the row of its first passage."""
    for start, stop, passages in places.windows(spans, room):
        parts = [(a - start, b - start) for a, b in spans[passages.start : passages.stop]]
        rows = range(first_row + passages.start, first_row + passages.stop)
        yield TextWindow(text, start, stop, parts, rows)


def _in_lockstep(streams: Mapping[str, Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    ended = object()
    for n, row in enumerate(itertools.zip_longest(*streams.values(), fillvalue=ended)):
        short = [name for name, value in zip(streams, row, strict=True) if value is ended]
        if short:
            raise InvalidInput(f"{short[0]} should have one entry a document, but ended after {n}.")
        yield row


# Tokens that the encoder of a document took at most before some came to take more: see `fitting`.
_USUAL_TOKENS: Final = 512


class CodedTexts(NamedTuple):
    """Some documents as an index keeps them.

    lengths: int64 [n_documents], tokens of each; columns: of the codec, one row a token; truncated: bool
    [n_documents], documents that were not read to their end, None where that is not known of or true of none.
    """

    lengths: Int64
    columns: Columns
    truncated: Bool | None


class VectorSource(Protocol):
    """Token vectors of a batch's documents."""

    def sample(self, rows: Sequence[int]) -> list[Float32]:
        """Of some documents, ahead of time; whole units of the batch, and no document twice.

        Returns:
            Float32 [n_tokens, dim] of each; views of what is held here anyway.
        """

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU encodes, which leaves the CPU to other work; `coded` may then be called by several
        threads at once."""

    def coded(self, rows: range, codec: Codec) -> CodedTexts:
        """Those of the documents rows.start..rows.stop-1 as columns of a codec; each is asked for once."""

    def most_tokens(self, row: int) -> int:
        """Tokens that a document may have, about and at most; 0 where its vectors are held anyway."""


def fitting(lengths: Iterable[int], most: int) -> Iterator[int]:
    """How many documents, one piece after the other, are encoded together: at most `most`, and fewer where
    they are long, so that memory never holds more vectors than of `most` documents of 512 tokens.

    Args:
        lengths: `VectorSource.most_tokens` of each.
    """
    n = tokens = 0
    for length in lengths:
        if n and (n == most or tokens + length > most * _USUAL_TOKENS):
            yield n
            n = tokens = 0
        n, tokens = n + 1, tokens + length
    if n:
        yield n


class EncodedTexts:
    """The texts of a batch, encoded when they are needed; what comes too early is kept until then.

    That is what was encoded for a sample or ahead of its turn, and passages of a window that others of it
    were asked of.

    Args:
        pooling: of each text's vectors, or each passage's.
    """

    def __init__(
        self, encoder: Encoder, batch: Batch, bar: progress_bar, pooling: Pooling = _UNPOOLED
    ) -> None:
        self._encoder, self._batch, self._bar, self._pooling = encoder, batch, bar, pooling
        self._seen: dict[int, tuple[npt.NDArray[np.float32], bool]] = {}
        self.n_truncated = 0  # of the texts given out, those that were not read to their end
        self._counting = threading.Lock()

    @property
    def on_gpu(self) -> bool:
        """See `VectorSource`. Not where passages are cut out of windows, which chunks share."""
        return self._encoder.shares_runs and self._batch.windows is None

    def most_tokens(self, row: int) -> int:
        """See `VectorSource`. A token has a character at least, but for rare ones."""
        return min(len(self._batch.texts[row]), self._encoder.contract.document.max_tokens)

    def ahead(self, rows: Iterable[int]) -> None:
        """Encode those of the rows that are not, and keep them until they are asked for."""
        missing = [row for row in rows if row not in self._seen]
        if missing:
            self._encode(missing)

    def sample(self, rows: Sequence[int]) -> list[Float32]:
        """See `VectorSource`."""
        self.ahead(rows)
        return [self._seen[row][0] for row in rows]

    def coded(self, rows: range, codec: Codec) -> CodedTexts:
        """See `VectorSource`. Where encoder and codes are on GPUs, vectors stay there, unless pooled."""
        stay = self.on_gpu and self._encoder.codes_on_device and self._pooling == _UNPOOLED
        if stay and isinstance(codec, ResidualCodec) and codec.coding is not KERNELS:
            return self._coded_there(rows, codec)
        return _coded(self.vectors(rows), codec)

    def vectors(self, rows: range) -> TokenVectors:
        """Those of the documents rows.start..rows.stop-1; each is asked for once."""
        self.ahead(rows)
        each = [self._seen.pop(row) for row in rows]
        given = TokenVectors.from_matrices(
            [vectors for vectors, _ in each], self._encoder.dim, [truncated for _, truncated in each]
        )
        self._count(given.n_truncated)
        return given

    def _count(self, n_truncated: int) -> None:
        with self._counting:
            self.n_truncated += n_truncated

    def _coded_there(self, rows: range, codec: ResidualCodec) -> CodedTexts:
        """Codes of these rows, of those that were encoded before from their vectors."""
        known = [row for row in rows if row in self._seen]
        missing = [row for row in rows if row not in self._seen]
        parts: dict[int, tuple[Columns, bool]] = {}
        if known:
            vectors = [self._seen.pop(row) for row in known]
            columns = codec.encode(np.concatenate([matrix for matrix, _ in vectors]))
            ends = np.cumsum([len(matrix) for matrix, _ in vectors])[:-1]
            split = {name: np.split(column, ends) for name, column in columns.items()}
            for i, (row, (_, cut)) in enumerate(zip(known, vectors, strict=True)):
                parts[row] = {name: column[i] for name, column in split.items()}, cut
        if missing:

            def code(device: Device, values: Any, places: Int64 | None) -> Columns:
                there = codec.on(codec.coding.at(device.kind, device.number))
                return there.encode(Placed(values, places))

            texts = CheckedTexts([self._batch.texts[row] for row in missing])
            found, cuts = self._encoder.code_documents(texts, code)
            parts.update(zip(missing, zip(found, cuts, strict=True), strict=True))
            self._bar.step(len(missing), sum(len(columns[codec.columns[0][0]]) for columns in found))
        names = [name for name, _, _ in codec.columns]
        columns = {name: np.concatenate([parts[row][0][name] for row in rows]) for name in names}
        lengths = np.array([len(parts[row][0][names[0]]) for row in rows], np.int64)
        truncated = np.array([parts[row][1] for row in rows])
        self._count(int(truncated.sum()))
        return CodedTexts(lengths, columns, truncated if truncated.any() else None)

    def _encode(self, rows: Sequence[int]) -> None:
        """Encode these rows, and all others in their windows."""
        if self._batch.windows is None:
            texts = CheckedTexts([self._batch.texts[row] for row in rows])
            vectors = self._encoder.encode_documents(
                texts, pool_factor=self._pooling.factor, max_vectors=self._pooling.most
            )
        else:
            windows = [self._batch.windows[i] for i in dict.fromkeys(self._window_of[rows].tolist())]
            rows = [row for window in windows for row in window.rows]
            texts = CheckedTexts([window.text for window in windows])
            whole = self._encoder.encode_parts(texts, [window.parts for window in windows])
            vectors = self._encoder.pooled(whole, self._pooling.factor, self._pooling.most)
        self._seen.update(zip(rows, _each(vectors), strict=True))
        self._bar.step(len(rows), vectors.n_tokens)

    @cached_property
    def _window_of(self) -> npt.NDArray[np.int64]:
        """The number of each row's window."""
        sizes = [len(rows) for rows in self._batch.units]
        return np.repeat(np.arange(len(sizes)), sizes)


def _each(vectors: TokenVectors) -> Iterator[tuple[npt.NDArray[np.float32], bool]]:
    """The vectors of each text, and whether its end was not read."""
    cut = np.zeros(len(vectors), bool) if vectors.truncated is None else vectors.truncated
    return zip(vectors, cut.tolist(), strict=True)


class GivenVectors:
    """Token vectors that are there already."""

    on_gpu = False

    def __init__(self, token_vectors: TokenVectors) -> None:
        self._token_vectors = token_vectors

    def most_tokens(self, row: int) -> int:
        """See `VectorSource`."""
        return 0

    def sample(self, rows: Sequence[int]) -> list[Float32]:
        """See `VectorSource`."""
        return [self._token_vectors[row] for row in rows]

    def coded(self, rows: range, codec: Codec) -> CodedTexts:
        """See `VectorSource`."""
        return _coded(self._token_vectors[rows.start : rows.stop], codec)


def _coded(vectors: TokenVectors, codec: Codec) -> CodedTexts:
    return CodedTexts(vectors.lengths, codec.encode(vectors.values), vectors.truncated)
