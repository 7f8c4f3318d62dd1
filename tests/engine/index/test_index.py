"""`Index` as its users see it: add, replace, delete, search, filter, grow, refuse."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import (
    IndexExists,
    IndexNotFound,
    InvalidInput,
    ModelMismatch,
)
from latebolt.index.ingest import train as module

ANIMALS = ["a cat sleeps on the sofa", "the dog barks at night", "a house stands on the hill"]


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    return Index.create(tmp_path / "i", encoder)


def ids(hits) -> list:
    return [hit.id for hit in hits]


def test_add_search_and_open_again(index, encoder):
    assert index.add(ANIMALS, ids=["cat", "dog", "house"], metadata=[{"n": 1}, None, {"n": 3}]) == [
        "cat",
        "dog",
        "house",
    ]
    [hit, *_] = index.search("kitten", k=2)
    assert hit.id == "cat" and hit.text == ANIMALS[0] and hit.metadata == {"n": 1}
    again = Index.open(index.path)
    assert len(again) == 3 and ids(again.search("kitten")) == ids(index.search("kitten"))
    assert again.encoder.fingerprint == encoder.fingerprint
    assert [ids(h) for h in again.search_many(["kitten", "barking"], k=1)] == [["cat"], ["dog"]]


def test_scores_of_a_young_index_are_exact(index, encoder):
    index.add(ANIMALS)
    expected = encoder.rerank("kitten", ANIMALS)
    got = index.search("kitten", exhaustive=True)
    assert [int(hit.id) for hit in got] == [hit.id for hit in expected]
    np.testing.assert_allclose([h.score for h in got], [h.score for h in expected], atol=5e-3)


def test_an_id_that_exists_is_replaced(index):
    index.add(ANIMALS, ids=["a", "b", "c"])
    index.add(["the moon is bright tonight"], ids=["a"])
    assert len(index) == 3
    assert ids(index.search("moon", k=1)) == ["a"]
    assert "cat" not in " ".join(hit.text for hit in index.search("cat", k=10))


def test_given_and_made_ids_never_collide(index):
    index.add(["one"], ids=["1"])
    assert index.add(["x", "y", "z"]) == ["0", "2", "3"]
    index.delete(["0", "2", "3"])
    index.compact()
    assert index.add(["w"]) == ["4"]  # a number is never given twice


def test_delete_and_compact(index):
    index.add(ANIMALS, ids=["a", "b", "c"])
    assert index.delete(["a", "nothing"]) == 1 and index.delete(["a"]) == 0
    assert len(index) == 2 and "a" not in ids(index.search("cat"))
    before = index.search("night")
    index.compact()
    assert index.search("night") == before and index.info()["deleted"] == 0


def test_where(index):
    metadata = [{"year": 2019, "tag": "x"}, {"year": 2021}, {"year": 2022, "tag": "y"}]
    index.add(ANIMALS, ids=["a", "b", "c"], metadata=metadata)
    assert set(ids(index.search("cat", where="year >= 2020"))) == {"b", "c"}
    assert ids(index.search("cat", where={"year": {">=": 2020}, "tag": "y"})) == ["c"]
    assert index.search("cat", where="year > 3000") == []
    with pytest.raises(InvalidInput):
        index.search("cat", where="year >=")


def test_ties_are_settled_by_id(index):
    index.add(["same text"] * 30, ids=[f"{i:02}" for i in range(30)][::-1])
    assert ids(index.search("text", k=5)) == ["00", "01", "02", "03", "04"]
    index.add(["same text"], ids=["-1"])
    assert ids(index.search("text", k=2)) == ["-1", "00"] and ids(index.search("text", k=31))[-1] == "29"


def test_growing_up(tmp_path, encoder, monkeypatch):
    """Young segments become residual codes when there are tokens enough; nothing is lost by it."""
    monkeypatch.setattr(module, "TRAIN_TOKENS", 400)
    index = Index.create(tmp_path / "i", encoder)
    index.add(ANIMALS, ids=["cat", "dog", "house"])
    assert index.info()["centroids"] is None
    index.add([f"number {i} of many more texts about the weather" for i in range(60)])
    info = index.info()
    assert info["centroids"] and info["documents"] == 63 and info["bytes_per_token"] == 35
    assert ids(index.search("kitten", k=1)) == ["cat"] and ids(index.search("barking", k=1)) == ["dog"]
    index.add(["an airplane lands in Tokyo"], ids=["plane"])
    assert ids(index.search("aircraft", k=1)) == ["plane"]
    index.compact()
    assert ids(Index.open(index.path).search("aircraft", k=1)) == ["plane"]
    assert index.info()["segments"] <= 2  # the airplane may wait for centroids of its own


@pytest.mark.parametrize("bits", (1, 2, 4, 8, 16))
def test_every_width_finds_its_own(tmp_path, encoder, monkeypatch, bits):
    monkeypatch.setattr(module, "TRAIN_TOKENS", 100)
    index = Index.create(tmp_path / "i", encoder, bits=bits)
    texts = [
        f"{a} {b}" for a in ("red", "green", "blue", "old", "new") for b in ("car", "tree", "song", "river")
    ]
    index.add(texts)
    found = [index.search(text, k=1)[0].text for text in texts]
    assert sum(a == b for a, b in zip(found, texts, strict=True)) >= (14 if bits == 1 else 18)


def test_vectors_without_a_model(tmp_path, rng):
    vectors = TokenVectors.from_matrices([rng.unit(n, 64) for n in (3, 5, 0, 2)])
    index = Index.create(tmp_path / "i", None, bits=16, dim=64)
    assert index.add_vectors(["a", "b", "empty", "c"], vectors) == ["a", "b", "empty", "c"]
    [hit, *_] = index.search_vectors(vectors[1], k=4)
    assert hit.id == "b" and abs(hit.score - 5) < 0.01 and hit.text is None
    with pytest.raises(InvalidInput, match="search_vectors"):
        index.search("text")
    with pytest.raises(InvalidInput, match="dim 64"):
        index.add_vectors(["x"], TokenVectors.from_matrices([rng.unit(1, 32)]))
    bad = TokenVectors.from_matrices([rng.unit(2, 64), np.full((1, 64), np.nan)])
    with pytest.raises(InvalidInput, match=r"token_vectors\[1\]"):
        index.add_vectors(["x", "y"], bad)


def test_another_model_is_refused(index, encoder):
    index.add(ANIMALS)
    with pytest.raises(ModelMismatch, match="starter"):
        Index.open(index.path, Encoder.load("starter", dim=64))


def test_a_reader_searches_while_a_writer_adds(index):
    index.add(ANIMALS)
    reader = Index.open(index.path)
    failures = []
    done = threading.Event()

    def read():
        while not done.is_set():
            hits = reader.search("cat", k=200)
            if len(hits) % 3:
                failures.append(len(hits))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(8):
        index.add(ANIMALS)
    index.compact()
    done.set()
    thread.join()
    assert not failures and len(reader) == 27


def test_a_failing_or_interrupted_add_changes_nothing(index, monkeypatch):
    index.add(ANIMALS)
    before = index.search("cat", k=10)
    real = Encoder.encode_documents
    calls = []

    def interrupted(self, texts, *arguments, **named):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(self, texts, *arguments, **named)

    monkeypatch.setattr(Encoder, "encode_documents", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add([f"text number {i}" for i in range(1500)])
    monkeypatch.undo()
    assert index.search("cat", k=10) == before and len(Index.open(index.path)) == 3
    index.add(["and on it goes"])
    assert len(index) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "one"}, "one str"),
        ({"texts": ["a", None]}, r"\[1\]"),
        ({"texts": ["a"], "ids": ["a", "b"]}, "ids should have one entry a document, 1 in all, got 2"),
        ({"texts": ["a"], "ids": [""]}, "id"),
        ({"texts": ["a"], "ids": [3]}, "id"),
        ({"texts": ["a"], "metadata": [{"x": object()}]}, "metadata"),
        ({"texts": ["a"], "metadata": {"x": 1}}, "metadata"),
    ],
)
def test_wrong_documents_are_refused(index, arguments, message):
    with pytest.raises(InvalidInput, match=message):
        index.add(**arguments)
    assert len(index) == 0


@pytest.mark.parametrize(("query", "k"), [("", 1), ("cat", 0), ("cat", True), (None, 1)])
def test_wrong_searches_are_refused(index, query, k):
    index.add(ANIMALS)
    with pytest.raises(InvalidInput):
        index.search(query, k=k)


def test_an_empty_index_answers_nothing(index):
    assert len(index) == 0 and index.search("cat") == []
    assert index.add([]) == [] and len(index) == 0


def test_paths(tmp_path, encoder, index):
    with pytest.raises(IndexNotFound, match="nothing"):
        Index.open(tmp_path / "nothing")
    with pytest.raises(IndexExists):
        Index.create(index.path, encoder)
    with pytest.raises(InvalidInput, match="bits"):
        Index.create(tmp_path / "j", encoder, bits=3)
    with pytest.raises(InvalidInput, match="dim"):
        Index.create(tmp_path / "j", None)


def test_documents_are_read_back(index):
    index.add(ANIMALS, ids=["a", "b", "c"], metadata=[{"n": 1}, None, {"n": 3}])
    index.add(["the moon is bright"], ids=["b"])
    index.delete(["c"])
    assert index.get(["b", "nobody", "c", "a"]) == [
        ("b", "the moon is bright", None),
        None,
        None,
        ("a", ANIMALS[0], {"n": 1}),
    ]
    assert [entry.id for entry in index.documents()] == ["a", "b"]
    assert [entry.id for entry in index.documents("n >= 1")] == ["a"]
    with pytest.raises(InvalidInput, match="one str"):
        index.get("a")


def test_documents_that_were_cut_are_read_back_once(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder, passage_tokens=4, passage_overlap=0)
    index.add(["one two three four five six seven", "eight"], ids=["long", "short"])
    assert [(each.id, each.text) for each in index.documents()] == [
        ("long", "one two three four five six seven"),
        ("short", "eight"),
    ]
    [entry] = index.get(["long"])
    assert entry.text == "one two three four five six seven"


def test_a_filter_of_many_ids(index):
    index.add(ANIMALS, ids=["a", "b", "c"])
    names = [*(f"no{i}" for i in range(2000)), "c", "a", 7]
    assert sorted(ids(index.search("dog", where={"id": {"in": names}}))) == ["a", "c"]
    assert ids(index.search("dog", where={"id": {"not in": names}})) == ["b"]
