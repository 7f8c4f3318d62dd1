"""Writes new documents into an index: chunk by chunk into a segment, and learns the codec when it is time.

A young index, which has too few tokens to learn centroids from, keeps float16 vectors until it has grown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Codec
from latebolt.codec.residual import ResidualCodec
from latebolt.codec.restore import untrained
from latebolt.index.documents import check_documents
from latebolt.index.layout import Column
from latebolt.index.sources import Lot, Source
from latebolt.index.writer import SegmentDraft, Writer

Float32 = npt.NDArray[np.float32]

# Below this an index keeps float16: fewer tokens do not say where centroids belong.
TRAIN_TOKENS = 8192
# Tokens looked at to learn the codec: enough for 48 a centroid at the largest default we train on.
SAMPLE_TOKENS = 196_608
# Lots that a stream of unknown length is taken to have, when the number of centroids is chosen: centroids for
# four times too few or too many tokens are twice too few or too many, which hardly shows.
STREAM_LOTS = 4
# Documents encoded and written at a time; bounds the memory of an add.
CHUNK_DOCUMENTS = 512


class Growth:
    """One addition to an index.

    Args:
        codec: for new documents; None while the index is too young for its residual codec.
    """

    def __init__(self, writer: Writer, codec: Codec | None) -> None:
        self._writer, self._codec, self._dim = writer, codec, writer.manifest.dim
        self._draft: SegmentDraft | None = None

    def add(self, lot: Lot, source: Source) -> list[str]:
        """Write a lot's documents in chunks; learn the codec first if it is time.

        Returns:
            Their ids.
        """
        names = self._names(lot)
        check_documents(names, lot.texts, lot.metadata, lot.first)  # before the long work, not in its middle
        self._prepare(lot, source)
        for rows in chunked(lot.n):
            vectors = source.vectors(rows)
            self._segment().append(
                names[rows.start : rows.stop],
                None if lot.texts is None else lot.texts[rows.start : rows.stop],
                None if lot.metadata is None else lot.metadata[rows.start : rows.stop],
                vectors.lengths,
                self._plain.encode(vectors.values),
            )
        return names

    def finish(self) -> None:
        """Complete the segment being written."""
        if self._draft is not None:
            self._draft.finish()
            self._draft = None

    def _segment(self) -> SegmentDraft:
        if self._draft is None:
            self._draft = self._writer.new_segment(_columns(self._plain))
        return self._draft

    @property
    def _plain(self) -> Codec:
        return self._codec or untrained(self._dim, 16)

    def _names(self, lot: Lot) -> list[str]:
        """The ids given, or numbers that no document has or ever had by this way."""
        if lot.ids is not None:
            return list(lot.ids)
        settings = self._writer.manifest.settings
        following = int(settings.get("next_id", 0))
        free: list[str] = []
        while len(free) < lot.n:
            wanted = [str(i) for i in range(following, following + lot.n - len(free))]
            following += len(wanted)
            taken = {name for s in self._writer.segments for name in s.ids(s.rows_of(wanted))}
            free += [name for name in wanted if name not in taken]
        self._writer.set_settings({**settings, "next_id": following})
        return free

    def _prepare(self, lot: Lot, source: Source) -> None:
        """Learn the codec if it is time."""
        if self._codec is None:
            self.finish()
            sample, expected = self._sample(lot, source)
            if expected >= TRAIN_TOKENS:
                self._codec = self._train(sample, expected)

    def _sample(self, lot: Lot, source: Source) -> tuple[Float32, int]:
        """(token vectors of a random part of old and new documents, tokens expected in all)."""
        parts: list[Float32] = [np.zeros((0, self._dim), np.float32)]
        old_tokens = 0
        plain = untrained(self._dim, 16)
        for segment in self._writer.segments:
            for block in segment.blocks():
                parts.append(plain.decode(block.columns))
                old_tokens += len(parts[-1])
        order = np.random.default_rng(0).permutation(lot.n)
        new_tokens = seen = 0
        for rows in chunked(lot.n, 256):
            vectors = source.sample([int(i) for i in order[rows.start : rows.stop]])
            parts.append(vectors.values)
            seen, new_tokens = seen + len(rows), new_tokens + vectors.n_tokens
            if old_tokens + new_tokens >= SAMPLE_TOKENS:
                break
        expected = new_tokens * lot.n // max(seen, 1) * (STREAM_LOTS if lot.goes_on else 1)
        return np.concatenate(parts), old_tokens + expected

    def _train(self, sample: Float32, n_tokens: int) -> Codec:
        """Learn the codec and turn the young segments into residual codes."""
        codec = ResidualCodec.train(sample, self._writer.manifest.bits, n_tokens)
        name = self._writer.set_codec(*codec.state())
        young = [segment for segment in self._writer.segments if segment.codec is None]
        if young:
            plain = untrained(codec.dim, 16)
            segment = self._writer.new_segment(_columns(codec), codec=name)
            for block in itertools.chain.from_iterable(old.blocks() for old in young):
                columns = codec.encode(plain.decode(block.columns))
                segment.append(block.ids, block.texts, block.metadata, block.lengths, columns)
            segment.finish()
            self._writer.drop_segments([old.name for old in young])
        return codec


def _columns(codec: Codec) -> tuple[Column, ...]:
    return tuple(Column(*spec) for spec in codec.columns)


def chunked(n: int, size: int = CHUNK_DOCUMENTS) -> Iterator[range]:
    """0..n-1 in ranges of at most `size`."""
    return (range(start, min(start + size, n)) for start in range(0, n, size))
