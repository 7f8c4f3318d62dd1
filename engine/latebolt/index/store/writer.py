"""Collects the changes of one commit and publishes them at once.

New files are written where they will stay, since no manifest names them yet; then one replaced manifest makes
all changes visible. What no manifest names is removed afterwards, or by the next writer if this one dies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from latebolt.codec.base import Codec
from latebolt.codec.restore import restore
from latebolt.errors import IndexUnusable, InvalidInput
from latebolt.index.documents.checked import wanted_ids
from latebolt.index.documents.documents import plain_json
from latebolt.index.documents.texts_reader import rows_replaced
from latebolt.index.filters.parse_dict import Where
from latebolt.index.format import files, layout
from latebolt.index.format.cleanup import remove_unnamed
from latebolt.index.format.layout import CodecRecord, Column, Manifest, ModelRecord, SegmentRecord
from latebolt.index.format.mmap_array import map_array
from latebolt.index.store.backup import take_file
from latebolt.index.store.check import files_of_segment
from latebolt.index.store.merge_policy import plan_merges
from latebolt.index.store.segment import (
    COPY_TOKENS,
    Segment,
    check_same_columns,
    open_segment,
    pack_deleted,
    read_alive,
)
from latebolt.index.store.segment_writer import SegmentWriter


class Writer:
    """The one writer of an index. Made by `Store.writer`; not for several threads at a time.

    Args:
        manifest, segments: the last commit.
    """

    def __init__(self, path: Path, manifest: Manifest, segments: Sequence[Segment]) -> None:
        self.path = path
        self._committed = self._manifest = manifest
        # Own masks, changed in place as documents are deleted.
        self._segments = {s.name: s.view(s.record, s.alive.copy()) for s in segments}
        self._touched: set[str] = set()
        self._open: list[SegmentWriter] = []
        self._failed = False
        remove_unnamed(path, manifest)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, an error makes this writer unusable, unless it refuses what it was given."""
        # A half-done change must not be committed by a caller who caught its error.
        if self._failed:
            raise IndexUnusable(f"{self.path}: an earlier write failed; leave this writer and begin another.")
        try:
            yield
        except InvalidInput:  # raised before anything was written
            raise
        except BaseException:
            self._failed = True
            raise

    @property
    def manifest(self) -> Manifest:
        """The state a commit would publish, deletions and unfinished segments aside."""
        return self._manifest

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Finished segments as this writer sees them, its own deletions included."""
        return tuple(self._segments.values())

    @property
    def codec(self) -> str | None:
        """Name of the codec for new segments."""
        return self._manifest.codec

    def codec_of(self, name: str | None) -> Codec | None:
        """A codec of this commit; None for none, and for one of a kind that this version does not know."""
        if name is None:
            return None
        record, folder = self._manifest.codecs[name], self.path / layout.CODECS / name
        arrays = {file.removesuffix(".npy"): map_array(folder / file, r) for file, r in record.files.items()}
        try:
            return restore(arrays, record.info)
        except InvalidInput:
            return None

    def _replace(self, **changes: Any) -> None:
        self._manifest = msgspec.structs.replace(self._manifest, **changes)

    def _new_folder(self, parent: str) -> Path:
        number = self._manifest.next_number
        while (folder := self.path / parent / str(number)).exists():  # a leftover that cannot be removed
            number += 1
        self._replace(next_number=number + 1)
        return folder

    def set_model(self, model: ModelRecord | None) -> None:
        """Record another encoder, for example after its folder has moved."""
        self._replace(model=model)

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace the free-form settings; JSON values only."""
        self._replace(settings=plain_json(settings, "settings"))

    def set_codec(
        self, arrays: Mapping[str, npt.NDArray[Any]], info: Mapping[str, Any], adopt: bool = False
    ) -> str:
        """Store a codec for new segments.

        Args:
            arrays: name -> array; names are lower case letters, digits and underscores.
            info: whatever else the codec needs; JSON values only.
            adopt: the segments of the current codec can be read with this one too (centroids were only
                appended), so the old one may go.
        Returns:
            The codec's name.
        """
        plain = plain_json(info, "info")
        with self.acting():
            folder = self._new_folder(layout.CODECS)
            files.make_within(folder.parent.parent, folder)
            records = {
                f"{name}.npy": files.write_array(folder / f"{name}.npy", a) for name, a in arrays.items()
            }
            files.sync_folder(folder)
            old, name = self._manifest.codec, folder.name
            self._replace(codec=name, codecs={**self._manifest.codecs, name: CodecRecord(plain, records)})
            if adopt:
                for segment in self.segments:
                    if segment.codec == old:
                        self._set_record(segment, codec=name)
        return name

    def new_segment(
        self, columns: Sequence[Column], codec: str | None = None, unquantised: bool = False
    ) -> SegmentWriter:
        """Begin a segment.

        Args:
            codec: name of its codec, the current one by default.
            unquantised: of no codec at all; its vectors wait for one.
        """
        name = None if unquantised else self._manifest.codec if codec is None else codec
        if name is not None and name not in self._manifest.codecs:
            raise InvalidInput(f"codec should be one of {sorted(self._manifest.codecs)}, got {name!r}.")
        return self._new_segment(columns, name)

    def _new_segment(self, columns: Sequence[Column], codec: str | None) -> SegmentWriter:
        with self.acting():
            draft = SegmentWriter(self._new_folder(layout.SEGMENTS), columns, codec, self)
            self._open.append(draft)
        return draft

    def take_whole(self, source: Segment, codec: str | None) -> int:
        """Take a segment of another index as it is, deleted rows included, with its files shared where the
        file system allows that. No id of it may be here already.

        Args:
            codec: name of the codec here that reads it; None for none.
        Returns:
            How many of its files are shared.
        Raises:
            FileNotFoundError: a commit of the other index has removed it.
            IndexCorrupt: a file of it is not what was written, as far as that is looked at.
        """
        with self.acting():
            folder = self._new_folder(layout.SEGMENTS)
            files.make_within(folder.parent.parent, folder)
            records, deleted, shared = {}, None, 0
            for path, record, fix in files_of_segment(source.folder.parent.parent, source.record):
                name = path.name
                if name == source.record.deleted:  # whose own name would be taken again by a later commit
                    name = deleted = layout.deleted_file(self._committed.generation + 1)
                shared += take_file(path, folder / name, record, fix, link=True)
                records[name] = record
            files.sync_folder(folder)
            taken = msgspec.structs.replace(
                source.record, name=folder.name, codec=codec, files=records, deleted=deleted
            )
            segment = open_segment(folder, taken, layout.n_centroids(self._manifest, taken))
            self._segments[folder.name] = segment.view(taken, read_alive(folder, taken))
        return shared

    def take_in(self, draft: SegmentWriter, replace: bool = True) -> None:
        """Complete a segment: from now on deletions and later segments see its documents.

        Args:
            replace: whether its rows replace those of the same id.
        """
        if draft not in self._open:
            return
        with self.acting():
            self._open.remove(draft)
            if draft.n_documents == 0:
                draft.close()
                files.remove(draft.folder)
                return
            record, repeated = draft.complete()
            segment = open_segment(draft.folder, record)
            segment.alive[repeated] = False
            if replace:
                for old in self.segments:
                    self._kill(
                        old,
                        rows_replaced(
                            old.texts.path, old.n_documents, segment.texts.path, record.n_documents
                        ),
                    )
            self._segments[record.name] = segment
            self._touched.add(record.name)

    def _kill(self, segment: Segment, rows: npt.NDArray[np.int64]) -> int:
        if not segment.alive[rows].any():
            return 0
        before = segment.n_live
        segment.alive[rows] = False
        self._touched.add(segment.name)
        return before - segment.n_live

    def delete(self, ids: Sequence[str] | None, where: Where | None = None) -> int:
        """Delete documents; ids that do not exist are ignored.

        Args:
            ids: None for all.
            where: of those only what passes.
        Returns:
            How many documents there were.
        """
        known = None if ids is None else wanted_ids(ids)
        with self.acting():
            return sum(self._kill(segment, segment.chosen(known, where)) for segment in self.segments)

    def drop_segments(self, names: Sequence[str]) -> None:
        """Remove segments with all their documents."""
        for name in names:
            if name not in self._segments:
                raise InvalidInput(f"segment should be one of {list(self._segments)}, got {name!r}.")
            del self._segments[name]

    def merge(self, names: Sequence[str], block_tokens: int = COPY_TOKENS) -> str | None:
        """Replace segments of one codec by one that holds their live documents, in their order.

        Args:
            block_tokens: tokens copied at a time.
        Returns:
            Name of the new segment; None if no document was left.
        """
        for name in names:
            if name not in self._segments:
                raise InvalidInput(f"segment should be one of {list(self._segments)}, got {name!r}.")
        if not names:
            return None
        sources = [self._segments[name] for name in names]
        check_same_columns(sources)
        draft = self._new_segment(sources[0].columns, sources[0].codec)
        with self.acting():
            for source in sources:
                draft.copy(source, block_tokens)
            # Live ids are unique, and the sources are about to go: nothing to replace.
            self.take_in(draft, replace=False)
        self.drop_segments(names)
        return draft.name if draft.name in self._segments else None

    def tidy(self) -> None:
        """Merge small segments when there are many of them; to be called before the commit of an addition."""
        for draft in list(self._open):
            draft.finish()
        while plans := plan_merges(segment.record for segment in self.segments):
            for names in plans:
                self.merge(names)

    def commit(self) -> int:
        """Publish all changes: after this returns they survive a power cut. May be called again for more.

        Returns:
            The generation; the old one if nothing changed.
        Raises:
            StorageFull: nothing has changed.
        """
        with self.acting():
            for draft in list(self._open):
                draft.finish()
            generation = self._committed.generation + 1
            for segment in self.segments:
                if not segment.alive.any():
                    del self._segments[segment.name]
                elif segment.name in self._touched:
                    self._write_deleted(segment, generation)
            records = tuple(segment.record for segment in self.segments)
            self._replace(segments=records, format_version=layout.version_of(records))
            used = {segment.codec for segment in self.segments} | {self._manifest.codec}
            self._replace(codecs={n: codec for n, codec in self._manifest.codecs.items() if n in used})
            if self._manifest == self._committed:
                return self._committed.generation
            self._replace(generation=generation)
            self._sync_folders()
            files.publish(self.path / layout.MANIFEST, layout.encode_manifest(self._manifest))
            self._committed = self._manifest
            self._touched.clear()
        remove_unnamed(self.path, self._committed)
        return generation

    def _write_deleted(self, segment: Segment, generation: int) -> None:
        old = segment.record
        records = {name: record for name, record in old.files.items() if name != old.deleted}
        n_deleted = segment.n_deleted
        if n_deleted == 0:
            return
        name = layout.deleted_file(generation)
        path = segment.folder / name
        # A commit that failed in this very place has left its file behind; nobody reads it.
        files.remove(path)
        records[name] = files.write_array(path, pack_deleted(segment.alive))
        files.sync_folder(segment.folder)
        self._set_record(segment, deleted=name, n_deleted=n_deleted, files=records)

    def _set_record(self, segment: Segment, **changes: Any) -> None:
        record: SegmentRecord = msgspec.structs.replace(segment.record, **changes)
        self._segments[segment.name] = segment.view(record, segment.alive)

    def _sync_folders(self) -> None:
        for parent in (layout.SEGMENTS, layout.CODECS):
            if (self.path / parent).is_dir():
                files.sync_folder(self.path / parent)
        files.sync_folder(self.path)

    def close(self) -> None:
        """Close what is unfinished. `Store.writer` then removes what no manifest names."""
        self._failed = True
        for draft in self._open:
            draft.close()
