"""Writes an addition's documents into a segment, chunk by chunk, with ids that are each given once.

A new segment begins whenever the codec does not stay as it was.
"""

from __future__ import annotations

from dataclasses import replace

from latebolt.codec.base import Codec
from latebolt.errors import InvalidInput
from latebolt.index.documents.documents import check_documents
from latebolt.index.ingest.sources import Batch, VectorSource
from latebolt.index.ingest.train import CodecTrainer
from latebolt.index.store.codecs import columns_of
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.writer import Writer

# Documents encoded and written at a time; bounds the memory of an add.
CHUNK_DOCUMENTS = 512


class Addition:
    """One addition to an index.

    Args:
        codec: of the index; None while it has too few tokens for its residual codec.
    """

    def __init__(self, writer: Writer, codec: Codec | None) -> None:
        self._writer, self._trainer = writer, CodecTrainer(writer, codec)
        self._draft: SegmentWriter | None = None
        self._positions: dict[str, int] = {}  # of the ids of this addition

    def named(self, batch: Batch) -> Batch:
        """The batch with an id for each document, checked before the long work and not in its middle.

        Raises:
            InvalidInput: a value does not fit, or an id comes twice in the addition.
        """
        rows = check_documents(self._names(batch), batch.texts, batch.metadata, batch.first)
        for position, row in enumerate(rows, batch.first):
            before = self._positions.setdefault(row.id, position)
            if before != position:
                raise InvalidInput(
                    f"ids[{position}] is {row.id!r}, and so is ids[{before}]. Give every document of one "
                    "addition an id of its own; a later addition replaces documents by their ids."
                )
        return replace(batch, ids=[row.id for row in rows])

    def add(self, batch: Batch, source: VectorSource) -> None:
        """Write the rows of a named batch in chunks; learn the codec first if it is time."""
        assert batch.ids is not None
        self._trainer.prepare(batch, source, self.finish)
        codec = self._trainer.codec
        for start in range(0, batch.n, CHUNK_DOCUMENTS):
            rows = range(start, min(start + CHUNK_DOCUMENTS, batch.n))
            vectors = source.vectors(rows)
            self._segment().append(
                batch.ids[rows.start : rows.stop],
                None if batch.texts is None else batch.texts[rows.start : rows.stop],
                None if batch.metadata is None else batch.metadata[rows.start : rows.stop],
                vectors.lengths,
                codec.encode(vectors.values),
                None if batch.passages is None else batch.passages[rows.start : rows.stop],
                None if vectors.truncated is None else vectors.truncated.tolist(),
            )

    def finish(self) -> None:
        """Complete the segment being written."""
        if self._draft is not None:
            self._draft.finish()
            self._draft = None

    def _segment(self) -> SegmentWriter:
        if self._draft is None:
            columns = columns_of(self._trainer.codec)
            self._draft = self._writer.new_segment(columns, unquantised=self._trainer.unquantised)
        return self._draft

    def _names(self, batch: Batch) -> list[str]:
        """The ids given, or numbers that no document has or ever had by this way."""
        if batch.ids is not None:
            return list(batch.ids)
        settings = self._writer.manifest.settings
        following = int(settings.get("next_id", 0))
        free: list[str] = []
        while len(free) < batch.n:
            wanted = [str(i) for i in range(following, following + batch.n - len(free))]
            following += len(wanted)
            taken = {name for s in self._writer.segments for name in s.ids(s.rows_of(wanted))}
            free += [name for name in wanted if name not in taken]
        self._writer.set_settings({**settings, "next_id": following})
        return free
