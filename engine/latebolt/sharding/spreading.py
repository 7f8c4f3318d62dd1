"""Writes the documents of indexes again as those of other indexes, by ids: split, rebalance and join.

Nothing is encoded or decoded: codes, centroids, texts, metadata and places are copied as they are stored. A
segment that goes whole to one place is taken as it is, with its files shared where the file system allows it;
of any other the live rows of each place are copied, about a quarter of a million tokens at a time, after
every byte of it was checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from latebolt.arrays import Int64
from latebolt.errors import IndexCorrupt, IndexUnusable, InvalidInput, ModelMismatch
from latebolt.index.format.layout import COUNTS_TRUNCATED, NEXT_ID, Column
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.format.mmap_array import RESTORE
from latebolt.index.ingest.adopt import difference
from latebolt.index.store.check import files_of_codec, files_of_segment, verify_files
from latebolt.index.store.merge_policy import LARGEST_MERGE
from latebolt.index.store.segment import COPY_TOKENS, Segment
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.store import Snapshot, Store, StoredCodec, Writer
from latebolt.progress import progress_bar
from latebolt.sharding.placement import shards_of
from latebolt.sharding.set_file import SHARD_SETTING

_IDS: Final = 1 << 16  # placed at a time
_COPY_DOCUMENTS: Final = 1 << 13  # copied at a time: documents without tokens would have no end


class Spread(NamedTuple):
    """What was written.

    Args:
        documents, tokens, bytes: of all indexes that were made.
        linked: files that they share with those they were made of.
    """

    documents: int
    tokens: int
    bytes: int
    linked: int


@dataclass(frozen=True)
class Source:
    """An index whose documents are spread.

    Args:
        shard: its number in its set and how many there are; None for an index of its own.
    """

    folder: Path
    snapshot: Snapshot
    shard: tuple[int, int] | None


class _Placed(NamedTuple):
    """A segment, first rows of its live documents (ascending), and the number of each one's place."""

    source: Source
    segment: Segment
    firsts: Int64
    places: Int64


class Spreading:
    """The documents of some indexes, and where each goes.

    Args:
        sources: of one model, dim, bits and cutting. With several, each a shard of one set.
        n: how many places there are.
    Raises:
        ModelMismatch, InvalidInput: the sources do not fit each other, or a shard has a document of another.
    """

    def __init__(self, sources: Sequence[Source], n: int) -> None:
        self._sources, self._n = sources, n
        check_alike(sources)
        self._placed = [
            _Placed(source, segment, *_places(source, segment, n))
            for source in sources
            for segment in source.snapshot.segments
        ]
        self._codecs: dict[bytes, tuple[Source, StoredCodec]] = {}
        for source in sources:
            for codec in source.snapshot.codecs.values():
                self._codecs.setdefault(_key(source, codec.name), (source, codec))
        self._current = _current_codec(sources)
        self._verified: set[Path] = set()

    @property
    def n_documents(self) -> int:
        """Documents in all."""
        return sum(len(each.firsts) for each in self._placed)

    def settings(self, shard: tuple[int, int] | None) -> dict[str, Any]:
        """Settings of an index that is made.

        Args:
            shard: its number and how many there are; None for an index of its own.
        """
        settings = dict(self._sources[0].snapshot.settings)
        settings.pop(SHARD_SETTING, None)
        given = [source.snapshot.settings for source in self._sources]
        if not all(each.get(COUNTS_TRUNCATED) for each in given):
            settings.pop(COUNTS_TRUNCATED, None)
        if numbers := [int(each[NEXT_ID]) for each in given if NEXT_ID in each]:
            settings[NEXT_ID] = max(numbers)
        return settings if shard is None else {**settings, SHARD_SETTING: list(shard)}

    def write(self, number: int, folder: Path, shard: tuple[int, int] | None, bar: progress_bar) -> Spread:
        """Make the index of a place.

        Args:
            folder: missing, or empty.
            shard: see `settings`.
        Raises:
            IndexCorrupt: a source is damaged.
            IndexUnusable: a source was changed meanwhile, and what is left to copy is gone.
            StorageFull: the disk is full.
        """
        first = self._sources[0].snapshot
        settings = self.settings(shard)
        store = Store.create(folder, dim=first.dim, bits=first.bits, model=first.model, settings=settings)
        with store.writer() as writer:
            linked = _Copying(writer, self._names(number, writer)).copy(self._mine(number), self._verify, bar)
            writer.tidy()
            writer.commit()
        snapshot = store.snapshot()
        store.close()
        return Spread(snapshot.n_documents, snapshot.n_tokens, snapshot.n_bytes, linked)

    def _mine(self, number: int) -> Iterator[tuple[_Placed, Int64]]:
        for each in self._placed:
            firsts = each.firsts[each.places == number]
            if len(firsts):
                yield each, firsts

    def _names(self, number: int, writer: Writer) -> dict[bytes, str]:
        """Names of the codecs that a place needs, which are written; the current one last."""
        needed = {_key(each.source, each.segment.codec) for each, _ in self._mine(number)}
        order = [key for key in self._codecs if key in needed and key != self._current]
        names = {}
        for key in (*order, *([] if self._current is None else [self._current])):
            source, codec = self._codecs[key]
            record = source.snapshot.manifest.codecs[codec.name]
            self._verify(source, codec.folder, list(files_of_codec(source.folder, codec.name, record)))
            names[key] = writer.set_codec(codec.arrays, codec.info)
        return names

    def _verify(self, source: Source, folder: Path, named: list[Any]) -> None:
        """Look at every byte of a codec or segment, once."""
        if folder not in self._verified:
            with unchanged(source):
                verify_files(named)
            self._verified.add(folder)


class _Copying:
    """Copies of documents into one index that is being written.

    Args:
        names: key of a codec -> its name there.
    """

    def __init__(self, writer: Writer, names: Mapping[bytes, str]) -> None:
        self._writer, self._names = writer, names
        self._drafts: dict[tuple[str | None, tuple[Column, ...]], SegmentWriter] = {}

    def copy(
        self,
        placed: Iterator[tuple[_Placed, Int64]],
        verify: Callable[[Source, Path, list[Any]], None],
        bar: progress_bar,
    ) -> int:
        """Copy documents; gives how many files are shared."""
        linked = 0
        for each, firsts in placed:
            segment, codec = each.segment, self._names.get(_key(each.source, each.segment.codec))
            if len(firsts) == len(each.firsts):
                with unchanged(each.source):
                    linked += self._writer.take_whole(segment, codec)
                bar.step(len(firsts))
                continue
            verify(each.source, segment.folder, list(files_of_segment(each.source.folder, segment.record)))
            for some in _parts(segment, firsts):
                block = segment.gather(segment.rows_of_documents(some))
                self._draft(codec, segment.columns).append_encoded(block, block.columns)
                bar.step(len(some))
        for draft in self._drafts.values():
            # Ids are unique: there is nothing to replace.
            self._writer.take_in(draft, replace=False)
        return linked

    def _draft(self, codec: str | None, columns: tuple[Column, ...]) -> SegmentWriter:
        key = codec, columns
        draft = self._drafts.get(key)
        if draft is not None and draft.n_tokens >= LARGEST_MERGE:
            self._writer.take_in(draft, replace=False)
            draft = None
        if draft is None:
            draft = self._drafts[key] = self._writer.new_segment(columns, codec, unquantised=codec is None)
        return draft


def check_alike(sources: Sequence[Source]) -> None:
    """See that indexes can be spread together.

    Raises:
        ModelMismatch: they were made with different models.
        InvalidInput: they have different dim or bits, or cut texts otherwise.
    """
    first = sources[0]
    for other in sources[1:]:
        ours, theirs = first.snapshot, other.snapshot
        if (ours.model and ours.model.fingerprint) != (theirs.model and theirs.model.fingerprint):
            raise ModelMismatch(f"{other.folder}: was made with another model than {first.folder}.")
        if (found := difference(ours.manifest, theirs.manifest)) is not None:
            name, one, two = found
            raise InvalidInput(f"{other.folder}: has {name} {two}, and {first.folder} has {one}.")


@contextlib.contextmanager
def unchanged(source: Source) -> Iterator[None]:
    """Say it where files of a source are gone since a newer commit has removed them."""
    try:
        yield
    except (FileNotFoundError, IndexCorrupt) as error:
        if read_manifest(source.folder).generation != source.snapshot.generation:
            raise IndexUnusable(
                f"{source.folder}: was changed while it was copied. Do it again when nobody writes to it."
            ) from error
        if isinstance(error, IndexCorrupt):
            raise
        missing = error.filename or error.args[0]
        raise IndexCorrupt(missing, "existence", "a file", "nothing", RESTORE) from error


def _places(source: Source, segment: Segment, n: int) -> tuple[Int64, Int64]:
    """First rows of the live documents of a segment, and the place of each."""
    firsts = segment.live_firsts()
    places = [np.zeros(0, np.int64)]
    for start in range(0, len(firsts), _IDS):
        ids = segment.ids(firsts[start : start + _IDS])
        places.append(shards_of(ids, n))
        if source.shard is not None:
            number, of = source.shard
            strange = np.flatnonzero(shards_of(ids, of) != number)
            if len(strange):
                id = ids[int(strange[0])]
                raise InvalidInput(
                    f"{source.folder}: has a document that belongs to shard {shards_of([id], of)[0]}, "
                    f"{id!r}: it was not added through the set. Delete it there, and add it to the set."
                )
    return firsts, np.concatenate(places)


def _parts(segment: Segment, firsts: Int64) -> Iterator[Int64]:
    """First rows in parts of about COPY_TOKENS, at least one document each."""
    begins = segment.firsts_of(np.arange(segment.n_documents))
    ends = np.append(begins[1:], segment.n_documents)[np.searchsorted(begins, firsts)]
    before = np.append(0, np.cumsum(segment.offsets[ends] - segment.offsets[firsts]))
    start = 0
    while start < len(firsts):
        reach = int(np.searchsorted(before, before[start] + COPY_TOKENS, side="right")) - 1
        stop = min(max(reach, start + 1), start + _COPY_DOCUMENTS)
        yield firsts[start:stop]
        start = stop


def _key(source: Source, name: str | None) -> bytes:
    """What tells a codec of a source from others, by its content; equal ones of several sources are one."""
    return b"" if name is None else msgspec.json.encode(source.snapshot.manifest.codecs[name])


def _current_codec(sources: Sequence[Source]) -> bytes | None:
    """The codec for new documents: that of the source with the most tokens; None where none has one."""
    trained = [source for source in sources if source.snapshot.codec is not None]
    if not trained:
        return None
    largest = max(trained, key=lambda source: source.snapshot.n_tokens)
    return _key(largest, largest.snapshot.manifest.codec)
