"""`Index.sync`: an index follows a list, encodes only what is new, and is whole whatever interrupts it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_faults import fault_at, state_of

from latebolt import Encoder, Index
from latebolt.checks import CheckedTexts
from latebolt.errors import InvalidInput
from latebolt.index.documents.origins import origins_of, whole_text
from latebolt.index.ingest import addition, train
from latebolt.index.ingest.sync import SyncCounts
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

WORDS = ["bread", "Zürich", "cat", "\U0001f980", "9.5", "naïve", "ledger", "of", "the", "rain"]
LONG = " ".join(f"Sentence {i} of a long text.\n" for i in range(40))


class Counting:
    """An encoder's `encode_documents` that remembers what it was given, and what came of it: a test that does
    the same hundreds of times encodes once."""

    def __init__(self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        known: dict[Any, Any] = {}
        encode = Encoder.encode_documents

        def counted(this: Encoder, texts: Any, *args: Any, **more: Any) -> Any:
            self.texts += list(texts)
            asked = (this.model, *texts, repr(args), repr(more))
            if asked not in known:
                known[asked] = encode(this, texts, *args, **more)
            return known[asked]

        monkeypatch.setattr(Encoder, "encode_documents", counted)

    def taken(self) -> list[str]:
        texts, self.texts = self.texts, []
        return texts


@pytest.fixture
def counting(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(encoder, monkeypatch)


def new_index(path: Path, encoder: Encoder, **more: Any) -> Index:
    return Index.create(path / "index", encoder, with_first_add=True, **{"bits": 16, **more})


def contents(index: Index) -> dict[str, tuple[str | None, Any]]:
    return {each.id: (each.text, each.metadata) for each in index.documents()}


def vectors(index: Index) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for block in index.iter_documents():
        for id, matrix in zip(block.ids, block.token_vectors(), strict=True):
            found.setdefault(id, []).append(matrix.tobytes())
    return found


def test_only_what_changed_is_encoded(tmp_path: Path, encoder: Encoder, counting: Counting) -> None:
    index = new_index(tmp_path, encoder)
    rows = [("a", "fresh bread", {"n": 1}), ("b", "a cat sleeps", None), ("c", "rain", {"n": 3})]
    assert index.sync(rows) == SyncCounts(added=3)
    assert sorted(counting.taken()) == ["a cat sleeps", "fresh bread", "rain"]
    generation = index.info()["generation"]

    assert index.sync(rows) == SyncCounts(kept=3)
    assert counting.taken() == [] and index.info()["generation"] == generation

    changed = [("a", "stale bread", {"n": 1}), ("b", "a cat sleeps", {"n": 2}), ("c2", "rain", {"n": 3})]
    assert index.sync(changed) == SyncCounts(added=1, changed=2, missing=1, reused=2)
    assert counting.taken() == ["stale bread"]
    assert index.sync(changed, prune=True) == SyncCounts(kept=3, removed=1)
    assert contents(index) == {id: (text, metadata) for id, text, metadata in changed}


def test_vectors_that_were_kept_are_those_of_encoding(tmp_path: Path, encoder: Encoder) -> None:
    index = new_index(tmp_path, encoder, passage_tokens=24)
    index.sync([("a", LONG, {"n": 1}), ("b", "short", None)])
    index.sync([("renamed", LONG, None), ("b", "short", {"n": 2})], prune=True)
    fresh = new_index(tmp_path / "fresh", encoder, passage_tokens=24)
    fresh.add(["short", LONG], ["b", "renamed"], [{"n": 2}, None])
    assert vectors(index) == vectors(fresh)
    assert index.search("sentence 31", k=1)[0].text == fresh.search("sentence 31", k=1)[0].text


@pytest.mark.parametrize("bits", [1, 4, 16])
def test_codes_of_every_kind_are_copied(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    monkeypatch.setattr(train, "TRAIN_TOKENS", 1000)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 40)) + f" {i}" for i in range(50)]
    index = new_index(tmp_path, encoder, bits=bits, passage_tokens=16)
    index.sync((f"{i}", text, None) for i, text in enumerate(texts))
    assert (index.info()["centroids"] is None) == (bits > 4)
    before = vectors(index)
    counts = index.sync(((f"new {i}", text, {"i": i}) for i, text in enumerate(texts)), prune=True)
    assert counts == SyncCounts(added=50, removed=50, reused=50)
    assert {id.removeprefix("new "): found for id, found in vectors(index).items()} == before
    assert index.search("ledger rain 17", k=3, where="i = 17")[0].id == "new 17"


@st.composite
def lists(draw: st.DrawFn) -> list[tuple[str, str, dict[str, int] | None]]:
    ids = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8))
    texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)
    metadata = st.one_of(st.none(), st.fixed_dictionaries({"n": st.integers(0, 2)}))
    return [(id, draw(texts), draw(metadata)) for id in ids]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(lists(), st.booleans(), st.booleans()), min_size=2, max_size=5))
def test_it_holds_what_a_dict_would(
    tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, runs: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("sync")
    index = new_index(folder, encoder, passage_tokens=8)
    model: dict[str, tuple[str, Any]] = {}
    for rows, prune, compact in runs:
        there = {id: model.get(id) for id, _, _ in rows}
        expected = SyncCounts(
            added=sum(before is None for before in there.values()),
            changed=sum(there[id] not in (None, (text, m)) for id, text, m in rows),
            kept=sum(there[id] == (text, m) for id, text, m in rows),
            removed=len(model.keys() - there.keys()) if prune else 0,
            missing=0 if prune else len(model.keys() - there.keys()),
        )
        dry = index.sync(rows, prune, dry_run=True)
        done = index.sync(rows, prune)
        for counts in (dry, done):
            kept = {
                name: getattr(counts, name) for name in ("added", "changed", "kept", "removed", "missing")
            }
            assert kept == {name: getattr(expected, name) for name in kept}
        if prune:
            model = {}
        model |= {id: (text, metadata) for id, text, metadata in rows}
        assert contents(index) == model
        if compact:
            index.compact()
    fresh = new_index(folder / "fresh", encoder, passage_tokens=8)
    fresh.add([text for text, _ in model.values()], list(model), [m for _, m in model.values()])
    assert vectors(index) == vectors(fresh)


OLD = [("a", "fresh bread", None), ("b", "a cat sleeps", {"n": 1}), ("c", "rain", None), ("d", LONG, None)]
NEW = [("a", "stale bread", None), ("b", "a cat sleeps", {"n": 2}), ("d2", LONG, None), ("e", "snow", None)]


def as_dict(rows: list[Any]) -> dict[str, tuple[str, Any]]:
    return {id: (text, metadata) for id, text, metadata in rows}


class Crash(BaseException):
    pass


def is_met(path: Path, met: set[str]) -> bool:
    """Whether another fault has left the same before; then a writer can begin here, too."""
    state = state_of(path)
    if state not in met:
        met.add(state)
        return False
    with Store.open(path).writer():
        return True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a __del__
@pytest.mark.parametrize("commit_every", [None, 0.0])
def test_an_interruption_at_any_file_operation_leaves_whole_documents_and_the_next_run_goes_on(
    encoder: Encoder, counting: Counting, commit_every: float | None
) -> None:
    """Of a run that adds, changes, renames and removes; half a change is never seen, nor encoded again."""

    def crash() -> None:
        raise Crash

    with quick_folder() as folder:
        new_index(folder, encoder, passage_tokens=24).sync(OLD)
        outcomes: set[bool] = set()
        met: set[str] = set()
        for n in itertools.count():
            path = folder / "fault"
            shutil.copytree(folder / "index", path)
            with fault_at(n, crash) as count, contextlib.suppress(Crash):
                Index.open(path, encoder).sync(NEW, prune=True, commit_every=commit_every)
            if count.n <= n:
                break
            if is_met(path, met):
                shutil.rmtree(path)
                continue
            again = Index.open(path, encoder)
            state = contents(again)
            for id, found in state.items():
                assert found in (as_dict(OLD).get(id), as_dict(NEW).get(id))
            if commit_every is None:
                assert state in (as_dict(OLD), as_dict(NEW))
            counting.taken()
            again.sync(NEW, prune=True)
            done = {text for id, (text, _) in state.items()}
            assert {"stale bread", "snow"} - set(counting.taken()) <= done
            assert contents(again) == as_dict(NEW) and check_index(path) == []
            outcomes.add(state == as_dict(NEW))
            shutil.rmtree(path)
        assert n > 40 and outcomes == {False, True}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_is_killed_at_any_time_leaves_an_index_that_goes_on(
    encoder: Encoder, counting: Counting
) -> None:
    with quick_folder() as folder:
        new_index(folder / "whole", encoder, passage_tokens=24).sync(OLD)
        Index.open(folder / "whole" / "index", encoder).sync(NEW)  # now every child knows what comes of it
        new_index(folder, encoder, passage_tokens=24).sync(OLD)
        for n in range(0, 10_000, 7):
            path = folder / f"{n}"
            shutil.copytree(folder / "index", path)
            child = os.fork()
            if child == 0:
                with fault_at(n, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                    Index.open(path, encoder).sync(NEW, prune=True)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            again = Index.open(path, encoder)
            assert contents(again) in (as_dict(OLD), as_dict(NEW))
            again.sync(NEW, prune=True)
            assert contents(again) == as_dict(NEW) and check_index(path) == []
            shutil.rmtree(path)
            if status == 0:
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
        assert n > 40


def test_what_is_committed_between_are_whole_documents(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = new_index(tmp_path, encoder, passage_tokens=16)

    def rows() -> Any:
        for i in range(5):
            yield f"{i}", f"text {i} " + LONG, None

    # With 0 seconds there is a commit after the first chunk that ends a document.
    monkeypatch.setattr(addition, "CHUNK_DOCUMENTS", 4)
    told: list[str] = []
    index.sync(rows(), commit_every=0.0, on_change=lambda action, id: told.append(id))
    assert told == list("01234") and index.info()["generation"] > 1
    fresh = new_index(tmp_path / "fresh", encoder, passage_tokens=16)
    fresh.sync(rows())
    assert vectors(index) == vectors(fresh) and contents(index) == contents(fresh)


def test_a_text_of_none_stays(tmp_path: Path, encoder: Encoder, counting: Counting) -> None:
    index = new_index(tmp_path, encoder)
    index.sync([("a", "fresh bread", {"n": 1}), ("b", "rain", None), ("c", "snow", None)])
    counting.taken()
    counts = index.sync([("a", None, None), ("b", None, {"n": 2})], prune=True)
    assert counts == SyncCounts(changed=1, kept=1, removed=1, reused=1) and counting.taken() == []
    assert contents(index) == {"a": ("fresh bread", {"n": 1}), "b": ("rain", {"n": 2})}
    with pytest.raises(InvalidInput, match=r"rows\[1\] has no text, and the index has no document 'zz'"):
        index.sync([("a", None), ("zz", None)])
    assert len(index) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x"), ("a", "y")], r"rows\[1\] has the id 'a', and so has rows\[0\]"),
        (["a"], r"rows\[0\] should be \(id, text\) or \(id, text, metadata\), got str"),
        (["ab"], r"rows\[0\] should be .* got str"),
        ([("a",)], r"rows\[0\] should be \(id, text\).* got tuple of 1"),
        ([("a", "x"), (3, "y")], r"ids\[1\] should be a non-empty string, got 3"),
        ([("a", 3)], r"texts\[0\] should be a string"),
        ([("a", "x", [1])], r"metadata\[0\] should be a dict"),
        ([("a", "x", None, 3)], r"places\[0\] should be a function"),
        ([("a", "x", None, lambda start, stop: [1])], "the place of 'a' should be a dict"),
    ],
)
def test_bad_rows_change_nothing(tmp_path: Path, encoder: Encoder, rows: list[Any], message: str) -> None:
    index = new_index(tmp_path, encoder)
    with pytest.raises(InvalidInput, match=message):
        index.sync(rows)
    assert not (tmp_path / "index").exists()


def test_a_function_says_what_is_pruned(tmp_path: Path, encoder: Encoder) -> None:
    index = new_index(tmp_path, encoder)
    index.sync([("a", "bread", {"folder": 1}), ("b", "rain", {"folder": 2}), ("c", "snow", {"folder": 2})])
    counts = index.sync([("c2", "snow")], prune=lambda each: each.moved or each.metadata == {"folder": 1})
    assert counts == SyncCounts(added=1, removed=2, missing=1, reused=1)
    assert sorted(contents(index)) == ["b", "c2"]


def test_given_vectors_are_not_taken_for_those_of_the_text(tmp_path: Path, encoder: Encoder) -> None:
    index = new_index(tmp_path, encoder)
    other = encoder.encode_documents(["something else"])
    index.add_vectors(["a"], other, texts=["fresh bread"])
    assert index.digests(["a", "b"]) == [None, None]
    assert index.sync([("b", "fresh bread")]) == SyncCounts(added=1, missing=1)
    assert index.sync([("a", "fresh bread"), ("b", "fresh bread")]).changed == 1
    mine = vectors(index)
    assert mine["a"] == mine["b"]


def test_places_reach_hits_and_survive_copies(tmp_path: Path, encoder: Encoder) -> None:
    def place(start: int, stop: int) -> dict[str, Any]:
        return {"lines": [LONG.count("\n", 0, start) + 1, LONG.count("\n", 0, stop) + 1]}

    index = new_index(tmp_path, encoder, bits=2, passage_tokens=24)
    index.sync([("a", LONG, None, place), ("b", "bread", None)])
    index.sync([("a2", LONG, {"n": 1})], prune=True)
    index.compact()
    hit = index.search("Sentence 31 of a long text", k=1)[0]
    first, last = hit.place["lines"]
    assert hit.id == "a2" and first <= 32 <= last and hit.record()["place"] == hit.place
    assert f"Sentence {first}" in (hit.text or "")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.data())
def test_passages_give_the_whole_text_back(text: str, data: st.DataObject) -> None:
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=8))})
    first = data.draw(st.integers(0, len(cuts) - 1))
    spans: list[tuple[int, int]] = []
    for start, stop in itertools.pairwise(cuts[first:]):
        least = spans[-1][0] + 1 if spans else start
        spans.append((data.draw(st.integers(min(least, start), start)), stop))
    spans = spans or [(0, len(text))]
    origins = origins_of(text, spans, None, "x")
    rows = [(text[start:stop], origin) for (start, stop), origin in zip(spans, origins, strict=True)]
    assert whole_text(rows) == text


def test_the_whole_text_of_a_cut_document_comes_back(tmp_path: Path, encoder: Encoder) -> None:
    texts = ["  \n lead and tail \t\n" + LONG + "\n\n  ", "one", LONG.replace(" ", "\u2003")]
    index = new_index(tmp_path, encoder, passage_tokens=12, passage_overlap=4)
    index.add(texts, ["a", "b", "c"])
    assert [entry.text for entry in index.get(["c", "a", "b"]) if entry] == [texts[2], texts[0], texts[1]]
    assert sorted(entry.text or "" for entry in index.documents()) == sorted(texts)
    assert index.info()["passages"] > 20
    assert CheckedTexts(texts)  # all of them are texts as an index takes them
