"""Removing what is old: what goes, what stays, and that nothing is missing whoever works there meanwhile."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import pytest
from object_places import Broken, add, answers, index_with, store_of

from latebolt import Index
from latebolt.errors import IndexCorrupt, IndexNotFound, InvalidInput, LateboltError, ObjectStoreError
from latebolt.objects import commits
from latebolt.objects.checking import check_published
from latebolt.objects.drivers import driver_of
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.prune import prune
from latebolt.objects.publish import publish


def later() -> float:
    """When all that is there now is old: from the moment of asking on, which a busy machine may put off."""
    return time.time() + 1000


def objects(store: ObjectStore) -> set[str]:
    return {f"{commits.FILES}/{each.name}" for each in store.listed(commits.FILES)}


def history(path, uri: str, n: int = 4) -> Index:
    """An index of which n commits are published; each drops a segment of the one before."""
    index = index_with(path)
    for number in range(n):
        add(index, 5, 20 + number)
        index.delete([f"{19 + number}-{each}" for each in range(5)])
        index.compact()
        publish(index.path, ObjectStore(uri))
    return index


def leave_objects(index: Index, uri: str) -> None:
    """A publication that ends before its commit, the second: no commit names its objects, which are there."""
    driver = Broken(driver_of(uri))

    def crash(operation: str, name: str) -> None:
        if operation == "create" and name == commits.commit_name(2):
            raise KeyboardInterrupt

    driver.before = crash
    with pytest.raises(KeyboardInterrupt):
        publish(index.path, store_of(uri, driver))


def test_what_goes_and_what_stays(tmp_path, uri):
    index, store = history(tmp_path / "index", uri), ObjectStore(uri)
    before = objects(store)
    assert list(store.commit_numbers()) == [1, 2, 3, 4]
    young = prune(store, 2)
    assert (young.kept, young.commits, young.objects) == ([3, 4], 2, 0) and young.young > 0
    foretold = prune(store, 1, 0, dry_run=True, now=later)
    assert objects(store) == before
    done = prune(store, 1, 0, now=later)
    assert (done.commits, done.objects, done.bytes) == (foretold.commits, foretold.objects, foretold.bytes)
    assert done.kept == [5] == list(store.commit_numbers()) and done.young == 0
    newest = store.newest()
    assert objects(store) == newest.object_names and check_published(store) == []
    assert answers(Index.open(uri)) == answers(index)
    nothing = prune(store, 1, 0, now=later)
    assert (nothing.kept, nothing.commits, nothing.objects) == ([5], 0, 0)
    add(index, 1, 77)
    assert publish(index.path, store).number == 6 and answers(Index.open(uri)) == answers(index)


def test_foreign_files_stay(tmp_path, disk):
    history(tmp_path / "index", disk)
    root = tmp_path / "published here" / "notes"
    kept = [root / "files" / "notes.txt", root / "commits" / "README", root / "files" / ("0" * 32)]
    for path in kept:
        path.write_text("of somebody else")
    prune(ObjectStore(disk), 1, 0, now=later)
    assert all(path.exists() for path in kept)


def test_it_is_refused(tmp_path, disk):
    with pytest.raises(IndexNotFound):
        prune(ObjectStore(disk))
    history(tmp_path / "index", disk, 2)
    store = ObjectStore(disk)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InvalidInput, match="keep"):
            prune(store, wrong)
    before = objects(store)
    path = tmp_path / "published here" / "notes" / commits.commit_name(2)
    path.write_bytes(path.read_bytes().replace(b"latebolt-commit", b"latebolt-commot"))
    with pytest.raises(IndexCorrupt):  # what a damaged commit needs, nobody knows
        prune(store, 1, 0, now=later)
    assert objects(store) == before


def test_a_removal_that_ends_anywhere_is_finished_by_the_next(tmp_path, disk):
    for when in range(12):
        place = f"{disk}-{when}"
        index, store = history(tmp_path / f"index-{when}", place, 2), ObjectStore(place)
        with contextlib.suppress(ObjectStoreError):
            prune(store_of(place, Broken(driver_of(place), when)), 1, 0, now=later)
        assert check_published(store) == [] and answers(Index.open(place)) == answers(index)
        prune(store, 1, 0, now=later)
        assert objects(store) == store.newest().object_names


def test_a_publisher_who_relies_on_what_is_being_removed_looks_again(tmp_path, disk):
    """It has seen an old object that it can use; before it commits, that object goes."""
    index = index_with(tmp_path / "index")
    index.backup(tmp_path / "same")
    publish(index.path, ObjectStore(disk))
    add(index, 4, 30)
    leave_objects(index, disk)
    driver = Broken(driver_of(disk))
    pruned = []

    def remove(operation: str, name: str) -> None:
        if operation == "create" and name == commits.commit_name(2) and not pruned:
            pruned.append(prune(ObjectStore(disk), 1, 0, now=later))

    driver.before = remove
    done = publish(index.path, store_of(disk, driver))
    assert pruned[0].objects > 0 and done.number == 3 and done.uploaded == pruned[0].objects
    assert check_published(ObjectStore(disk)) == [] and answers(Index.open(disk)) == answers(index)


def test_nobody_relies_on_what_is_about_to_go(tmp_path, disk):
    """A publisher finds old objects that it could use, of which a removal under way will take the last."""
    index = index_with(tmp_path / "index")
    publish(index.path, ObjectStore(disk))
    add(index, 4, 30)
    leave_objects(index, disk)
    left = objects(ObjectStore(disk)) - ObjectStore(disk).newest().object_names
    driver, done = Broken(driver_of(disk)), []

    def overtake(operation: str, name: str) -> None:
        if operation == "remove" and name.startswith(commits.FILES) and not done:
            done.append(None)
            done.append(publish(index.path, ObjectStore(disk)))

    driver.before = overtake
    assert prune(store_of(disk, driver), 1, 0, now=later).objects == len(left) > 1
    assert done[1].uploaded == len(left)
    assert check_published(ObjectStore(disk)) == [] and answers(Index.open(disk)) == answers(index)


@pytest.mark.parametrize("who", ["publisher", "pruner"])
def test_a_number_that_is_free_again_is_nobodys(tmp_path, disk, who):
    """Two removals since we looked: the number that we wanted was taken, and has gone."""
    index, store = history(tmp_path / "index", disk, 2), ObjectStore(disk)
    expected = answers(index)
    driver, stray = Broken(driver_of(disk)), tmp_path / "published here" / "notes" / "files" / f"{'0' * 32}-"
    done = []

    def overtake(operation: str, name: str) -> None:
        if operation == "create" and name == commits.commit_name(3) and not done:
            done.append(prune(store, 1, 0, now=later).kept)
            stray.with_name(f"{'0' * 32}-{'0' * 12}").write_bytes(b"stray")
            done.append(prune(store, 1, 0, now=later).kept)

    driver.before = overtake
    if who == "publisher":
        add(index, 4, 30)
        publish(index.path, store_of(disk, driver))
        expected = answers(index)
    else:
        prune(store_of(disk, driver), 1, 0, now=later)
    assert done == [[3], [4]] and 3 not in store.commit_numbers()
    assert check_published(store) == [] and answers(Index.open(disk)) == expected


def test_a_reader_of_a_commit_that_goes_takes_the_newest(tmp_path, disk):
    index = history(tmp_path / "index", disk, 1)
    driver = Broken(driver_of(disk))
    done = []

    def overtake(operation: str, name: str) -> None:
        if operation == "read" and name.startswith(commits.FILES) and not done:
            done.append(name)
            index.delete(["20-0"])
            index.compact()
            publish(index.path, ObjectStore(disk))
            prune(ObjectStore(disk), 1, 0, now=later)

    driver.before = overtake
    from latebolt.objects.local_copy import LocalCopy

    copy = LocalCopy.of(disk, None)
    head = copy.follow(store_of(disk, driver))
    assert done and head is not None and answers(Index.open(copy.path_of(head))) == answers(index)


def test_publisher_pruner_and_reader_at_once(tmp_path, uri):
    """Whatever order they come in, every commit that is there is whole."""
    index, store = index_with(tmp_path / "index"), ObjectStore(uri)
    publish(index.path, store)
    over, failures = threading.Event(), []

    def again_and_again(work) -> None:
        try:
            while not over.is_set():
                work()
        except LateboltError as error:
            failures.append(error)

    def check() -> None:
        assert check_published(ObjectStore(uri)) == []

    others = [
        threading.Thread(target=again_and_again, args=(work,))
        for work in (lambda: prune(ObjectStore(uri), 1, 0, now=later), check)
    ]
    for each in others:
        each.start()
    choose = random.Random(5)
    try:
        for number in range(8):
            add(index, choose.randrange(1, 4), 100 + number)
            if choose.random() < 0.5:
                index.delete([f"{99 + number}-0"])
                index.compact()
            publish(index.path, store)
    finally:
        over.set()
        for each in others:
            each.join(120)
    assert not failures and check_published(store) == []
    assert answers(Index.open(uri)) == answers(index)


def test_a_listing_that_caught_the_newest_commit_too_early_and_the_one_before_too_late_is_made_again(
    tmp_path, disk, monkeypatch
):
    publish(index_with(tmp_path / "index").path, ObjectStore(disk))
    driver = driver_of(disk)
    listed, left = driver.listed, [2]

    def missed(folder: str):
        if folder != commits.COMMITS or not left[0]:
            return listed(folder)
        left[0] -= 1
        return []

    monkeypatch.setattr(driver, "listed", missed)
    assert list(store_of(disk, driver).commit_numbers()) == [1] and left == [0]
    with pytest.raises(IndexNotFound, match="no index is published there"):
        Index.open(disk + "-nothing", cache=tmp_path / "cache")
