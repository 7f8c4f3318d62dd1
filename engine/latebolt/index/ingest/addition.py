"""Writes an addition's documents into a segment, chunk by chunk, with ids that are each given once.

A new segment begins whenever the codec does not stay as it was.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from latebolt import memory
from latebolt.codec.base import Codec
from latebolt.codec.coding import KERNELS, Coding
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.errors import InvalidInput
from latebolt.index.documents.checked import CheckedDocument, with_ids
from latebolt.index.format.layout import NEXT_ID
from latebolt.index.ingest.sources import Batch, CodedTexts, VectorSource, fitting
from latebolt.index.ingest.train import CodecTrainer
from latebolt.index.store.codecs import columns_of
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.writer import Writer

# Documents encoded and written at a time; bounds the memory of an add. Fewer where memory is small.
CHUNK_DOCUMENTS = 512
FEW_DOCUMENTS = 128
GPU_DOCUMENTS = 2048  # a GPU's runs are the fuller the more texts they are chosen from
_GPU_CHUNKS = 2  # that are under way: one is tokenised while the other runs


class Addition:
    """One addition to an index.

    Args:
        codec: of the index; None while it has too few tokens for its residual codec.
        learnt, coding: see `CodecTrainer`.
    """

    def __init__(
        self,
        writer: Writer,
        codec: Codec | None,
        learnt: ResidualCodec | None = None,
        coding: Coding = KERNELS,
    ) -> None:
        self._writer, self._trainer = writer, CodecTrainer(writer, codec, learnt, coding)
        self._draft: SegmentWriter | None = None
        self._positions: dict[str, int] = {}  # of the ids of this addition

    def named(self, batch: Batch) -> Batch:
        """The batch with an id for each document, before the long work and not in its middle.

        Raises:
            InvalidInput: an id comes twice in the addition.
        """
        if not batch.is_named:
            return replace(batch, documents=with_ids(batch.documents, self._free_ids(len(batch))))
        refuse_repeated(batch.documents, batch.first, self._positions)
        return batch

    def add(self, batch: Batch, source: VectorSource, between: Callable[[], None] = lambda: None) -> None:
        """Write a named batch; learn the codec first if it is time.

        Args:
            between: called where all that was written so far are whole documents, which may be committed.
        """
        self.learn(batch.units, source, batch.goes_on)
        self.write(batch, range(len(batch)), source, between)

    def learn(self, units: Sequence[range], source: VectorSource, goes_on: bool = False) -> None:
        """Learn the codec, if it is time, for what is about to be written; see `CodecTrainer.prepare`."""
        self._trainer.prepare(units, source, self.finish, goes_on)

    def write(
        self, batch: Batch, whole: range, source: VectorSource, between: Callable[[], None] = lambda: None
    ) -> None:
        """Write some rows of a named batch in chunks.

        Args:
            whole: rows of whole documents.
            between: see `add`.
        """
        with contextlib.closing(self._coded(whole, source)) as chunks:
            for rows, coded in chunks:
                self._segment().append(
                    batch.documents[rows.start : rows.stop],
                    coded.lengths,
                    coded.columns,
                    None if batch.passages is None else batch.passages[rows.start : rows.stop],
                    None if coded.truncated is None else coded.truncated.tolist(),
                )
                if batch.passages is None or rows.stop == len(batch) or batch.passages[rows.stop] == 0:
                    between()

    def _coded(self, whole: range, source: VectorSource) -> Generator[tuple[range, CodedTexts]]:
        """Rows in chunks. Where a GPU encodes them, it goes on with the next ones while these are written."""
        codec = self._trainer.codec

        def work(rows: range) -> tuple[range, CodedTexts]:
            return rows, source.coded(rows, codec)

        size = GPU_DOCUMENTS if source.on_gpu else FEW_DOCUMENTS if memory.is_small() else CHUNK_DOCUMENTS
        ends = itertools.accumulate(fitting(map(source.most_tokens, whole), size))
        chunks = (whole[start:end] for start, end in itertools.pairwise(itertools.chain([0], ends)))
        if not source.on_gpu:
            yield from map(work, chunks)
            return
        from latebolt.encoder.pipeline import ahead

        yield from ahead(chunks, work, _GPU_CHUNKS)

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

    def _free_ids(self, n: int) -> list[str]:
        """Numbers that no document has or ever had by this way."""
        settings = self._writer.manifest.settings
        following = int(settings.get(NEXT_ID, 0))
        free: list[str] = []
        while len(free) < n:
            wanted = [str(i) for i in range(following, following + n - len(free))]
            following += len(wanted)
            taken = {name for s in self._writer.segments for name in s.ids(s.rows_of(wanted))}
            free += [name for name in wanted if name not in taken]
        self._writer.set_settings({**settings, NEXT_ID: following})
        return free


def refuse_repeated(documents: Sequence[CheckedDocument], first: int, positions: dict[str, int]) -> None:
    """Refuse an id that comes twice in an addition.

    Args:
        first: position of the first document in the addition.
        positions: of the ids before; these are added.
    Raises:
        InvalidInput: one does; names both positions.
    """
    for position, document in enumerate(documents, first):
        before = positions.setdefault(document.id, position)
        if before != position:
            raise InvalidInput(
                f"ids[{position}] is {document.id!r}, and so is ids[{before}]. Give every document of "
                "one addition an id of its own; a later addition replaces documents by their ids."
            )
