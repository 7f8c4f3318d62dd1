"""Copies of an index in Qdrant: whole, resumed, brought up to date, and found by the same searches."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest

from late_imports import late_imports
from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import InvalidInput, ModelMismatch

if TYPE_CHECKING:
    import qdrant_edge as edge
    from qdrant_client import QdrantClient, models

    from latebolt.adapters.qdrant import Collection
    from latebolt.adapters.qdrant_common.points import Points
    from latebolt.adapters.qdrant_common.push import default_vectors, push
    from latebolt.adapters.qdrant_edge import Shard

late = late_imports(globals())

TEXTS = [
    f"note {i}: the {noun} is {what}"
    for i, (noun, what) in enumerate(
        (noun, what)
        for noun in ("cat", "moon", "train", "archive")
        for what in ("late", "small", "lost", "new", "red")
    )
]
IDS = [f"n{i}" for i in range(len(TEXTS))]


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    index = Index.create(tmp_path / "i", encoder)
    index.add(TEXTS, IDS, [{"n": i} for i in range(len(TEXTS))])
    return index


@pytest.fixture(params=["memory", "edge"])
def make(request, tmp_path):
    """Makes an empty target that fits an index."""

    def make(index: Index, **options) -> Points:
        if request.param == "edge":
            return Shard.create(tmp_path / "shard", like=index, **options)
        return Collection.create(QdrantClient(":memory:"), "docs", like=index, **options)

    return make


def texts_of(target: Points) -> dict:
    """id -> (text, metadata), by asking for everything there is."""
    hits = target.search_vectors(np.ones((1, target.dim), np.float32), k=1000, exhaustive=True)
    return {hit.id: (hit.text, hit.metadata) for hit in hits}


def stop_after(target: Points, n_requests: int) -> None:
    """As if somebody pressed Ctrl-C before the next request."""
    upsert = target._upsert
    left = [n_requests]

    def some(batch):
        if not left[0]:
            target._upsert = upsert
            raise KeyboardInterrupt
        left[0] -= 1
        upsert(batch)

    target._upsert = some


@pytest.mark.parametrize("vectors", ["texts", "codes"])
def test_a_copy_has_every_document_and_finds_what_the_index_finds(make, index, encoder, vectors):
    target = make(index, first_stage="mean")
    done = push(index, target, vectors)
    assert (done.documents, done.sent, done.kept) == (20, 20, 0)
    assert done.from_texts == (20 if vectors == "texts" else 0) and done.from_codes == 20 - done.from_texts
    assert texts_of(target) == {
        id_: (text, {"n": i}) for i, (id_, text) in enumerate(zip(IDS, TEXTS, strict=True))
    }
    for query in ("where is the archive", "a late train"):
        [matrix] = encoder.encode_queries([query])
        ours = index.search(query, k=5, exhaustive=True)
        hits = target.search_vectors(matrix, k=5)
        assert [hit.id for hit in hits] == [hit.id for hit in ours]
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in ours], atol=0.05)


def test_encoding_again_gives_better_vectors_than_the_codes(tmp_path, encoder, rng, monkeypatch):
    monkeypatch.setattr("latebolt.index.ingest.train.TRAIN_TOKENS", 1000)
    words = " ".join(TEXTS).replace(":", "").split()
    texts = [" ".join(rng.choice(words, 14)) for _ in range(120)]
    index = Index.create(tmp_path / "one", encoder, bits=1)
    index.add(texts)
    assert index.info()["centroids"]
    [query] = encoder.encode_queries(["where is the archive"])
    exact = {str(hit.id): hit.score for hit in encoder.rerank("where is the archive", texts)}
    errors = {}
    for vectors in ("texts", "codes"):
        target = Collection.create(QdrantClient(":memory:"), "docs", like=index)
        assert push(index, target, vectors).from_texts == (120 if vectors == "texts" else 0)
        hits = target.search_vectors(query, k=120, exhaustive=True)
        errors[vectors] = max(abs(hit.score - exact[str(hit.id)]) for hit in hits)
    assert errors["texts"] < 1e-3 and errors["codes"] > 0.05


def test_a_stopped_copy_goes_on_where_it_stopped(make, tmp_path, rng):
    vectors = TokenVectors.from_matrices([rng.unit(40, 32) for _ in range(1500)])
    index = Index.create(tmp_path / "big", None, bits=16, dim=32)
    index.add_vectors([str(i) for i in range(1500)], vectors)
    target = make(index)
    stop_after(target, 3)
    with pytest.raises(KeyboardInterrupt):
        push(index, target)
    there = len(target)
    assert 0 < there < 1500
    done = push(index, target)
    assert (done.documents, done.kept, done.sent) == (1500, there, 1500 - there)
    assert len(target) == 1500
    again = push(index, target)
    assert (again.sent, again.kept) == (0, 1500)


def test_nothing_is_encoded_for_what_is_there(make, index):
    target = make(index)
    push(index, target, "texts")
    opened = Index.open(index.path)
    assert push(opened, target, "texts").sent == 0
    assert opened._encoder is None  # the model was not even loaded


def test_a_second_copy_sends_only_what_changed(make, index):
    target = make(index)
    push(index, target)
    index.add(["the moon is green"], ["n5"], [{"n": 5}])  # another text
    index.add([TEXTS[6]], ["n6"], [{"n": "six"}])  # another metadata
    index.add(["all new"], ["n99"])
    index.delete(["n7"])
    done = push(index, target)
    assert (done.documents, done.sent, done.kept, done.pruned) == (20, 3, 17, 0)
    found = texts_of(target)
    assert found["n5"][0] == "the moon is green" and found["n6"][1] == {"n": "six"}
    assert found["n99"] == ("all new", {}) and "n7" in found
    assert push(index, target, prune=True).pruned == 1
    assert "n7" not in texts_of(target) and len(target) == 20
    assert push(index, target, "codes").sent == 20  # had otherwise: sent again


def test_given_vectors_are_not_replaced_by_the_models(make, index, rng):
    given = rng.unit(1, 128)
    index.add_vectors(["own", "bare"], TokenVectors.from_matrices([given, rng.unit(4, 128)]), ["a text", "x"])
    length = len(index.encoder.encode_documents(["x y"])[0])
    index.add_vectors(["same length"], TokenVectors.from_matrices([rng.unit(length, 128)]), ["x y"])
    target = make(index)
    done = push(index, target, "texts")
    assert (done.from_texts, done.from_codes) == (20, 3)
    [hit, *_] = target.search_vectors(given, k=1)
    assert hit.id == "own" and hit.score == pytest.approx(1.0, abs=0.01)


def test_an_index_of_vectors_needs_no_model(make, tmp_path, rng):
    index = Index.create(tmp_path / "v", None, bits=4, dim=32)
    vectors = TokenVectors.from_matrices([rng.unit(3, 32)] * 3)
    index.add_vectors(list("abc"), vectors)
    assert default_vectors(index) == "codes"
    target = make(index)
    assert push(index, target).from_codes == 3
    index.add_vectors(list("abc"), vectors, [None, "now with a text", None])
    assert push(index, target).sent == 1
    assert texts_of(target)["b"] == ("now with a text", {})
    with pytest.raises(InvalidInput, match=r'no model .* Use vectors="codes"'):
        push(index, target, "texts")
    with pytest.raises(InvalidInput, match='"texts" or "codes"'):
        push(index, target, "floats")


def test_where_vectors_come_from_by_default(tmp_path, encoder):
    bits = {
        bits: default_vectors(Index.create(tmp_path / str(bits), encoder, bits=bits))
        for bits in (1, 4, 8, 16)
    }
    assert bits == {1: "texts", 4: "texts", 8: "codes", 16: "codes"}


def test_documents_cut_into_passages_come_once(make, tmp_path, encoder):
    index = Index.create(tmp_path / "cut", encoder, passage_tokens=8, passage_overlap=0)
    long_text = "the cat sleeps on the sofa. the train is late again. the archive holds old letters."
    index.add([long_text, "the moon is bright", "a train arrives"], ["long", "moon", "train"])
    target = make(index, first_stage="mean")
    done = push(index, target)
    assert done.documents == index.info()["passages"] > 4 and len(target) == 3
    for query in ("a late train", "old letters", "bright moon"):
        [matrix] = encoder.encode_queries([query])
        ours = index.search(query, k=2, exhaustive=True)
        hits = target.search_vectors(matrix, k=2)
        assert [(h.id, h.text) for h in hits] == [(h.id, h.text) for h in ours]
        assert [h.id for h in target.search_vectors(matrix, k=3, exhaustive=True)] != []
    index.add(["the cat sleeps"], ["long"])  # fewer passages than before
    push(index, target, prune=True)
    assert all(hit.text == "the cat sleeps" for hit in target.search_vectors(matrix, k=9) if hit.id == "long")
    target.delete(["long"])
    assert len(target) == 2 and sum(len(page) for page in target.point_ids()) == 2


def test_a_document_of_many_passages_leaves_room_for_others(make, tmp_path, encoder):
    index = Index.create(tmp_path / "cut", encoder, passage_tokens=6, passage_overlap=0)
    index.add(["the cat sleeps now. " * 40, "a dog barks", "a train"], ["cats", "dog", "train"])
    target = make(index)
    assert push(index, target).documents > 30
    [matrix] = encoder.encode_queries(["a sleeping cat"])
    assert target.search_vectors(matrix, k=2)[0].id == "cats"
    assert sorted(hit.id for hit in target.search_vectors(matrix, k=3)) == ["cats", "dog", "train"]


def test_prune_removes_points_of_others_too(index):
    client = QdrantClient(":memory:")
    target = Collection.create(client, "docs", like=index)
    client.upsert("docs", [models.PointStruct(id=3, vector=np.ones((1, 128)).tolist(), payload={})])
    assert push(index, target).pruned == 0 and len(target) == 21
    assert push(index, target, prune=True).pruned == 1 and len(target) == 20


def test_a_target_that_does_not_fit_is_refused(make, index, tmp_path, encoder):
    narrow = Index.create(tmp_path / "narrow", encoder.with_dim(64))
    target = make(index)
    with pytest.raises(InvalidInput, match=r"size 128, and .* has 64"):
        push(narrow, target)
    other = copy.copy(encoder)
    object.__setattr__(other, "__class__", type("Other", (Encoder,), {"fingerprint": "other"}))
    with pytest.raises(ModelMismatch, match='made for model "starter"'):
        push(Index.create(tmp_path / "other", other), target)
    cut = Index.create(tmp_path / "cut", encoder, passage_tokens=8)
    with pytest.raises(InvalidInput, match=r"passages=False, and .* cuts its texts"):
        push(cut, target)


def test_the_shard_says_what_it_was_made_for(index, encoder, tmp_path):
    with Shard.create(tmp_path / "s", like=index) as target:
        push(index, target)
        target.optimize()
        where = edge.Filter(must=[edge.FieldCondition(key="metadata.n", range=edge.RangeFloat(lt=3))])
        assert len(target.search_vectors(np.ones((1, 128)), k=9, where=where)) == 3
    with Shard.open(tmp_path / "s", encoder) as opened:
        assert opened.search("where is the archive", k=1)[0].id.startswith("n1")
