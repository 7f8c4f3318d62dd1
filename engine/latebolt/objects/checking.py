"""Reads every byte of what is published, and says what is not as the newest commit has it."""

from __future__ import annotations

from collections.abc import Callable

from latebolt.errors import IndexCorrupt
from latebolt.objects import commits
from latebolt.objects.commits import File
from latebolt.objects.download import PIECE_BYTES, Digest
from latebolt.objects.local_copy import nothing_published
from latebolt.objects.object_store import ObjectStore


def check_published(
    store: ObjectStore, on_file: Callable[[File], None] = lambda file: None
) -> list[IndexCorrupt]:
    """All that is wrong with the objects of the newest commit; empty if it is whole.

    Args:
        on_file: called with each file when its object was read, for a progress bar.
    Raises:
        IndexNotFound: nothing is published there.
        IndexNewer: a newer version of latebolt published it.
        ObjectStoreError: the store refuses, or cannot be reached.
    """
    while True:
        try:
            published = store.newest()
        except IndexCorrupt as error:
            return [error]
        if published is None:
            raise nothing_published(store)
        problems = []
        for file in {file.key: file for file in published.files}.values():
            try:
                _check(store, published.object_of(file), file)
            except IndexCorrupt as error:
                problems.append(error)
            on_file(file)
        # Objects of a commit that is no longer the newest may go at any time.
        if not problems or store.newest_number() == published.commit.number:
            return problems


def _check(store: ObjectStore, name: str, file: File) -> None:
    place, record, digest, n_read = store.place_of(name), file.record, Digest(file.record), 0
    try:
        while n_read <= record.bytes:  # one byte more than it should have, to see that there is none
            data = store.read(name, n_read, min(n_read + PIECE_BYTES, record.bytes + 1))
            digest.update(data)
            n_read += len(data)
            if not data or n_read == record.bytes + 1:
                break
    except FileNotFoundError as error:
        raise IndexCorrupt(place, "existence", "an object", "nothing", commits.FIX) from error
    if n_read != record.bytes:
        got = f"{n_read} bytes" if n_read < record.bytes else "more"
        raise IndexCorrupt(place, "size", f"{record.bytes} bytes", got, commits.FIX)
    if (got := digest.result()) != record.digest:
        raise IndexCorrupt(place, "digest", record.digest, got, commits.FIX)
