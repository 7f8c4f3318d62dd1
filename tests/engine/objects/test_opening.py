"""Opening by a URI: whole commits while somebody publishes, a store that is away, copies that are damaged."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from object_places import Broken, add, answers, index_with, store_of

from latebolt import Index
from latebolt.aio import AsyncIndex
from latebolt.errors import (
    IndexCorrupt,
    IndexNotFound,
    IndexReadOnly,
    IndexUnusable,
    InvalidInput,
    LateboltError,
    ObjectStoreError,
    StorageFull,
)
from latebolt.index.format import files
from latebolt.objects import download, local_copy
from latebolt.objects.drivers import driver_of
from latebolt.objects.local_copy import LocalCopy
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.prune import prune
from latebolt.objects.publish import publish
from latebolt.objects.remote_store import RemoteStore


def opened(uri: str, driver: Broken | None = None, refresh: float | None = None) -> Index:
    """As `Index.open` does it, with a driver of ours."""
    return Index(RemoteStore.open_at(uri, None, refresh, objects=store_of(uri, driver)), None)


def until(done: Callable[[], object]) -> None:
    """Wait for what has to come, however busy the machine is."""
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.fixture
def published(tmp_path: Path, disk: str) -> Index:
    """An index that is published at `disk`."""
    index = index_with(tmp_path / "index")
    publish(index.path, ObjectStore(disk))
    return index


def test_a_reader_that_follows_sees_whole_commits_only(tmp_path, disk):
    """50 commits, some of which take out what earlier ones brought; old ones go while they are followed."""
    index = Index.create(tmp_path / "index", None, dim=16, bits=8)
    states: dict[frozenset[str], int] = {}

    def commit(number: int) -> None:
        add(index, 2, number)
        if number % 5 == 4:
            index.delete([f"{number - 2}-0", f"{number - 3}-1"])
            index.compact()
        states[frozenset(hit.id for hit in answers(index)[0])] = number
        publish(index.path, ObjectStore(disk))

    commit(0)
    failures: list[Exception] = []
    seen: list[int] = []
    with Index.open(disk, refresh=0) as reader:

        def search() -> None:
            try:
                while not seen or seen[-1] < 50:
                    for found in answers(reader):
                        seen.append(states[frozenset(hit.id for hit in found)])
            except (AssertionError, KeyError, LateboltError) as error:
                failures.append(error)

        searching = threading.Thread(target=search)
        searching.start()
        for number in range(1, 51):
            commit(number)
            if number % 10 == 0:
                prune(ObjectStore(disk), 2, grace=0)
        searching.join(120)
        assert not failures and not searching.is_alive(), failures
        assert seen == sorted(seen) and len(set(seen)) > 2
        assert answers(reader) == answers(index)
        copied = {path.name for path in (reader.path / "segments").iterdir()}
        assert copied == {path.name for path in (index.path / "segments").iterdir()}  # and nothing older


def test_refresh_says_whether_there_was_something(published, disk):
    reader = Index.open(disk, refresh=None)
    before = answers(reader)
    assert not reader.refresh()
    add(published, 2, 9)
    publish(published.path, ObjectStore(disk))
    assert answers(reader) == before and reader.refresh()
    assert answers(reader) == answers(published) != before
    assert not published.refresh()  # of a folder
    reader.close()
    with pytest.raises(IndexUnusable, match="closed"):
        reader.refresh()


def test_an_asynchronous_index_follows(published, disk):
    async def follow() -> tuple[bool, int]:
        async with await AsyncIndex.open(disk, refresh=None) as reader:
            add(published, 2, 9)
            publish(published.path, ObjectStore(disk))
            found = await reader.refresh()
            return found, len(await reader.get([hit.id for hit in answers(published)[0]]))

    assert asyncio.run(follow()) == (True, len(published))


def test_a_search_does_not_wait_for_the_store(published, disk):
    driver, go_on = Broken(driver_of(disk)), threading.Event()
    reader = opened(disk, driver, refresh=0)
    before = answers(reader)
    until(lambda: not reader._store._thread.is_alive())
    add(published, 2, 9)
    publish(published.path, ObjectStore(disk))
    driver.before = lambda operation, name: go_on.wait(120)
    assert answers(reader) == before and answers(reader) == before
    go_on.set()
    until(lambda: answers(reader) != before)
    assert answers(reader) == answers(published)
    reader.close()


def test_a_store_that_is_away(published, disk, caplog):
    with pytest.raises(ObjectStoreError, match=f"{disk}.*cannot be reached"):
        opened(disk, Broken(driver_of(disk), 0))
    with opened(disk) as reader:
        expected = answers(reader)
    with opened(disk, Broken(driver_of(disk), 0), refresh=0) as reader:  # the copy is there
        assert "copied earlier" in caplog.text and disk in caplog.text
        for _ in range(5):
            assert answers(reader) == expected
            until(lambda: not reader._store._thread.is_alive())
        assert caplog.text.count("Searches go on") == 1  # told once
        with pytest.raises(ObjectStoreError, match=disk):
            reader.refresh()
        assert answers(reader) == expected


def test_opening_that_is_interrupted_anywhere_begins_again(published, disk, monkeypatch):
    monkeypatch.setattr(download, "PIECE_BYTES", 2_000)
    counting = Broken(driver_of(disk))
    opened(disk, counting).close()
    folder = LocalCopy.of(disk, None).folder
    for when in range(0, counting.n, 3):
        shutil.rmtree(folder)
        with pytest.raises(ObjectStoreError):
            opened(disk, Broken(driver_of(disk), when))
        again = Broken(driver_of(disk))
        with opened(disk, again) as reader:
            assert answers(reader) == answers(published)
        # What had come through is not asked for again: pieces on their way may be.
        assert again.n <= counting.n - max(0, when - download.PIECES_AT_ONCE - 2)
        opened(disk, Broken(driver_of(disk), when, once=True)).close()
    shutil.rmtree(folder)
    for when in range(counting.n):
        with opened(disk, Broken(driver_of(disk), when, once=True)) as reader:
            assert answers(reader) == answers(published)
        shutil.rmtree(folder)


def test_a_part_that_was_damaged_on_the_way_is_fetched_again(published, disk, monkeypatch):
    monkeypatch.setattr(download, "PIECE_BYTES", 2_000)
    with pytest.raises(ObjectStoreError):
        opened(disk, Broken(driver_of(disk), 8))
    parts = list((LocalCopy.of(disk, None).folder / "parts").iterdir())
    assert parts
    for part in parts:
        part.write_bytes(bytes(part.stat().st_size))
    assert answers(opened(disk)) == answers(published)


@pytest.mark.parametrize("damage", ["size", "gone", "header"])
def test_a_copy_that_was_damaged_is_made_again(published, disk, damage, caplog):
    with Index.open(disk) as reader:
        path = next((reader.path / "segments").rglob("offsets.npy"))
    if damage == "gone":
        path.unlink()
    elif damage == "size":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(b"?" + path.read_bytes()[1:])
    with Index.open(disk) as reader:
        assert answers(reader) == answers(published) and "copied again" in caplog.text


def test_objects_that_are_not_what_the_commit_says(published, disk, tmp_path):
    with Index.open(disk) as reader:
        before = answers(reader)
        add(published, 20, 9)
        publish(published.path, ObjectStore(disk))
        held = set(LocalCopy.of(disk, None).folder.rglob("*"))
        objects = sorted((tmp_path / "published here" / "notes" / "files").iterdir(), key=os.path.getmtime)
        for wrong in (b"", b"?", objects[-1].read_bytes()[:-1], bytes(objects[-1].stat().st_size)):
            right = objects[-1].read_bytes()
            objects[-1].write_bytes(wrong)
            with pytest.raises(IndexCorrupt, match=rf"{disk}/files/.*(size|digest).*--again"):
                reader.refresh()
            assert answers(reader) == before
            objects[-1].write_bytes(right)
        right = objects[-1].read_bytes()
        objects[-1].unlink()
        with pytest.raises(IndexCorrupt, match="existence"):
            reader.refresh()
        assert answers(reader) == before and held
        objects[-1].write_bytes(right + b"more than the commit says is not read")
        assert reader.refresh() and answers(reader) == answers(published)


def test_no_room_for_the_copy(published, disk, monkeypatch):
    with Index.open(disk) as reader:
        before = answers(reader)
        add(published, 20, 9)
        publish(published.path, ObjectStore(disk))
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(local_copy.shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(StorageFull, match="cache="):
            reader.refresh()
        monkeypatch.undo()

        class Full(download._Incoming):
            def take(self, data: bytes) -> None:
                with files.writing(self.wanted.target, len(data)):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(download, "_Incoming", Full)
        with pytest.raises(StorageFull):
            reader.refresh()
        assert answers(reader) == before
        monkeypatch.undo()


def test_nothing_is_written_through_a_uri(published, disk):
    with Index.open(disk) as reader:
        for write in (
            lambda: add(reader, 1, 1),
            lambda: reader.add([]),
            lambda: reader.delete(["0-0"]),
            lambda: reader.update_metadata(["0-0"], set={"a": 1}),
            lambda: reader.compact(),
            lambda: reader.sync([]),
            lambda: reader.long_addition([], "name"),
        ):
            with pytest.raises(IndexReadOnly, match=disk):
                write()
        assert answers(reader) == answers(published)
    with pytest.raises(InvalidInput, match="URI"):
        Index.open_or_create(disk + "-none", None, dim=16)


def test_another_process_opens_a_pickle(published, disk, tmp_path):
    reader = Index.open(disk, cache=tmp_path / "copies", refresh=5)
    with pickle.loads(pickle.dumps(reader)) as again:
        assert answers(again) == answers(published)
        assert again.path == reader.path and again._store._every == 5


WORKER = """
import sys
from latebolt import Index
with Index.open(sys.argv[1], cache=sys.argv[2]) as index:
    print(len(index))
"""


def test_processes_share_a_copy(published, disk, tmp_path):
    command = [sys.executable, "-c", WORKER, disk, str(tmp_path / "copies")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [worker.communicate(timeout=120)[0] for worker in workers] == [f"{len(published)}\n"] * 3
    assert len(list((tmp_path / "copies").iterdir())) == 1


def test_a_fork_goes_on_following(published, s3_server, in_child):
    uri = f"{s3_server}/forked"
    publish(published.path, ObjectStore(uri))
    reader = Index.open(uri, refresh=0)
    expected = answers(reader)
    add(published, 1, 9)
    publish(published.path, ObjectStore(uri))
    newer = answers(published)

    def follows() -> bool:
        until(lambda: answers(reader) != expected)
        return answers(reader) == newer

    assert in_child(follows, 60)
    reader.close()


def test_two_who_follow_one_copy_while_another_index_takes_the_place(published, disk, tmp_path):
    first, second = Index.open(disk, refresh=None), Index.open(disk, refresh=None)
    before = answers(first)
    other = index_with(tmp_path / "other", 9, 40)
    publish(other.path, ObjectStore(disk), replace=True)
    assert first.refresh() and answers(first) == answers(other)
    assert answers(second) == before  # its folder is kept while it is read
    assert second.refresh() and answers(second) == answers(other) and second.path == first.path
    add(other, 1, 90)
    publish(other.path, ObjectStore(disk))
    assert first.refresh() and answers(second) == answers(other)
    assert not (first.path.parent / "1").exists()  # now nobody reads it


def test_a_store_that_began_again_at_the_same_number(published, disk, tmp_path):
    with Index.open(disk, refresh=None) as reader:
        shutil.rmtree(tmp_path / "published here")
        with pytest.raises(IndexNotFound):
            reader.refresh()
        other = index_with(tmp_path / "other", 9, 40)
        publish(other.path, ObjectStore(disk))
        assert reader.refresh() and answers(reader) == answers(other)


def test_closing_does_not_wait_for_a_large_download(published, disk, monkeypatch):
    monkeypatch.setattr(download, "PIECE_BYTES", 500)
    driver, read = Broken(driver_of(disk)), threading.Event()
    reader = opened(disk, driver, refresh=0)
    add(published, 200, 9)
    publish(published.path, ObjectStore(disk))

    def slow(operation: str, name: str) -> None:
        if name.startswith("files/"):
            read.set()
            time.sleep(0.05)

    driver.before = slow
    until(lambda: (answers(reader), read.is_set())[1])
    n = driver.n
    reader.close()
    assert driver.n < n + 40
    with pytest.raises(LateboltError):
        answers(reader)


def test_refresh_is_a_number_of_seconds(published, disk):
    for wrong in (-1, float("nan"), True):
        with pytest.raises(InvalidInput, match="refresh"):
            Index.open(disk, refresh=wrong)


def test_what_latebolt_logs_has_no_keys(published, s3, s3_server, caplog):
    caplog.set_level(logging.DEBUG, "latebolt")
    publish(published.path, ObjectStore(s3))
    with Index.open(s3) as reader:
        folder = reader.path.parent
    found = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert "secret-of-the-tests" not in caplog.text
    assert found and not any(b"secret-of-the-tests" in content for content in found)
