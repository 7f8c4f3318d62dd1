"""`LocalCopy`: the folder that holds an index which was opened by a URI, as an ordinary index folder.

    lock                     held by whoever copies; readers need none
    head.json                the commit that is here, and in which folder
    <n>/                     an index: what a newer commit brings is put into it, its manifest last
    <n>.lock                 shared by those who read that folder
    parts/                   what is on its way

A reader of the folder sees whole commits, as of any index that is written to. A folder is changed for another
only where the store has another index now, whose files would take the place of those that are being read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from latebolt import caches, system
from latebolt.errors import IndexCorrupt, IndexNotFound, IndexUnusable, StorageFull
from latebolt.file_lock import FileLock
from latebolt.index.format import files, layout
from latebolt.index.format.cleanup import remove_unnamed
from latebolt.index.format.files import digest_of
from latebolt.index.format.layout import FileRecord
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.format.mmap_array import opened
from latebolt.index.places import masked
from latebolt.objects import commits
from latebolt.objects.commits import Published
from latebolt.objects.download import Wanted, download
from latebolt.objects.drivers import Listed
from latebolt.objects.object_store import ObjectStore

_HEAD: Final = "head.json"
_LOCK: Final = "lock"
_PARTS: Final = "parts"
_TRIES: Final = 100  # commits that may overtake one copying; what is here is not copied again
_SPARE_BYTES: Final = 1 << 20


class Head(msgspec.Struct, frozen=True):
    """`head.json`: which commit is here, as the store lists it, and the folder that it is in."""

    number: int
    bytes: int
    modified: float | None
    folder: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,17}\Z")]

    def is_of(self, number: int, listed: Listed) -> bool:
        """Whether that commit is here, and no other of its number."""
        return (self.number, self.bytes, self.modified) == (number, listed.bytes, listed.modified)


class LocalCopy:
    """The copy of what is at a URI. Processes may share it.

    Args:
        folder: made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, uri: str, cache: str | os.PathLike[str] | None) -> LocalCopy:
        """That of a URI, in a folder for copies or in the user's cache folder."""
        root = caches.cache_folder("objects") if cache is None else Path(cache)
        # Without a password, which may change; with the user's name, who may see something else there.
        plain = re.sub(r"(://[^/:]*):[^/]*@", r"\1@", uri.rstrip("/"))
        digest = hashlib.blake2b(plain.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", masked(plain).rpartition("/")[2])[:40].lstrip(".")
        return cls(root.absolute() / f"{name or 'index'}-{digest}")

    def head(self) -> Head | None:
        """What is here; None where nothing is, or nothing that can be used."""
        try:
            head = msgspec.json.decode((self.folder / _HEAD).read_bytes(), type=Head)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return head if (self.path_of(head) / layout.MANIFEST).exists() else None

    def path_of(self, head: Head) -> Path:
        """The index's folder."""
        return self.folder / head.folder

    def follow(
        self,
        store: ObjectStore,
        *,
        wait: float = float("inf"),
        verify: bool = False,
        between: Callable[[], None] = lambda: None,
        show_progress: bool = False,
    ) -> Head | None:
        """Bring the newest commit here; what is here, or None where another process copies and time was up.

        Args:
            wait: seconds to wait for another process that copies.
            verify: read all that is here, and copy again what is damaged.
            between: called again and again; what it raises ends the work.
        Raises:
            IndexNotFound: nothing is published there.
            IndexCorrupt: what is published is damaged; the copy is as it was.
            ObjectStoreError: the store refuses, or cannot be reached.
            StorageFull, IndexInaccessible: the copy cannot be written; it is as it was.
        """
        with files.writing(self.folder):
            caches.make_folder(self.folder)
        lock = FileLock(self.folder / _LOCK)
        with files.writing(lock.path):
            if not lock.acquire(wait):
                return None
        try:
            return self._follow(store, verify, between, show_progress)
        finally:
            lock.release()

    def _follow(
        self, store: ObjectStore, verify: bool, between: Callable[[], None], show_progress: bool
    ) -> Head:
        for _ in range(_TRIES):
            there, head = store.commit_numbers(), self.head()
            if not there:
                raise nothing_published(store)
            number = max(there)
            if head is not None and head.is_of(number, there[number]) and not verify:
                return head
            try:
                published = store.commit(number, there[number].bytes)
                return self._install(store, published, there[number], head, verify, between, show_progress)
            except (FileNotFoundError, IndexCorrupt) as error:
                if store.newest_number() != number:
                    continue  # its objects make room for those of a newer one
                if isinstance(error, IndexCorrupt):
                    raise
                raise IndexCorrupt(
                    store.place_of(str(error.args[0])), "existence", "an object", "nothing", commits.FIX
                ) from error
        raise IndexUnusable(
            f"{store.uri}: {_TRIES} commits came while one was to be copied. Try again later."
        )

    def _install(
        self,
        store: ObjectStore,
        published: Published,
        listed: Listed,
        head: Head | None,
        verify: bool,
        between: Callable[[], None],
        show_progress: bool,
    ) -> Head:
        current = None
        if head is not None:
            with contextlib.suppress(IndexUnusable):
                current = read_manifest(self.path_of(head))
        if head is None or current is None or commits.clashes(current, published.manifest) is not None:
            head, current = None, None
        known = {} if current is None or verify else {f.path: f.record for f in commits.files_of(current, {})}
        root = self.folder / (self._new_folder() if head is None else head.folder)
        missing = [
            Wanted(published.object_of(file), file.record, root / file.path)
            for file in published.files
            if not _is_there(root / file.path, file.record, known.get(file.path))
        ]
        self._check_room(store, missing)
        for name in (layout.SEGMENTS, layout.CODECS):
            files.make_folder(root / name)
        download(store, missing, self.folder / _PARTS, between, show_progress)
        content = published.commit.manifest.encode()
        if current != published.manifest:
            files.publish(root / layout.MANIFEST, content)
        made = Head(published.commit.number, listed.bytes, listed.modified, root.name)
        files.publish(self.folder / _HEAD, msgspec.json.encode(made))
        self._tidy(published, made)
        return made

    def _new_folder(self) -> str:
        """The name of a folder for an index: one that an interrupted copying has begun, or a new one."""
        there = {int(each.name): each for each in self._folders()}
        begun = [n for n, each in there.items() if not (each / layout.MANIFEST).exists()]
        return str(max(begun, default=max(there, default=0) + 1))

    def _folders(self) -> list[Path]:
        return [each for each in self.folder.iterdir() if re.fullmatch("[1-9][0-9]{0,17}", each.name)]

    def _check_room(self, store: ObjectStore, wanted: list[Wanted]) -> None:
        need = sum(each.record.bytes for each in wanted)
        free = shutil.disk_usage(self.folder).free
        if need + _SPARE_BYTES > free and need:
            raise StorageFull(
                f"{self.folder}: the disk has {free / 1e6:.1f} MB free, and {store.uri} takes "
                f"{need / 1e6:.1f} MB more. Free space, or name a folder on another disk by cache=..."
            )

    def _tidy(self, published: Published, head: Head) -> None:
        """Remove what no reader needs any more; never fails."""
        root = self.path_of(head)
        remove_unnamed(root, published.manifest)
        with contextlib.suppress(OSError):
            for each in root.iterdir():
                if (
                    each.is_file()
                    and each.name != layout.MANIFEST
                    and each.name not in published.commit.companions
                ):
                    files.remove(each)
        files.remove(self.folder / _PARTS)
        with contextlib.suppress(OSError):
            for other in self._folders():
                if other != root and _is_unused(other):
                    files.remove(other)
                    files.remove(_lock_of(other))

    def reading(self, head: Head) -> BinaryIO | None:
        """Keep the folder of a commit while this is open; None where the disk has no locks."""
        try:
            file: BinaryIO = _lock_of(self.path_of(head)).open("ab")
            system.lock(file, exclusive=False, wait=False)
        except OSError:
            return None
        return file


def nothing_published(store: ObjectStore) -> IndexNotFound:
    """What is said where there is no commit; a set of shards has them one level below."""
    names = {each.name for each in store.listed("") if each.name == layout.SHARD_SET}
    if names:
        return IndexNotFound(f"{store.uri}: is a set of shards. Open one of them: {store.uri}/shard-0.")
    return IndexNotFound(
        f'{store.uri}: no index is published there. Put one there with "latebolt publish INDEX {store.uri}".'
    )


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _is_unused(folder: Path) -> bool:
    if not system.HAS_FILE_LOCKS:
        return False  # who reads there cannot be told
    try:
        with _lock_of(folder).open("ab") as file:
            system.lock(file, wait=False)
    except OSError:
        return False
    return True


def _is_there(path: Path, record: FileRecord, known: FileRecord | None) -> bool:
    """Whether a file is here already.

    Args:
        known: what the commit that is here says of it: then the size is enough, as its digest was right when
            it came. Anything else is read.
    """
    try:
        with opened(path) as found:
            if os.fstat(found.fileno()).st_size != record.bytes:
                return False
            return known == record or digest_of(found, array=record.dtype is not None) == record.digest
    except (OSError, IndexUnusable):
        return False
