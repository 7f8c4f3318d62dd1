"""Publishes an index: files that are not there yet, then, in one exclusive creation, the commit of them.

The index may be written to meanwhile: as in `backup`, what a newer commit has removed is noticed by its
absence, and the newer one is taken. What was uploaded by a run that was interrupted is used by the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from latebolt.errors import IndexCorrupt, IndexUnusable, PublishConflict
from latebolt.index.format import layout
from latebolt.index.format.files import digest_of
from latebolt.index.format.layout import FileRecord
from latebolt.index.format.manifest_file import read_content
from latebolt.index.format.mmap_array import RESTORE, opened
from latebolt.index.store.backup import companions
from latebolt.objects import commits
from latebolt.objects.commits import Commit, File, Published
from latebolt.objects.drivers import Listed
from latebolt.objects.object_store import ObjectStore
from latebolt.progress import progress_bar

logger = logging.getLogger(__name__)

UPLOADS_AT_ONCE: Final = 4  # each in up to 4 parts of 8 MiB: some 130 MB of memory at most
_TRIES: Final = 100  # commits that may overtake one publication; what is uploaded is not uploaded again


class Publication(NamedTuple):
    """What was published.

    Args:
        uri: without passwords.
        number: of the commit there; the newest one's where there was nothing new.
        generation: of the index's commit, see `Index.info`.
        new: whether there is a new commit.
        files: of the commit.
        bytes: of these, equal ones counted once.
        uploaded, uploaded_bytes: objects that were not there; with dry_run, that would be.
    """

    uri: str
    number: int
    generation: int
    new: bool
    files: int
    bytes: int
    uploaded: int
    uploaded_bytes: int


def publish(
    source: Path,
    store: ObjectStore,
    *,
    again: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    show_progress: bool = False,
) -> Publication:
    """Put an index's last commit into a store, where `Index.open` finds it by the URI.

    Args:
        source: the index's folder. Files that others keep in it, such as `files.json`, come along.
        again: upload every file, also those that are there.
        replace: whatever index is published there, this one takes its place.
        dry_run: change nothing; say what would be.
    Raises:
        IndexNotFound: there is no index.
        IndexCorrupt: a file of it is not what was written; or the newest commit of the store is damaged.
        PublishConflict: somebody else has published meanwhile; or another index is there.
        ObjectStoreError: the store refuses, or cannot be reached.
    """
    layout.decode_manifest(read_content(source), source / layout.MANIFEST)  # before the store is asked
    if not dry_run and not store.refuses_overwriting(commits.MARK, commits.MARK_CONTENT):
        logger.warning(
            "%s: this store does not keep one writer from overwriting another's commit (it has no "
            "conditional put). See to it that only one machine publishes there at a time.",
            store.uri,
        )
    for _ in range(_TRIES):
        with contextlib.suppress(_Overtaken):
            return _once(source, store, again, replace, dry_run, show_progress)
    raise IndexUnusable(
        f"{source}: {_TRIES} commits came while one was to be published. Do it when less is written."
    )


class _Overtaken(Exception):
    """The index, or the store, has a newer commit than the one that was worked on."""


def _once(
    source: Path, store: ObjectStore, again: bool, replace: bool, dry_run: bool, show_progress: bool
) -> Publication:
    newest = store.newest()
    content = read_content(source)
    manifest = layout.decode_manifest(content, source / layout.MANIFEST)
    if newest is not None and not replace:
        commits.check_follows(newest.manifest, manifest, store.uri, str(source))
    beside = _companions(source)
    files = commits.files_of(manifest, beside)
    there = {} if again else objects_there(newest, files, store.listed(commits.FILES))
    missing = list({file.key: file for file in files if file.key not in there}.values())
    number = newest.commit.number if newest is not None else 0
    made = Commit(
        commits.FORMAT,
        commits.FORMAT_VERSION,
        number + 1,
        secrets.token_hex(6),
        datetime.now(UTC).isoformat(timespec="seconds"),
        content.decode(),
        beside,
        there | {file.key: secrets.token_hex(6) for file in missing},
        newest.commit.cutoff if newest is not None else 0.0,
    )
    is_new = newest is None or _state(made) != _state(newest.commit)
    done = Publication(
        store.uri,
        number + is_new,
        manifest.generation,
        is_new,
        len(files),
        commits.total_bytes(files),
        len(missing),
        commits.total_bytes(missing),
    )
    if dry_run or not is_new:
        return done
    _upload(source, store, missing, made, show_progress)
    if not store.add(made):
        _explain_conflict(store, newest, made)
    return done


def _state(commit: Commit) -> tuple[object, ...]:
    """What a reader has of a commit."""
    return commit.manifest, commit.companions, commit.objects


def objects_there(
    newest: Published | None, files: Iterable[File], listed: Iterable[Listed]
) -> dict[str, str]:
    """The files that need not be uploaded, each with the token of its object.

    Those that the newest commit names; and what a run that was interrupted left, unless it is so old that
    somebody may be removing it. Both have to be there, in the right size.
    """
    cutoff = 0.0 if newest is None else newest.commit.cutoff
    named = {} if newest is None else newest.commit.objects
    sizes = {file.key: file.record.bytes for file in files}
    found: dict[str, str] = {}
    for each in listed:
        parts = commits.parts_of(each.name)
        if parts is None or sizes.get(parts[0]) != each.bytes:
            continue
        key, token = parts
        is_young = each.modified is not None and each.modified >= cutoff
        if named.get(key) == token or (is_young and key not in found):
            found[key] = token
    return found


def _companions(source: Path) -> dict[str, FileRecord]:
    found: dict[str, FileRecord] = {}
    for path in companions(source):
        if not commits.is_companion(path.name):
            logger.warning("%s: is not published, since not every system can have a file of that name.", path)
            continue
        with contextlib.suppress(FileNotFoundError), opened(path) as file:
            digest = digest_of(file)
            found[path.name] = FileRecord(os.fstat(file.fileno()).st_size, digest)
    return found


def _upload(source: Path, store: ObjectStore, files: list[File], made: Commit, show_progress: bool) -> None:
    """Upload files, the largest first, some at a time; ends with the first that fails."""
    content, beside = made.manifest.encode(), made.companions
    with progress_bar(len(files), "publish", "file", show_progress) as bar:

        def upload(file: File) -> None:
            _check(source / file.path, file.record)
            store.upload(source / file.path, commits.object_name(file.key, made.objects[file.key]))
            bar.step(1)

        try:
            at_once(upload, sorted(files, key=lambda file: -file.record.bytes), UPLOADS_AT_ONCE)
        except (FileNotFoundError, IndexCorrupt) as error:
            if read_content(source) != content or _companions(source) != beside:
                raise _Overtaken from error
            if isinstance(error, IndexCorrupt):
                raise
            missing = Path(error.filename or error.args[0])
            raise IndexCorrupt(missing, "existence", "a file", "nothing", RESTORE) from error


def at_once(work: Callable[[File], None], files: Iterable[File], most: int) -> None:
    """Do it for all, so many at a time; raises the first error, when those that had begun have ended."""
    with ThreadPoolExecutor(most, thread_name_prefix="latebolt-objects") as workers:
        running = [workers.submit(work, file) for file in files]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        finally:
            for each in running:
                each.cancel()
    for each in done:
        each.result()


def _check(path: Path, record: FileRecord) -> None:
    """Raise IndexCorrupt unless a file is what the manifest says: nothing damaged is published."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.bytes:
            raise IndexCorrupt(path, "size", f"{record.bytes} bytes", f"{size} bytes", RESTORE)
        digest = digest_of(file, array=record.dtype is not None)
    if digest != record.digest:
        raise IndexCorrupt(path, "digest", record.digest, digest, RESTORE)


def _explain_conflict(store: ObjectStore, base: Published | None, made: Commit) -> None:
    """Raise what follows from another commit being where ours was to be."""
    theirs = store.newest()
    known = {made.manifest} | ({base.commit.manifest} if base is not None else set())
    if theirs is not None and theirs.commit.manifest in known:
        raise _Overtaken  # somebody has tidied up, or published the same
    said = "" if theirs is None else f" (commit {theirs.commit.number}, of {theirs.commit.made})"
    raise PublishConflict(
        f"{store.uri}: somebody else has published there at the same time{said}. Nothing was overwritten. "
        "One machine at a time publishes; look which index it was, and publish again."
    )
