"""Long additions: commits of whole documents, others between them, going on after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latebolt import Encoder, Index
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.errors import IndexLocked, InvalidInput
from latebolt.file_lock import FileLock
from latebolt.index.documents.checked import CheckedDocument, check_documents
from latebolt.index.format import layout
from latebolt.index.format.lock import writer_lock
from latebolt.index.ingest import long_addition, train
from latebolt.index.ingest.long_addition import LongAddition

N = 24


class _Killed(Exception):
    pass


def documents(n: int = N, words: int = 8) -> list[CheckedDocument]:
    texts = [" ".join(f"word{i % 5}{(i * k) % 11}" for k in range(words)) for i in range(n)]
    return check_documents(n, [f"d{i}" for i in range(n)], texts, [{"n": i} for i in range(n)])


@pytest.fixture(autouse=True)
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_addition, "COMMIT_DOCUMENTS", 10)


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Iterator[Index]:
    with Index.create(tmp_path / "i", encoder) as index:
        yield index


def finish(work: LongAddition) -> list[int]:
    """Documents after each commit."""
    steps = []
    while work.encode():
        work.commit()
        steps.append(work.progress.documents)
    return steps


def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is encoded from now on."""
    seen: list[str] = []
    encode = Encoder.encode_documents

    def noted(self, texts, *rest, **more):
        seen.extend(texts)
        return encode(self, texts, *rest, **more)

    monkeypatch.setattr(Encoder, "encode_documents", noted)
    return seen


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("bits", [2, 16])
def test_it_adds_what_an_addition_adds(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, bits: int, learns: bool
):
    if learns:
        monkeypatch.setattr(train, "TRAIN_TOKENS", 1)
    given = documents()
    with Index.create(tmp_path / "a", encoder, bits) as a, Index.create(tmp_path / "b", encoder, bits) as b:
        a.add_checked(given)
        seen = encoded(monkeypatch)
        assert finish(b.long_addition(given, "x")) == [10, 20, 24]
        assert sorted(seen) == sorted(each.text or "" for each in given)  # each once
        assert b.info()["generation"] == a.info()["generation"] + 2
        ids = [each.id for each in given]
        assert a.get(ids) == b.get(ids)
        assert a.info()["centroids"] == b.info()["centroids"]  # learnt for all, and not for the first ten
        for query in ("word11 word42", "word05"):
            found, expected = b.search(query, 5), a.search(query, 5)
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            assert np.allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-5)


@pytest.mark.parametrize("late_chunking", [False, True])
def test_a_commit_is_of_whole_documents(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, late_chunking: bool
):
    monkeypatch.setattr(long_addition, "COMMIT_CHARACTERS", 400)
    monkeypatch.setattr(long_addition, "_AHEAD_CHARACTERS", 500)
    monkeypatch.setattr(long_addition, "_AHEAD_ROWS", 3)
    given = documents(7, 60)
    settings = {"passage_tokens": 12, "late_chunking": late_chunking}
    with (
        Index.create(tmp_path / "a", encoder, **settings) as a,
        Index.create(tmp_path / "b", encoder, **settings) as b,
    ):
        a.add_checked(given)
        work, steps = b.long_addition(given, "x"), []
        while work.encode():
            work.commit()
            steps.append(work.progress.documents)
            ids = [each.id for each in given[: steps[-1]]]
            assert b.get(ids) == a.get(ids) and len(b) == len(ids)
        assert len(steps) > 2 and steps[-1] == 7
        assert a.info()["passages"] == b.info()["passages"] > 7


def test_the_index_is_not_held_between_commits(index: Index):
    work = index.long_addition(documents(), "x")
    others = []
    while work.encode():
        with writer_lock(index.path):  # another writer has its turn
            pass
        others += index.add(["something else"], [f"other{len(others)}"])
        work.commit()
    assert len(index) == N + len(others)


def test_nor_while_its_codec_is_learnt(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "TRAIN_TOKENS", 50)
    learn, times = ResidualCodec.train, []

    def noted(*arguments: Any, **named: Any) -> ResidualCodec:
        with writer_lock(index.path):  # refused to a thread that holds the index
            times.append(1)
        return learn(*arguments, **named)

    index.add_vectors(["old"], [np.eye(128, dtype=np.float32)[:3]])  # waits for its codec
    monkeypatch.setattr(ResidualCodec, "train", noted)
    finish(index.long_addition(documents(), "x"))
    assert times == [1] and index.info()["centroids"] and len(index) == N + 1


def test_a_codec_that_another_has_learnt_meanwhile_stays(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "TRAIN_TOKENS", 1)
    work = index.long_addition(documents(), "x")
    assert work.encode()
    index.add(["one two three", "four five six seven"], ["a", "b"])
    centroids = index.info()["centroids"]
    work.commit()
    assert index.info()["centroids"] >= centroids > 0  # its own are at most appended
    assert finish(work) == [20, 24] and len(index) == N + 2


def test_a_commit_that_finds_another_writer_may_come_again(index: Index):
    work = index.long_addition(documents(), "x")
    assert work.encode()
    other = FileLock(index.path / layout.LOCK)  # as another process holds it
    assert other.acquire()
    with pytest.raises(IndexLocked):
        work.commit()
    other.release()
    work.commit()
    assert finish(work) == [20, 24] and len(index) == N


@pytest.mark.parametrize("at", ["encode", "commit"])
def test_it_goes_on_behind_its_last_commit(index: Index, monkeypatch: pytest.MonkeyPatch, at: str):
    given = documents()
    work = index.long_addition(given, "x")
    assert work.encode()
    work.commit()

    def kill() -> None:
        raise _Killed

    if at == "commit":
        assert work.encode()
    with pytest.raises(_Killed):
        getattr(work, at)(kill)
    assert len(index) == 10
    index.add(["of somebody else"], ["d3"])  # a later addition of one that is committed
    seen = encoded(monkeypatch)
    again = index.long_addition(given, "x")
    assert again.progress.documents == 10
    assert finish(again) == [20, 24]
    assert sorted(seen) == sorted(each.text or "" for each in given[10:])
    [found] = index.get(["d3"])
    assert len(index) == N and found is not None and found[1] == "of somebody else"
    assert not index.long_addition(given, "x").encode()
    assert index.long_addition(given, "another").progress.documents == 0


def test_texts_that_are_not_read_to_their_end_are_counted_over_an_interruption(index: Index):
    given = check_documents(12, [str(i) for i in range(12)], ["many words " * 800] * 12, None)
    work = index.long_addition(given, "x")
    assert work.encode()
    work.commit()
    again = index.long_addition(given, "x")
    finish(again)
    assert (work.progress.truncated, again.progress.truncated) == (10, 12)
    assert index.info()["truncated"] == 12


def test_an_id_that_comes_twice_is_refused_before_anything_is_committed(index: Index):
    twice = [*documents(), documents(1)[0]]
    with pytest.raises(InvalidInput, match=r"ids\[24\] is 'd0', and so is ids\[0\]"):
        index.long_addition(twice, "x")
    assert finish(index.long_addition([], "y")) == [] and len(index) == 0


@pytest.mark.parametrize("learnt", [False, True])
def test_it_can_be_given_up_every_few_texts_while_it_samples_too(
    index: Index, monkeypatch: pytest.MonkeyPatch, learnt: bool
):
    """A sample may be all of a long addition: whoever waits, for its end or for the encoder, has a turn."""
    if learnt:
        monkeypatch.setattr(train, "TRAIN_TOKENS", 100)
        index.add([" ".join(f"other{i}{k}" for k in range(8)) for i in range(40)])
        assert index.info()["centroids"]
    monkeypatch.setattr(long_addition, "_AHEAD_ROWS", 3)
    seen, steps = encoded(monkeypatch), [0]

    def wanted() -> None:
        steps.append(len(seen))
        if len(steps) > 3:
            raise _Killed

    with pytest.raises(_Killed):
        index.long_addition(documents(200), "a").encode(wanted)
    assert max(np.diff(steps)) == 3 and len(seen) < 10
