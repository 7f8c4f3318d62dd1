"""Publishing: what is there afterwards, what is sent again, what is refused, and every way that it may
fail."""

from __future__ import annotations

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from object_places import Broken, add, answers, index_with, store_of

from latebolt import Index
from latebolt.errors import (
    IndexCorrupt,
    IndexNotFound,
    InvalidInput,
    ObjectStoreError,
    PublishConflict,
    RuntimeUnavailable,
)
from latebolt.index.format import layout
from latebolt.index.places import masked
from latebolt.objects import drivers
from latebolt.objects.checking import check_published
from latebolt.objects.drivers import driver_of
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.publish import publish
from latebolt.objects.shard_sets import publish_set
from latebolt.sharding.splitting import split


def test_a_published_index_answers_as_the_one_it_was_published_from(tmp_path, uri):
    index = index_with(tmp_path / "index")
    (index.path / "files.json").write_text("{}")
    done = publish(index.path, ObjectStore(uri))
    assert done.new and done.number == 1 and done.uploaded == done.files == 7
    assert done.bytes == index.info()["bytes"] + 2 and check_published(ObjectStore(uri)) == []
    with Index.open(uri) as opened:
        assert answers(opened) == answers(index) and opened.info()["path"] == uri
        assert (opened.path / layout.MANIFEST).read_bytes() == (index.path / layout.MANIFEST).read_bytes()
        assert (opened.path / "files.json").read_text() == "{}"
        assert opened.get(["0-1"]) == index.get(["0-1"])
        opened.backup(tmp_path / "pulled")
    with Index.open(tmp_path / "pulled") as pulled:
        add(pulled, 1, 7)  # and goes on as an index that is written to


def test_publishing_again_sends_what_is_new(tmp_path, uri):
    index = index_with(tmp_path / "index")
    store = ObjectStore(uri)
    first = publish(index.path, store)
    again = publish(index.path, store)
    assert (again.new, again.number, again.uploaded) == (False, 1, 0)
    add(index, 2, 5)
    foretold = publish(index.path, store, dry_run=True)
    assert foretold.new and store.newest_number() == 1
    more = publish(index.path, store)
    assert more == foretold and more.number == 2 and 0 < more.uploaded == more.files - first.files
    anew = publish(index.path, store, again=True)
    assert (anew.number, anew.uploaded) == (3, anew.files)


def test_files_that_are_sent_in_parts(tmp_path, s3, monkeypatch):
    monkeypatch.setattr(drivers, "PART_BYTES", 5 << 20)
    index = Index.create(tmp_path / "index", None, dim=8, bits=16)
    import numpy as np

    index.add_vectors(["large"], [np.eye(8, dtype=np.float32)[np.zeros(1_000_000, np.int64)]])
    publish(index.path, ObjectStore(s3))
    with Index.open(s3) as opened:
        query = np.eye(8, dtype=np.float32)[:1]
        assert opened.search_vectors(query) == index.search_vectors(query)
        assert opened.info()["bytes"] > 16_000_000


def test_a_damaged_object_is_told_and_sent_again(tmp_path, disk):
    index = index_with(tmp_path / "index")
    store = ObjectStore(disk)
    publish(index.path, store)
    objects = sorted((tmp_path / "published here" / "notes" / "files").iterdir())
    objects[0].write_bytes(objects[0].read_bytes()[:-1])
    objects[1].write_bytes(bytes(objects[1].stat().st_size))
    objects[2].unlink()
    told = check_published(store)
    assert [problem.field for problem in sorted(told, key=str)] == ["size", "digest", "existence"]
    with pytest.raises(IndexCorrupt):
        Index.open(disk)
    assert publish(index.path, store).uploaded == 2  # by size
    assert [problem.field for problem in check_published(store)] == ["digest"]
    publish(index.path, store, again=True)
    assert check_published(store) == [] and answers(Index.open(disk)) == answers(index)


def test_what_is_damaged_here_is_not_published(tmp_path, disk):
    index = index_with(tmp_path / "index")
    path = next((index.path / "segments").rglob("offsets.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IndexCorrupt, match="digest"):
        publish(index.path, store_of(disk))
    path.unlink()
    with pytest.raises(IndexCorrupt, match="existence"):
        publish(index.path, store_of(disk))
    with pytest.raises(IndexNotFound):
        Index.open(disk)
    with pytest.raises(IndexNotFound):
        publish(tmp_path, store_of(disk))


def test_another_index_takes_the_place_only_where_that_is_said(tmp_path, disk):
    index = index_with(tmp_path / "index")
    index.backup(tmp_path / "earlier")
    add(index, 1, 7)
    publish(index.path, ObjectStore(disk))
    opened = Index.open(disk)
    other = index_with(tmp_path / "other", 20, 50)
    for _ in range(3):
        add(other, 1, 8)
    for path in (tmp_path / "earlier", other.path):
        with pytest.raises(PublishConflict, match="another index"):
            publish(path, ObjectStore(disk))
    with Index.open(tmp_path / "earlier") as branch:  # which goes its own way
        add(branch, 1, 60)
        add(branch, 1, 61)
    with pytest.raises(PublishConflict, match="another"):
        publish(tmp_path / "earlier", ObjectStore(disk))
    assert answers(opened) == answers(index)
    publish(other.path, ObjectStore(disk), replace=True)
    before = opened.path
    assert opened.refresh() and opened.path != before and answers(opened) == answers(other)


def test_files_that_newer_commits_remove_while_they_are_published(tmp_path, disk):
    index = index_with(tmp_path / "index")
    driver = Broken(driver_of(disk))

    def compact(operation: str, name: str) -> None:
        if operation == "upload" and not done:
            done.append(name)
            index.delete(["0-1"])
            index.compact()

    done: list[str] = []
    driver.before = compact
    publish(index.path, store_of(disk, driver))
    assert done and answers(Index.open(disk)) == answers(index)


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
def test_one_failure_of_any_operation_is_got_over(tmp_path, disk, after):
    index = index_with(tmp_path / "index")
    counting = Broken(driver_of(disk + "-count"))
    publish(index.path, store_of(disk + "-count", counting))
    for when in range(counting.n):
        place = f"{disk}-{when}"
        publish(index.path, store_of(place, Broken(driver_of(place), when, once=True, after=after)))
        store = ObjectStore(place)
        assert list(store.commit_numbers()) == [1] and check_published(store) == []


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
def test_a_publication_that_ends_anywhere_leaves_the_last_commit(tmp_path, disk, after):
    index = index_with(tmp_path / "index")
    publish(index.path, ObjectStore(disk))
    before = answers(index)
    add(index, 2, 5)
    counting = Broken(driver_of(disk))
    root = tmp_path / "published here" / "notes"
    shutil.copytree(root, tmp_path / "kept")
    publish(index.path, store_of(disk, counting))
    n = counting.n
    for when in range(n):
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root)
        try:
            publish(index.path, store_of(disk, Broken(driver_of(disk), when, after=after)))
            may_be = [answers(index)]  # its last answer was lost, and what it did was found again
        except ObjectStoreError as error:
            assert disk in str(error) and ("away" in str(error) or "no answer" in str(error))
            # Of a failure behind the commit nobody can tell, as of an answer that was lost.
            may_be = [before] if when < n - 1 and not after else [before, answers(index)]
        with Index.open(disk, cache=tmp_path / f"cache {when}") as opened:
            found = answers(opened)
        assert found in may_be
        # The next run goes on: what came through is not sent again.
        left = publish(index.path, ObjectStore(disk))
        assert left.number == 2
        with Index.open(disk, cache=tmp_path / f"cache {when}") as opened:
            assert answers(opened) == answers(index)


def test_what_was_sent_before_a_crash_is_not_sent_again(tmp_path, uri):
    index = index_with(tmp_path / "index")
    driver = Broken(driver_of(uri))

    def crash(operation: str, name: str) -> None:
        if name.startswith("commits/") and operation == "create":
            raise KeyboardInterrupt

    driver.before = crash
    with pytest.raises(KeyboardInterrupt):
        publish(index.path, store_of(uri, driver))
    with pytest.raises(IndexNotFound):
        Index.open(uri)
    assert publish(index.path, ObjectStore(uri)).uploaded == 0
    assert answers(Index.open(uri)) == answers(index)


def test_of_two_publishers_one_is_told(tmp_path, uri):
    """Both have looked before either commits."""
    ours, theirs = index_with(tmp_path / "ours"), index_with(tmp_path / "theirs", 10, 70)
    ready = threading.Barrier(2)
    one_at_a_time = threading.Lock()  # moto looks and writes in two steps, where a store does in one

    def run(index: Index) -> object:
        driver = Broken(driver_of(uri))
        create = driver.create

        def wait(name: str, content: bytes) -> None:
            if name.startswith("commits/"):
                ready.wait(60)
            with one_at_a_time:
                create(name, content)

        driver.create = wait
        try:
            return publish(index.path, store_of(uri, driver))
        except PublishConflict as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        found = dict(zip(("ours", "theirs"), threads.map(run, (ours, theirs)), strict=True))
    won = [name for name, done in found.items() if not isinstance(done, PublishConflict)]
    assert len(won) == 1, found
    with Index.open(uri) as opened:
        assert answers(opened) == answers(ours if won == ["ours"] else theirs)
    store = ObjectStore(uri)
    assert list(store.commit_numbers()) == [1] and check_published(store) == []


def test_two_who_publish_the_same_agree(tmp_path, disk):
    index = index_with(tmp_path / "index")
    driver = Broken(driver_of(disk))

    def overtake(operation: str, name: str) -> None:
        if operation == "create" and name.startswith("commits/"):
            driver.before = lambda operation, name: None
            publish(index.path, ObjectStore(disk))

    driver.before = overtake
    done = publish(index.path, store_of(disk, driver))
    assert (done.new, done.number) == (False, 1)


class Careless(Broken):
    """A store that pays no heed to conditions."""

    def create(self, name: str, content: bytes) -> None:
        self.write(name, content)


def test_a_store_without_conditions_is_told(tmp_path, disk, uri, caplog):
    index = index_with(tmp_path / "index")
    publish(index.path, ObjectStore(uri))
    publish(index.path, ObjectStore(uri))
    assert not caplog.records
    publish(index.path, store_of(disk + "-careless", Careless(driver_of(disk + "-careless"))))
    assert "no conditional put" in caplog.text


def test_a_set_of_shards(tmp_path, uri):
    index = index_with(tmp_path / "index")
    split(index.path, tmp_path / "set", 2)
    assert [done.number for done in publish_set(tmp_path / "set", uri)] == [1, 1]
    assert [done.new for done in publish_set(tmp_path / "set", uri)] == [False, False]
    for n in range(2):
        assert answers(Index.open(f"{uri}/shard-{n}")) == answers(Index.open(tmp_path / "set" / f"shard-{n}"))
    assert ObjectStore(uri).read("shards.json", 0, 1000) == (tmp_path / "set" / "shards.json").read_bytes()
    with pytest.raises(IndexNotFound, match=r"set of shards.*/shard-0"):
        Index.open(uri)
    split(index.path, tmp_path / "three", 3)
    with pytest.raises(ObjectStoreError, match="another shard set"):
        publish_set(tmp_path / "three", uri)


@pytest.mark.parametrize(
    "wrong",
    [
        "s3://",
        "s3://bucket/../other",
        "s3://bucket//double",
        "s3://bucket/a?versionId=3",
        "s3://key:hidden@bucket/name",
        "gs://key:hidden@bucket/name",
        "simplecache::s3://bucket/name",
        "file://relative/name",
        "file:///",
        "no-such-thing://place/name",
    ],
)
def test_uris_that_name_no_place(tmp_path, wrong):
    pytest.importorskip("fsspec")
    with pytest.raises(InvalidInput) as told:
        Index.open(wrong)
    assert "hidden" not in str(told.value) and masked(wrong)[:9] in str(told.value)
    with pytest.raises(InvalidInput):
        Index.create(wrong, None, dim=8)


@pytest.mark.parametrize("missing", ["fsspec", "s3fs", "tenacity"])
def test_what_is_not_installed_is_named(missing, monkeypatch):
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'latebolt\[(s3|objects)\]'"):
        Index.open("s3://bucket/name")


def test_passwords_are_in_no_message(tmp_path):
    hidden = "sftp://somebody:pass%40word@host.example/notes"
    assert masked(hidden) == "sftp://***@host.example/notes"
    assert "sig=" not in masked("cannot read abfs://box@host/x?sig=abc&x=1 now")

    class Telling(Broken):
        def listed(self, folder: str) -> list:
            raise PermissionError(f"no entry to {hidden}")

    with pytest.raises(ObjectStoreError) as told:
        store_of(hidden, Telling(driver_of((tmp_path / "x").as_uri()))).newest()
    assert "word" not in str(told.value) and "host.example" in str(told.value)


def test_a_bucket_that_is_not_there_and_keys_that_are_wrong(tmp_path, s3_server):
    index = index_with(tmp_path / "index")
    with pytest.raises(ObjectStoreError, match="there is no such place"):
        publish(index.path, store_of("s3://no-such-bucket/name"))
    with pytest.raises(IndexNotFound):
        Index.open("s3://no-such-bucket/name")


def test_files_whose_names_not_every_system_has_stay_here(tmp_path, disk, caplog):
    index = index_with(tmp_path / "index")
    (index.path / "with space.txt").write_text("x")
    publish(index.path, ObjectStore(disk))
    assert "with space.txt" in caplog.text and not (Path(Index.open(disk).path) / "with space.txt").exists()
