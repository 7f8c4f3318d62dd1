"""Writes new documents into an index: chunk by chunk into one segment, and learns the codec when it is time.

A young index, which has too few tokens to learn centroids from, keeps float16 vectors until it has grown.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Codec
from latebolt.codec.residual import ResidualCodec
from latebolt.codec.restore import untrained
from latebolt.errors import InvalidInput
from latebolt.index.layout import Column
from latebolt.index.writer import Writer
from latebolt.values import TokenVectors

Float32 = npt.NDArray[np.float32]

# Below this an index keeps float16: fewer tokens do not say where centroids belong.
TRAIN_TOKENS = 8192
# Tokens looked at to learn the codec: enough for 48 a centroid at the largest default we train on.
SAMPLE_TOKENS = 196_608
# Documents encoded and written at a time; bounds the memory of an add.
CHUNK_DOCUMENTS = 512


class NewDocuments:
    """The texts, ids and metadata of one add, checked to be of one length."""

    def __init__(
        self,
        texts: Sequence[str] | None,
        ids: Sequence[str] | None,
        metadata: Sequence[Mapping[str, Any] | None] | None,
        n: int | None = None,
    ) -> None:
        count = n if n is not None else len(texts or ())
        for name, values in (("texts", texts), ("ids", ids), ("metadata", metadata)):
            if isinstance(values, str | bytes | Mapping):
                raise InvalidInput(f"{name} should be a list, got one {type(values).__name__}.")
            if values is not None and len(values) != count:
                raise InvalidInput(f"{name} should have {count} entries, one a document, got {len(values)}.")
        self.texts, self.metadata = texts, metadata
        self.ids = None if ids is None else list(ids)

    @staticmethod
    def slice(values: Sequence[Any] | None, rows: range) -> Sequence[Any] | None:
        """The values of some rows, or None when there are none at all."""
        return None if values is None else values[rows.start : rows.stop]


class Growth:
    """One addition to an index.

    Args:
        codec: for new documents; None while the index is too young for its residual codec.
    """

    def __init__(self, writer: Writer, codec: Codec | None) -> None:
        self._writer, self._codec, self._dim = writer, codec, writer.manifest.dim

    def names(self, ids: list[str] | None, n: int) -> list[str]:
        """The ids given, or `n` numbers that no document has or ever had by this way."""
        if ids is not None:
            return ids
        settings = self._writer.manifest.settings
        following = int(settings.get("next_id", 0))
        free: list[str] = []
        while len(free) < n:
            wanted = [str(i) for i in range(following, following + n - len(free))]
            following += len(wanted)
            taken = {name for s in self._writer.segments for name in s.ids(s.rows_of(wanted))}
            free += [name for name in wanted if name not in taken]
        self._writer.set_settings({**settings, "next_id": following})
        return free

    def write(
        self,
        names: Sequence[str],
        documents: NewDocuments,
        chunks: Iterator[tuple[range, TokenVectors]],
        pick: Callable[[Sequence[int]], TokenVectors],
    ) -> None:
        """Train if it is time, then stream chunks of token vectors into a new segment.

        `pick` gives the token vectors of some of the new documents, to learn from.
        """
        if self._codec is None:
            sample, expected = self._sample(len(names), pick)
            if expected >= TRAIN_TOKENS:
                self._codec = self._train(sample, expected)
        plain = self._codec or untrained(self._dim, 16)
        segment = self._writer.new_segment(tuple(Column(*spec) for spec in plain.columns))
        for rows, vectors in chunks:
            segment.append(
                names[rows.start : rows.stop],
                documents.slice(documents.texts, rows),
                documents.slice(documents.metadata, rows),
                vectors.lengths,
                plain.encode(vectors.values),
            )
        segment.finish()

    def _sample(self, n_new: int, pick: Callable[[Sequence[int]], TokenVectors]) -> tuple[Float32, int]:
        """(token vectors of a random part of old and new documents, tokens expected in all)."""
        parts: list[Float32] = []
        old_tokens = 0
        plain = untrained(self._dim, 16)
        for segment in self._writer.segments:
            for block in segment.blocks():
                parts.append(plain.decode(block.columns))
                old_tokens += len(parts[-1])
        order = np.random.default_rng(0).permutation(n_new)
        new_tokens = seen = 0
        for rows in chunked(n_new, 256):
            vectors = pick([int(i) for i in order[rows.start : rows.stop]])
            parts.append(vectors.values)
            seen, new_tokens = seen + len(rows), new_tokens + vectors.n_tokens
            if old_tokens + new_tokens >= SAMPLE_TOKENS:
                break
        empty = np.zeros((0, self._dim), np.float32)
        expected = old_tokens + (new_tokens * n_new // seen if seen else 0)
        return np.concatenate(parts) if parts else empty, expected

    def _train(self, sample: Float32, n_tokens: int) -> Codec:
        """Learn the codec and turn the young segments into residual codes."""
        codec = ResidualCodec.train(sample, self._writer.manifest.bits, n_tokens)
        name = self._writer.set_codec(*codec.state())
        young = [segment for segment in self._writer.segments if segment.codec is None]
        if young:
            plain = untrained(codec.dim, 16)
            segment = self._writer.new_segment(tuple(Column(*spec) for spec in codec.columns), codec=name)
            for block in itertools.chain.from_iterable(old.blocks() for old in young):
                columns = codec.encode(plain.decode(block.columns))
                segment.append(block.ids, block.texts, block.metadata, block.lengths, columns)
            segment.finish()
            self._writer.drop_segments([old.name for old in young])
        return codec


def chunked(n: int, size: int = CHUNK_DOCUMENTS) -> Iterator[range]:
    """0..n-1 in ranges of at most `size`."""
    return (range(start, min(start + size, n)) for start in range(0, n, size))
