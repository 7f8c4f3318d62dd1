"""Takes the documents of other indexes in as they are stored, after checking every byte of them.

The codes are copied, nothing is encoded again. That needs parts whose codes mean the same here: of the same
model and width, and either of a codec that this index has (or has since extended), or of none at all, whose
float16 vectors wait for centroids like those of an index that has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from latebolt.codec.residual_codec import ResidualCodec
from latebolt.codec.restore import untrained
from latebolt.errors import InvalidInput, ModelMismatch
from latebolt.index.documents.passages import kept_cutting
from latebolt.index.documents.pooled import kept_pooling
from latebolt.index.format.layout import COUNTS_TRUNCATED, Column, Manifest
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.store.check import verify_index
from latebolt.index.store.codecs import check_columns, columns_of, restored
from latebolt.index.store.merge_policy import LARGEST_MERGE
from latebolt.index.store.segment import Segment
from latebolt.index.store.segment_writer import SegmentWriter
from latebolt.index.store.store import Snapshot, Store
from latebolt.index.store.writer import Writer
from latebolt.progress import progress_bar

_ENCODE_AGAIN: Final = "Add its documents by their texts, which encodes them again."


def difference(one: Manifest, other: Manifest) -> tuple[str, Any, Any] | None:
    """What keeps the codes of two indexes of one model from meaning the same, and what each has; None for
    nothing."""
    for name, first, second in (
        ("dim", one.dim, other.dim),
        ("bits", one.bits, other.bits),
        ("passage cutting", kept_cutting(one.settings), kept_cutting(other.settings)),
        ("token pooling", kept_pooling(one.settings), kept_pooling(other.settings)),
    ):
        if first != second:
            return name, first or "none", second or "none"
    return None


def check_fit(path: Path, index: Path, target: Manifest) -> int:
    """Documents and passages of the part at `path`, which fits the index as far as its manifest tells.

    Raises:
        IndexNotFound, IndexCorrupt: there is no part, or its manifest is damaged.
        ModelMismatch: it was made with another model, or at another width.
        InvalidInput: it is the index itself, has other bits, or cuts texts or pools tokens otherwise.
    """
    part = read_manifest(path)
    if path.resolve() == index.resolve():
        raise InvalidInput(f"{path}: an index cannot adopt itself.")
    if (part.model and part.model.fingerprint) != (target.model and target.model.fingerprint):
        raise ModelMismatch(
            f"{path}: was made with {_model(part)}, and {index} with {_model(target)}, which gives other "
            "vectors. Encode its texts with the index's model."
        )
    if (found := difference(part, target)) is not None:
        name, theirs, ours = found
        raise InvalidInput(f"{path}: has {name} {theirs}, and {index} has {ours}. {_ENCODE_AGAIN}")
    return sum(segment.n_documents for segment in part.segments)


def _model(manifest: Manifest) -> str:
    record = manifest.model
    return (
        "no model" if record is None else f'model "{record.source}" ({record.precision}) at dim {record.dim}'
    )


class Adoption:
    """Takes parts into an index that is being written.

    Args:
        snapshot: the commit that `writer` began from.
    """

    def __init__(self, writer: Writer, snapshot: Snapshot) -> None:
        self._writer, self._path = writer, writer.path
        plain = untrained(snapshot.dim, snapshot.bits if snapshot.bits >= 8 else 16)
        self._plain_columns = columns_of(plain)
        self._codecs = {name: restored(codec, snapshot.dim) for name, codec in snapshot.codecs.items()}
        self._drafts: dict[tuple[str | None, tuple[Column, ...]], SegmentWriter] = {}
        self._names: list[str] = []
        self.n_documents = 0

    def take(self, path: Path, bar: progress_bar) -> None:
        """Copy a part's live documents.

        Raises:
            IndexCorrupt: the part is damaged.
            InvalidInput: it was written with a codec that this index does not have.
        """
        verify_index(path)
        with closing(Store.open(path)) as store:
            snapshot = store.snapshot()
            if not snapshot.settings.get(COUNTS_TRUNCATED):  # nor does this index then say it of all
                settings = dict(self._writer.manifest.settings)
                settings.pop(COUNTS_TRUNCATED, None)
                self._writer.set_settings(settings)
            for segment in snapshot.segments:
                draft = self._draft(self._codec_here(path, snapshot, segment), segment.columns)
                draft.copy(segment)
                bar.step(segment.n_documents, segment.n_tokens)
            self.n_documents += snapshot.n_documents

    def finish(self, parts: Sequence[Path]) -> None:
        """Complete the segments; each document replaces that of its id.

        Args:
            parts: all that were taken, for the message.
        Raises:
            InvalidInput: two of them have a document of one id.
        """
        for draft in self._drafts.values():
            draft.finish()
        taken = {*self._names, *(draft.name for draft in self._drafts.values())}
        live = sum(segment.n_live for segment in self._writer.segments if segment.name in taken)
        if live != self.n_documents:
            raise InvalidInput(_repeated_id(parts))

    def _codec_here(self, path: Path, snapshot: Snapshot, segment: Segment) -> str | None:
        """Name of this index's codec that reads the segment."""
        if segment.codec is None:
            if segment.columns != self._plain_columns:
                raise InvalidInput(
                    f"{path}: segment {segment.name} has columns of no known codec. {_ENCODE_AGAIN}"
                )
            return None
        theirs = restored(snapshot.codecs[segment.codec], snapshot.dim)
        check_columns(segment, theirs)
        for name, ours in self._codecs.items():
            if isinstance(ours, ResidualCodec) and isinstance(theirs, ResidualCodec) and ours.reads(theirs):
                return name
        raise InvalidInput(
            f"{path}: was encoded with centroids that {self._path} does not have. Make parts with "
            f"Index.new_part of the index that will adopt them. {_ENCODE_AGAIN}"
        )

    def _draft(self, codec: str | None, columns: tuple[Column, ...]) -> SegmentWriter:
        key = codec, columns
        draft = self._drafts.get(key)
        if draft is not None and draft.n_tokens >= LARGEST_MERGE:
            draft.finish()
            self._names.append(draft.name)
            draft = None
        if draft is None:
            draft = self._writer.new_segment(columns, codec=codec, unquantised=codec is None)
            self._drafts[key] = draft
        return draft


def _repeated_id(parts: Sequence[Path]) -> str:
    """The message that names an id which comes twice."""
    owners: dict[str, Path] = {}
    for path in parts:
        with closing(Store.open(path)) as store:
            for segment in store.snapshot().segments:
                for block in segment.blocks():
                    for id in set(block.ids):
                        if owners.setdefault(id, path) != path:
                            return (
                                f"{path}: has the id {id!r}, and so has {owners[id]}. Give every document "
                                f"an id of its own, or adopt one of the two parts after the other."
                            )
    return f"{parts[0]}: an id comes twice. Give every document an id of its own."
