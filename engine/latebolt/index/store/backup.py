"""Copies the last commit of an index, whole, while others go on writing to it.

No file that a manifest names ever changes: each is written, synced, and then only read until it is removed
(databases of texts are opened as immutable). So a copy may share them with the index where the file system
lets a file have two names, and nothing that happens to the index later shows in the copy. What a commit
removes between our reading the manifest and our taking a file is noticed by its absence; then the next commit
is taken. The manifest comes last, and the folder gets its name when all of it is on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from latebolt.drafts import folder_for
from latebolt.errors import IndexCorrupt, IndexExists, IndexUnusable, InvalidInput
from latebolt.index.format import files, layout
from latebolt.index.format.cleanup import remove_unnamed
from latebolt.index.format.layout import FileRecord
from latebolt.index.format.manifest_file import read_content
from latebolt.index.format.mmap_array import RESTORE, opened
from latebolt.index.store.check import named_files

_TRIES: Final = 100  # commits that may overtake one copy; what is there already is not taken again


class Backup(NamedTuple):
    """What was copied.

    Args:
        generation: of the commit, see `Index.info`.
        files: of it, the manifest aside.
        linked: of them, those that the copy shares with the index.
        bytes: of all files; those of shared ones take no further room.
    """

    generation: int
    files: int
    linked: int
    bytes: int


def back_up(source: Path, out: Path, link: bool = True, between: Callable[[], None] = lambda: None) -> Backup:
    """Copy the last commit of the index at `source` to a new folder, which is then an index of its own.

    Files that others keep beside the index, such as `files.json`, come along.

    Args:
        out: a folder that does not exist yet, or is empty. It is there when all of it is on disk, or not at
            all.
        link: share files with the index where the file system allows it; False to copy and check every byte.
        between: called before each file; what it raises ends the copying.
    Raises:
        IndexNotFound: there is no index at `source`.
        IndexCorrupt: a file of it is missing or, as far as bytes are copied, is not what was written.
        IndexNewer: a newer version of latebolt wrote it.
        IndexExists: there is something at `out`.
        InvalidInput: `out` lies in the index's folder.
        StorageFull: the disk is full.
    """
    target = refuse_inside(source, out)
    layout.decode_manifest(read_content(source), source / layout.MANIFEST)  # before anything is made
    with folder_for(out, refuse_all_but_empty) as draft:
        copy = _Copy(source, draft, link, between)
        content, done = copy.last_commit()
        for path in companions(source):
            with contextlib.suppress(FileNotFoundError):  # replaced or removed just now
                files.copy(path, draft / path.name)
        for folder, _, _ in os.walk(draft, topdown=False):
            files.sync_folder(Path(folder))
        files.publish(draft / layout.MANIFEST, content)
    files.sync_folder(target.parent)
    return done


class _Copy:
    """The files of a commit, taken into a folder."""

    def __init__(self, source: Path, draft: Path, link: bool, between: Callable[[], None]) -> None:
        self._source, self._draft, self._link, self._between = source, draft, link, between
        self._taken: dict[Path, tuple[FileRecord, bool]] = {}  # with whether the file is shared

    def last_commit(self) -> tuple[bytes, Backup]:
        """Take all files that a manifest names; gives the manifest as it was read."""
        for _ in range(_TRIES):
            place = self._place()
            content = read_content(self._source)
            manifest = layout.decode_manifest(content, self._source / layout.MANIFEST)
            named = list(named_files(self._source, manifest))
            try:
                for path, record, fix in named:
                    self._between()
                    self._take(path, record, fix)
            except FileNotFoundError as error:
                if place == self._place() and content == read_content(self._source):
                    missing = Path(error.filename or error.args[0])
                    raise IndexCorrupt(missing, "existence", "a file", "nothing", RESTORE) from error
                continue  # a newer commit has removed it
            except IndexCorrupt:
                if place == self._place() and content == read_content(self._source):
                    raise
                continue
            if place != self._place():
                continue  # another index has come in between, and some of the files may be its
            remove_unnamed(self._draft, manifest)  # of commits before
            taken = [self._taken[path.relative_to(self._source)] for path, _, _ in named]
            n_bytes, linked = sum(record.bytes for record, _ in taken), sum(shared for _, shared in taken)
            return content, Backup(manifest.generation, len(taken), linked, n_bytes)
        raise IndexUnusable(
            f"{self._source}: {_TRIES} commits came while one was to be copied. Do it when less is written, "
            f"or to a folder on the same disk."
        )

    def _place(self) -> tuple[int, int]:
        """What tells the index's folder from another one that takes its name."""
        try:
            status = self._source.stat()
        except FileNotFoundError:  # which reading the manifest says better
            return 0, 0
        return status.st_dev, status.st_ino

    def _take(self, path: Path, record: FileRecord, fix: str) -> None:
        name = path.relative_to(self._source)
        known = self._taken.get(name)
        if known is not None and known[0] == record:
            return
        target = self._draft / name
        files.make_within(self._draft, target.parent)
        files.remove(target)
        shared = take_file(path, target, record, fix, self._link)
        self._taken[name] = record, shared


def take_file(path: Path, target: Path, record: FileRecord, fix: str, link: bool) -> bool:
    """Give a file that never changes a second name, or copy and check every byte; whether it is shared.

    Args:
        target: does not exist yet.
        fix: what to do where the file is damaged.
        link: share it where the file system allows that.
    Raises:
        FileNotFoundError: the file is gone; the caller knows whether that is damage.
        IndexCorrupt: its size, or as far as it is copied a byte, is not what was written.
        StorageFull: the disk is full.
    """
    shared = link and files.link(path, target)
    if not shared:
        files.copy(path, target)
    with opened(target) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.bytes:
            raise IndexCorrupt(path, "size", f"{record.bytes} bytes", f"{size} bytes", fix)
        if not shared:
            digest = files.digest_of(file, array=record.dtype is not None)
            if digest != record.digest:
                raise IndexCorrupt(path, "digest", record.digest, digest, fix)
    return shared


def companions(source: Path) -> Iterator[Path]:
    """Files of others in the index's folder; what is being written there has a name of ours."""
    ours = {layout.MANIFEST, layout.LOCK}
    for entry in os.scandir(source):
        hidden = entry.name.startswith(".") or entry.name.endswith(layout.DRAFT_SUFFIX)
        if entry.name not in ours and not hidden and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def refuse_inside(source: Path, out: Path) -> Path:
    """The place of `out`, links followed.

    Raises:
        InvalidInput: it lies in the folder `source`.
    """
    target = Path(os.path.realpath(out))
    if Path(os.path.realpath(source)) in target.parents:
        raise InvalidInput(f"{out}: lies in the folder of the index itself. Choose a place outside of it.")
    return target


def refuse_all_but_empty(path: Path) -> None:
    """Raise IndexExists unless an empty folder is at `path`."""
    if path.is_dir() and next(path.iterdir(), None) is None:
        return
    raise IndexExists(f"{path}: there is something already. Choose a path where nothing is yet.")
