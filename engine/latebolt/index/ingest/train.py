"""Learns the codec of an index when it is time: at its first tokens, and at later ones that are unlike those.

An index with too few tokens to learn centroids from keeps them unquantised, as float16, until it has grown.
So do later documents that are unlike those the centroids were learnt from, until there are enough of them to
append centroids of their own; what was written before stays, because its centroids keep their numbers.
A part of an index, which is filled elsewhere, learns nothing: the index does when it adopts the part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from latebolt import system
from latebolt.arrays import Float32
from latebolt.codec.base import Codec
from latebolt.codec.coding import KERNELS, Coding
from latebolt.codec.kmeans import BLOCK, default_n_centroids
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.codec.restore import untrained
from latebolt.codec.sample import Sample
from latebolt.index.ingest.sources import VectorSource, fitting
from latebolt.index.store.codecs import check_columns, columns_of
from latebolt.index.store.segment import Block, Segment
from latebolt.index.store.store import Snapshot
from latebolt.index.store.writer import Writer

# Below this an index keeps float16: fewer tokens do not say where centroids belong.
TRAIN_TOKENS = 8192
# Tokens looked at to learn the codec: enough for 48 a centroid at the largest default we train on.
SAMPLE_TOKENS = 196_608
# Tokens of a batch looked at to tell whether it is unlike what the codec has learnt.
CHECK_TOKENS = 16_384
# It is, from this share of outlying tokens on; of unseen text of the same kind up to a third lie outside.
OUTLYING_SHARE = 0.25
# Appended centroids may not make the codec larger than so many times what one for all tokens would have.
MOST_CENTROIDS = 2
# Batches that a stream of unknown length is taken to have, when the number of centroids is chosen: those for
# four times too few or too many tokens are twice too few or too many, which hardly shows.
STREAM_BATCHES = 4
# Documents of a sample encoded at a time, or windows of such; on a GPU up to so many, as are likely to do.
DRAWN_DOCUMENTS = 256
GPU_DRAWN_DOCUMENTS = 2048
# The setting that an index has which is a part of another: its codec is the other's.
PART_SETTING = "part"


class CodecTrainer:
    """The codec of an index that is written to.

    Args:
        codec: for new documents; None while the index has too few tokens for its residual codec.
        learnt: by `learn_ahead`, for an index that still has none.
        coding: where a first codec is learnt; one that is there goes on where it is.
    """

    def __init__(
        self,
        writer: Writer,
        codec: Codec | None,
        learnt: ResidualCodec | None = None,
        coding: Coding = KERNELS,
    ) -> None:
        self._writer, self._codec, self._dim = writer, codec, writer.manifest.dim
        self._learnt, self._coding = learnt, coding
        self._part = bool(writer.manifest.settings.get(PART_SETTING))
        self.unquantised = False  # new documents wait for centroids of their own

    @property
    def codec(self) -> Codec:
        """What new documents are encoded with."""
        return untrained(self._dim, 16) if self._codec is None or self.unquantised else self._codec

    def prepare(
        self, units: Sequence[range], source: VectorSource, finish: Callable[[], None], goes_on: bool = False
    ) -> None:
        """Learn the codec, or more centroids for it, if it is time.

        Args:
            units: rows of the source that are about to be written, those that are encoded together.
            finish: completes the segment being written, before another codec or the vectors in it are needed.
            goes_on: more may follow, nobody knows how many.
        """
        if self._codec is not None and not isinstance(self._codec, ResidualCodec):
            return
        if self._codec is None and self._part:
            return
        draws = _Draws(units, source, self._dim, goes_on)
        if self._codec is None:
            finish()
            bits = self._writer.manifest.bits
            learnt = self._learnt or _first_codec(self._writer.segments, draws, bits, self._coding)
            if learnt is not None:
                self._adopt(learnt)
            return
        draws.draw(CHECK_TOKENS)
        share = _outlying_share(self._codec, draws)
        unlike = share >= OUTLYING_SHARE
        expected = self._n_waiting + int(share * draws.expected)
        room = self._room(draws.expected)
        learn = unlike and room > 0 and expected >= TRAIN_TOKENS and not self._part
        unquantised = unlike and not learn and (room > 0 or self._part)
        if learn or unquantised != self.unquantised:
            finish()
        if learn:
            draws.draw(SAMPLE_TOKENS)
            sample = Sample([*self._unquantised_vectors(), *draws.parts], self._dim)
            outliers = sample.where(self._codec.outlying, BLOCK)
            self._adopt(self._codec.extended(outliers, min(room, default_n_centroids(expected))))
        self.unquantised = unquantised

    def learn_waiting(self) -> None:
        """Learn from the vectors that wait in the index, if there are enough, and turn them into codes."""
        if self._n_waiting < TRAIN_TOKENS or not (
            self._codec is None or isinstance(self._codec, ResidualCodec)
        ):
            return
        vectors, codec = Sample(self._unquantised_vectors(), self._dim), self._codec
        if codec is None:
            bits, n_tokens = self._writer.manifest.bits, self._n_waiting
            self._adopt(ResidualCodec.train(vectors, bits, n_tokens, coding=self._coding))
            return
        outliers = vectors.where(codec.outlying, BLOCK)
        if (room := self._room(0)) > 0 and len(outliers):
            expected = self._n_waiting * len(outliers) // len(vectors)
            self._adopt(codec.extended(outliers, min(room, default_n_centroids(expected))))
        else:
            self._encode_waiting(codec, self._writer.codec)

    def _room(self, n_coming: int) -> int:
        """Centroids that may still be appended, when so many tokens are about to come."""
        assert isinstance(self._codec, ResidualCodec)
        total = sum(s.n_tokens for s in self._writer.segments) + n_coming
        return MOST_CENTROIDS * default_n_centroids(total) - len(self._codec.centroids)

    @property
    def _n_waiting(self) -> int:
        return _n_waiting(self._writer.segments)

    def _unquantised_vectors(self) -> list[Float32]:
        return _unquantised_vectors(self._writer.segments, self._dim)

    def _adopt(self, codec: ResidualCodec) -> None:
        """Make it the index's codec, and turn the unquantised segments into its codes."""
        name = self._writer.set_codec(*codec.state(), adopt=self._codec is not None)
        self._encode_waiting(codec, name)
        self._codec = codec

    def _encode_waiting(self, codec: ResidualCodec, name: str | None) -> None:
        waiting = _unquantised(self._writer.segments)
        if waiting:
            plain = untrained(codec.dim, 16)
            segment = self._writer.new_segment(columns_of(codec), codec=name)
            for block in _unquantised_blocks(waiting, codec.dim):
                segment.append_encoded(block, codec.encode(plain.decode(block.columns)))
            segment.finish()
            self._writer.drop_segments([old.name for old in waiting])


def learn_ahead(
    codec: Codec | None,
    snapshot: Snapshot,
    units: Sequence[range],
    source: VectorSource,
    coding: Coding = KERNELS,
) -> ResidualCodec | None:
    """Do, where nobody waits for the index, what `CodecTrainer.prepare` is then spared.

    What it is going to look at is encoded, and the first codec of an index is learnt.

    Args:
        codec: that new documents have by now.
        snapshot: the last commit.
        coding: see `CodecTrainer`.
    Returns:
        The first codec; None where there is one, or too few tokens for it.
    """
    if codec is not None and not isinstance(codec, ResidualCodec):
        return None
    draws = _Draws(units, source, snapshot.dim)
    if codec is None:
        return _first_codec(snapshot.segments, draws, snapshot.bits, coding)
    draws.draw(CHECK_TOKENS)
    if _outlying_share(codec, draws) >= OUTLYING_SHARE:
        draws.draw(SAMPLE_TOKENS)
    return None


def _first_codec(
    segments: Sequence[Segment], draws: _Draws, bits: int, coding: Coding
) -> ResidualCodec | None:
    """The codec of an index that has none, learnt of what it holds and what is drawn; None of too little."""
    old = _unquantised_vectors(segments, draws.dim)
    draws.draw(SAMPLE_TOKENS - sum(map(len, old)))
    expected = _n_waiting(segments) + draws.expected
    if expected < TRAIN_TOKENS:
        return None
    system.give_back_memory()  # of encoding so far: learning is where an addition takes most
    return ResidualCodec.train(Sample([*old, *draws.parts], draws.dim), bits, expected, coding=coding)


def _unquantised(segments: Sequence[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.codec is None]


def _unquantised_blocks(segments: Sequence[Segment], dim: int) -> Iterator[Block]:
    for segment in _unquantised(segments):
        check_columns(segment, untrained(dim, 16))
        yield from segment.blocks()


def _n_waiting(segments: Sequence[Segment]) -> int:
    """Tokens of the unquantised segments."""
    return sum(segment.n_tokens for segment in _unquantised(segments))


def _unquantised_vectors(segments: Sequence[Segment], dim: int) -> list[Float32]:
    """Token vectors of the unquantised segments, block by block; about SAMPLE_TOKENS of them where there are
    more."""
    plain, rng = untrained(dim, 16), np.random.default_rng(0)
    share = SAMPLE_TOKENS / max(_n_waiting(segments), 1)
    parts = []
    for block in _unquantised_blocks(segments, dim):
        values = plain.decode(block.columns)
        parts.append(values if share >= 1 else values[rng.random(len(values)) < share])
    return parts


def _outlying_share(codec: ResidualCodec, draws: _Draws) -> float:
    """Of the tokens drawn, those that are unlike what the codec has learnt."""
    if not draws.n_tokens:
        return 0.0
    blocks = Sample(draws.parts, draws.dim).blocks(BLOCK)
    return sum(int(codec.outlying(block).sum()) for block in blocks) / draws.n_tokens


class _Draws:
    """Token vectors of some rows in random order, as many as are asked for."""

    def __init__(self, units: Sequence[range], source: VectorSource, dim: int, goes_on: bool = False) -> None:
        self._units, self._source, self._goes_on = units, source, goes_on
        self.dim = dim
        self._order = np.random.default_rng(0).permutation(len(self._units))
        self._seen = 0
        self.n_tokens = 0
        self.parts: list[Float32] = []

    def draw(self, n_tokens: int) -> None:
        """Go on until there are so many tokens, or no more documents; the first time draw at least some."""
        while self._seen < len(self._units) and (self.n_tokens < n_tokens or not self._seen):
            drawn = self._order[self._seen : self._seen + self._wanted(n_tokens)].tolist()
            lengths = (sum(map(self._source.most_tokens, self._units[unit])) for unit in drawn)
            drawn = drawn[: next(fitting(lengths, len(drawn)))]
            vectors = self._source.sample([row for unit in drawn for row in self._units[unit]])
            self.parts += vectors
            self._seen, self.n_tokens = self._seen + len(drawn), self.n_tokens + sum(map(len, vectors))

    def _wanted(self, n_tokens: int) -> int:
        """Units to draw next, on the way to so many tokens."""
        if not self._source.on_gpu or not self._seen:
            return DRAWN_DOCUMENTS
        missing = (n_tokens - self.n_tokens) * self._seen // max(self.n_tokens, 1)
        return min(max(missing, DRAWN_DOCUMENTS), GPU_DRAWN_DOCUMENTS)

    @property
    def expected(self) -> int:
        """Tokens that these rows, and what follows them, are expected to have."""
        batches = STREAM_BATCHES if self._goes_on else 1
        return self.n_tokens * len(self._units) // max(self._seen, 1) * batches
