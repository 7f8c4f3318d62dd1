"""What becomes of a question when shards are late, fail, or refuse: no wait beyond the deadline."""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from shard_corpora import POOL

from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import (
    IndexCorrupt,
    IndexLocked,
    IndexUnusable,
    InvalidInput,
    ShardUnavailable,
    StorageFull,
)
from latebolt.sharding import ShardedIndex, split
from latebolt.sharding import gather as gathering
from latebolt.sharding.local import LocalShard
from latebolt.sharding.placement import shard_of
from latebolt.sharding.protocol import ChangeRequest

N = 3
IDS = [f"d{i}" for i in range(30)]
SOON = 1.5  # seconds in which shards answer on a busy machine, too, once kernels are compiled


class Between:
    """A shard that does what a test says before it answers."""

    def __init__(self, shard: LocalShard) -> None:
        self.shard = shard
        self.before: dict[str, Any] = {}
        self.calls: list[str] = []

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        self.calls.append(method)
        happens = self.before.get(method)
        if isinstance(happens, BaseException):
            failed: Future[Any] = Future()
            failed.set_exception(happens)
            return failed
        if happens is not None and (given := happens()) is not None:
            return given
        return self.shard.call(method, *arguments)

    def close(self) -> None:
        self.shard.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    index = Index.create(tmp_path / "i", None, dim=8)
    vectors = TokenVectors.from_matrices([POOL[[i % 5]] for i in range(len(IDS))])
    index.add_vectors(IDS, vectors, [f"word{i % 3}" for i in range(len(IDS))], [{"n": i} for i in range(30)])
    split(tmp_path / "i", tmp_path / "s", N)
    return tmp_path / "s"


@pytest.fixture
def shards(folder: Path) -> Iterator[list[Between]]:
    made = [Between(LocalShard(folder / f"shard-{i}")) for i in range(N)]
    yield made
    for each in made:
        each.close()


def warm(index: ShardedIndex) -> None:
    """Search once, for as long as it takes."""
    index.asked(None, False).search_vectors(POOL[:1])


def test_a_late_shard_is_not_waited_for(shards):
    index = ShardedIndex(shards, name="set", deadline=SOON)
    warm(index)
    never: Future[Any] = Future()
    shards[1].before["search"] = lambda: never
    started = time.monotonic()
    with pytest.raises(
        ShardUnavailable, match=r"set: 1 of its shards .*shard 1: no answer in time"
    ) as raised:
        index.search_vectors(POOL[:1])
    assert time.monotonic() - started < 20 and raised.value.missing == {1: "no answer in time"}
    assert never.cancelled()
    assert pickle.loads(pickle.dumps(raised.value)).missing == raised.value.missing


def test_one_deadline_holds_for_all_shards_and_rounds(shards):
    """Three late shards do not take three times as long."""
    asked: list[float] = []

    class Late(Future):
        def result(self, timeout: float | None = None) -> Any:
            asked.append(timeout)
            time.sleep(timeout)
            raise TimeoutError

    index = ShardedIndex(shards, deadline=0.5)
    for each in shards:
        each.before["search"] = Late
    with pytest.raises(ShardUnavailable):
        index.search_vectors(POOL[:1], where="n > 3")
    assert len(asked) == 3 and asked[0] <= 0.5 and asked[1:] == [0, 0]


class Clock:
    """In place of the module `time`: it goes by what is waited for, and by nothing else."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Timed:
    """A shard each of whose answers takes half a second, or as long as a test says."""

    def __init__(self, shard: LocalShard, clock: Clock) -> None:
        self.shard, self.close, self._clock = shard, shard.close, clock
        self.takes: dict[str, float] = {}
        self.before: dict[str, Any] = {}  # done once, and then the method is called

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        if method in self.before:
            self.before.pop(method)()
        ready = self._clock.now + self.takes.get(method, 0.5)
        answer, clock = self.shard.call(method, *arguments), self._clock

        class Taking(Future):
            def result(self, timeout: float | None = None) -> Any:
                assert timeout is not None
                in_time = ready <= clock.now + timeout
                clock.now = max(clock.now, ready if in_time else clock.now + timeout)
                if not in_time:
                    raise TimeoutError
                return answer.result(60)

        return Taking()


def timed(encoder: Encoder, folder: Path, clock: Clock) -> list[Timed]:
    """The shards of an index of texts."""
    with Index.create(folder / "i", encoder) as made:
        made.add([f"word{i % 3}" for i in range(len(IDS))], IDS, [{"n": i} for i in range(30)])
    split(folder / "i", folder / "s", N)
    return [Timed(LocalShard(folder / "s" / f"shard-{i}", lambda: encoder), clock) for i in range(N)]


@pytest.mark.parametrize("hangs", ["state", "count", "search"])
@pytest.mark.parametrize("mode", ["late", "bm25", "hybrid"])
@pytest.mark.parametrize("explain", [False, True])
def test_a_shard_that_hangs_leaves_the_others_time_to_answer(
    encoder, tmp_path, monkeypatch, hangs, mode, explain
):
    """Whatever it hangs at: of the rounds of one search, none takes the time of those that follow."""
    clock = Clock()
    monkeypatch.setattr(gathering, "time", clock)
    shards = timed(encoder, tmp_path, clock)
    shards[1].takes[hangs] = math.inf
    index = ShardedIndex(shards, lambda: encoder, deadline=8.0, partial=True)
    assert (clock.now >= 8) == (hangs == "state")
    clock.now = 0
    found = index.search("word1", k=30, mode=mode, where="n >= 0", explain=explain)
    hits = found.hits if explain else found
    assert hits and hits.missing == {1: "no answer in time"} and clock.now <= 8
    assert {shard_of(hit.id, N) for hit in hits} == {0, 2}
    index.close()


@pytest.mark.parametrize("mode", ["late", "bm25", "hybrid"])
def test_a_commit_meanwhile_does_not_lose_the_answers_beside_a_shard_that_hangs(
    encoder, tmp_path, monkeypatch, mode
):
    """The search would be done again, for which the shard that hung has left no time."""
    clock = Clock()
    monkeypatch.setattr(gathering, "time", clock)
    shards = timed(encoder, tmp_path, clock)
    index = ShardedIndex(shards, lambda: encoder, deadline=8.0, partial=True)
    shards[1].takes["search"] = math.inf
    gone = next(id for id in IDS if shard_of(id, N) == 0)
    shards[0].before["search"] = lambda: shards[0].shard.service.delete(ChangeRequest([gone]))
    found = index.search("word1", k=30, mode=mode)
    assert found and found.missing == {1: "no answer in time"} and clock.now <= 16
    assert gone not in {hit.id for hit in found}
    index.close()


@pytest.mark.parametrize("broken", ["search", "count"])
def test_partial_answers_say_what_is_missing(shards, broken):
    index = ShardedIndex(shards, deadline=5.0, partial=True)
    shards[2].before[broken] = OSError("the cable is out")
    hits = index.search("word1", k=30, mode="bm25")
    assert hits.missing == {2: "OSError: the cable is out"}
    assert hits and {shard_of(hit.id, N) for hit in hits} == {0, 1}
    # A shard that is out is not asked again in the same search.
    assert broken != "count" or "search" not in shards[2].calls
    del shards[2].before[broken]
    assert index.search("word1", k=30, mode="bm25").missing == {}


def test_the_same_index_is_asked_in_another_way(shards):
    index = ShardedIndex(shards, deadline=5.0)
    asked = [list(each.calls) for each in shards]
    some = index.asked(SOON, True)
    assert [each.calls for each in shards] == asked, "what is known of the shards is not asked again"
    warm(index)
    shards[1].before["search"] = lambda: Future()  # never done
    with pytest.raises(ShardUnavailable, match="no answer in time"):
        index.asked(SOON, False).search_vectors(POOL[:1])
    assert some.search_vectors(POOL[:1]).missing == {1: "no answer in time"}


def test_a_shard_that_was_not_there_at_first_is_looked_at_when_it_comes(shards):
    """And waited for once in a search, not twice."""
    shards[1].before["state"] = OSError("gone")
    index = ShardedIndex(shards, deadline=5.0, partial=True)
    assert index.search_vectors(POOL[:1]).missing == {1: "OSError: gone"}
    assert "search" not in shards[1].calls
    del shards[1].before["state"]
    other = shards[1].shard
    shards[1].shard = shards[0].shard  # another one in its place
    with pytest.raises(IndexCorrupt, match="shard-1"):
        index.search_vectors(POOL[:1])
    shards[1].shard = other
    assert index.search_vectors(POOL[:1]).missing == {} and index.asked(5.0, False).search_vectors(POOL[:1])
    states = shards[1].calls.count("state")
    index.search_vectors(POOL[:1])
    assert shards[1].calls.count("state") == states, "and not each time"


def test_no_answer_at_all_is_no_partial_answer(shards):
    index = ShardedIndex(shards, deadline=5.0, partial=True)
    for each in shards:
        each.before["search"] = OSError("gone")
    with pytest.raises(ShardUnavailable, match="3 of its shards"):
        index.search_vectors(POOL[:1])


def test_what_the_caller_did_wrong_is_no_shards_fault(shards):
    index = ShardedIndex(shards, partial=True)
    with pytest.raises(InvalidInput, match=r'no document has the field "m"|where'):
        index.search_vectors(POOL[:1], where="n >")
    with pytest.raises(InvalidInput, match=r"dim|8"):
        index.search_vectors(POOL[:1, :4])


def test_documents_by_id_are_never_silently_missing(shards):
    index = ShardedIndex(shards, partial=True)
    shards[shard_of("d0", N)].before["get"] = OSError("gone")
    with pytest.raises(ShardUnavailable):
        index.get(["d0"])
    others = [id for id in IDS if shard_of(id, N) != shard_of("d0", N)]
    assert [each.id for each in index.get(others)] == others


def test_a_commit_between_the_rounds_is_noticed(shards):
    """The second round would be answered with the counts of before; the search is done again."""
    index = ShardedIndex(shards)
    other = ShardedIndex([each.shard for each in shards])
    added = threading.Event()

    def add_once() -> None:
        if not added.is_set():
            added.set()
            gone = [id for id in IDS if int(id[1:]) % 3 == 1][:9]
            other.delete(gone)

    for each in shards:
        each.before["search"] = add_once
    hits = index.search("word1", k=30, mode="bm25")
    assert len(hits) == 1 and hits == other.search("word1", k=30, mode="bm25")


class TestChanges:
    def add(self, index: ShardedIndex, ids: list[str] | None, n: int = 12) -> list[str]:
        vectors = TokenVectors.from_matrices([POOL[[0]]] * n)
        return index.add_vectors(ids, vectors, ["new"] * n)

    def test_the_error_names_who_has_committed_and_again_is_safe(self, shards):
        index = ShardedIndex(shards, name="set")
        shards[1].before["add_vectors"] = StorageFull("the disk is full")
        new = [f"n{i}" for i in range(12)]
        with pytest.raises(ShardUnavailable, match=r"shards 0, 2 have committed.*Repeat") as raised:
            self.add(index, new)
        assert raised.value.committed == (0, 2) and set(raised.value.missing) == {1}
        there = {each.id for each in index.get(new) if each}
        assert there == {id for id in new if shard_of(id, N) != 1}
        shards[1].before.clear()
        assert self.add(index, new) == new
        assert len(index) == 42 and all(index.get(new))

    def test_numbers_are_given_again_with_the_error(self, shards):
        index = ShardedIndex(shards)
        shards[1].before["add_vectors"] = OSError("gone")
        with pytest.raises(ShardUnavailable, match="ids of this error") as raised:
            self.add(index, None)
        shards[1].before.clear()
        ids = raised.value.ids
        assert self.add(index, list(ids)) == list(ids)
        assert len(index) == 42
        assert not set(self.add(index, None)) & set(ids)

    def test_what_nobody_has_committed_is_told_as_it_is(self, shards):
        index = ShardedIndex(shards)
        for each in shards:
            each.before["add_vectors"] = StorageFull("the disk is full")
        with pytest.raises(StorageFull, match="the disk is full"):
            self.add(index, [f"n{i}" for i in range(12)])

    def test_a_lock_is_told_as_one(self, shards):
        index = ShardedIndex(shards)
        shards[0].before["delete"] = IndexLocked("held")
        with pytest.raises(IndexLocked, match="shard 0: held; shards 1, 2 have committed"):
            index.delete(IDS)
        shards[0].before.clear()
        assert index.delete(IDS) == sum(shard_of(id, N) == 0 for id in IDS)

    def test_numbers_go_on_where_the_index_was_and_are_never_given_twice(self, folder, tmp_path):
        whole = Index.create(tmp_path / "w", None, dim=8)
        given = self.add(whole, None, 3)
        whole.delete(["2"])
        split(tmp_path / "w", tmp_path / "ws", 2)
        with ShardedIndex.open(tmp_path / "ws") as index:
            assert given == ["0", "1", "2"] and self.add(index, None, 2) == ["3", "4"]
            self.add(index, ["5", "7"], 2)
            assert self.add(index, None, 3) == ["6", "8", "9"]

    def test_an_id_that_comes_twice_is_refused_before_anything_is_written(self, shards):
        index = ShardedIndex(shards)
        with pytest.raises(InvalidInput, match="'x'"):
            self.add(index, ["x", "y", "x"], 3)
        assert len(index) == 30


def test_a_closed_set_says_so(shards):
    index = ShardedIndex(shards, name="set")
    index.close()
    for ask in (lambda: index.search_vectors(POOL[:1]), lambda: len(index), lambda: index.delete(["a"])):
        with pytest.raises(IndexUnusable, match="closed"):
            ask()
    index.close()
