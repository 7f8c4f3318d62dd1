"""Collections and edge shards against Qdrant's own engines: the client's local one, in memory and on disk,
and the server's in `qdrant_edge`. What a connection adds is in test_qdrant_url.py."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import latebolt
from late_imports import late_imports
from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import IndexExists, IndexNotFound, IndexUnusable, InvalidInput, ModelMismatch

if TYPE_CHECKING:
    import qdrant_edge as edge
    from qdrant_client import QdrantClient, models

    from latebolt.adapters.qdrant import Collection
    from latebolt.adapters.qdrant_common.shape import NewPoint, batches, point_id, shortened
    from latebolt.adapters.qdrant_edge import Shard

late = late_imports(globals())

TEXTS = [
    "ZipFile.extractall unpacks an archive",
    "str.split cuts a string at whitespace",
    "random.shuffle puts a list in random order",
    "a socket listens for connections",
    "json.dumps writes an object as text",
]
IDS = ["zip", "split", "shuffle", "socket", "json"]
YEARS = [{"year": 2000 + i, "tags": ["a", "b"][: i % 3]} for i in range(5)]


class Memory:
    """`QdrantClient(":memory:")`, which lives as long as this."""

    def __init__(self, _: Path) -> None:
        self.client = QdrantClient(":memory:")
        self.models, self.in_range = models, models.Range

    def create(self, encoder: Encoder | None = None, **options) -> Collection:
        return Collection.create(self.client, "docs", encoder, **options)

    def open(self, encoder: Encoder | None = None) -> Collection:
        return Collection.open(self.client, "docs", encoder)


class Disk(Memory):
    """`QdrantClient(path=...)`, closed before it is opened again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.client = QdrantClient(path=str(folder / "storage"))

    def open(self, encoder: Encoder | None = None) -> Collection:
        self.client.close()
        self.client = QdrantClient(path=str(self.folder / "storage"))
        return super().open(encoder)


class Edge:
    """A folder with a shard, which is closed before it is opened again."""

    def __init__(self, folder: Path) -> None:
        self.models, self.in_range = edge, edge.RangeFloat
        self.folder = folder / "shard"
        self.shard: Shard | None = None

    def create(self, encoder: Encoder | None = None, **options) -> Shard:
        self.shard = Shard.create(self.folder, encoder, **options)
        return self.shard

    def open(self, encoder: Encoder | None = None) -> Shard:
        if self.shard is not None:
            self.shard.close()
            self.shard = None
        self.shard = Shard.open(self.folder, encoder)
        return self.shard


@pytest.fixture(params=[Memory, Disk, Edge])
def engine(request, tmp_path):
    return request.param(tmp_path)


def ids(hits) -> list:
    return [hit.id for hit in hits]


def above(engine, year: int):
    field = engine.models.FieldCondition(key="metadata.year", range=engine.in_range(gte=year))
    return engine.models.Filter(must=[field])


def test_texts_go_in_and_hits_come_out(engine, encoder):
    made = engine.create(encoder)
    assert made.add(TEXTS, ids=IDS, metadata=YEARS) == IDS and len(made) == 5
    hits = made.search("how do I unpack a zip file", k=2)
    assert len(hits) == 2
    assert hits[0].id == "zip" and hits[0].text == TEXTS[0] and hits[0].metadata == YEARS[0]
    best = encoder.rerank("how do I unpack a zip file", TEXTS)[0]
    assert hits[0].score == pytest.approx(best.score, abs=1e-3)
    again = engine.open(encoder)
    assert len(again) == 5 and ids(again.search("how do I unpack a zip file", k=2)) == ids(hits)


@pytest.mark.parametrize("first_stage", [None, "mean", "pooled"])
def test_the_top_k_is_that_of_our_own_exhaustive_search_on_floats(engine, rng, first_stage, tmp_path):
    vectors = TokenVectors.from_matrices([rng.unit(n, 32) for n in rng.integers(3, 30, size=300)])
    names = [f"d{i}" for i in range(300)]
    made = engine.create(dim=32, first_stage=first_stage)
    made.add_vectors(names, vectors)
    index = Index.create(tmp_path / "index", None, bits=16, dim=32)
    index.add_vectors(names, vectors)
    for query in (rng.unit(6, 32) for _ in range(10)):
        expected = latebolt.maxsim(query, vectors)
        order = np.argsort(-expected)[:10]
        ours = index.search_vectors(query, k=10, exhaustive=True)
        hits = made.search_vectors(query, k=10, exhaustive=True)
        assert ids(hits) == [names[i] for i in order] == ids(ours)
        np.testing.assert_allclose([hit.score for hit in hits], expected[order], atol=1e-4)
        # All of the documents are candidates: the two stages find what one finds.
        assert ids(made.search_vectors(query, k=10, candidates=300)) == ids(hits)


def test_the_first_stage_decides_what_is_compared(engine, rng):
    """With one candidate there is one hit, the one whose first-stage vector is nearest."""
    vectors = TokenVectors.from_matrices([rng.unit(8, 32) for _ in range(60)])
    made = engine.create(dim=32, first_stage="mean")
    made.add_vectors([str(i) for i in range(60)], vectors)
    query = rng.unit(4, 32)
    means = np.stack([matrix.mean(axis=0) for matrix in vectors])
    cosines = (means / np.linalg.norm(means, axis=1, keepdims=True)) @ query.mean(axis=0)
    nearest = {str(i) for i in np.argsort(-cosines)[:7]}
    found = made.search_vectors(query, k=5, candidates=7)
    assert set(ids(found)) <= nearest and len(found) == 5
    exact = latebolt.maxsim(query, vectors)
    assert ids(found) == sorted(nearest, key=lambda id_: -exact[int(id_)])[:5]


@pytest.mark.parametrize("quantization", ["scalar", "binary", "turbo"])
def test_quantised_vectors_are_compared_again_as_floats(engine, encoder, quantization):
    made = engine.create(encoder, first_stage="mean", quantization=quantization)
    made.add(TEXTS, ids=IDS)
    expected = encoder.rerank("put the cards in random order", TEXTS)
    for exhaustive in (False, True):
        hits = made.search("put the cards in random order", k=5, exhaustive=exhaustive)
        assert ids(hits) == [IDS[hit.id] for hit in expected]
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], atol=1e-3)


def test_more_than_k_quantised_vectors_are_compared_again(tmp_path, rng):
    vectors = TokenVectors.from_matrices([rng.unit(20, 64) for _ in range(400)])
    made = Shard.create(tmp_path / "s", dim=64, quantization="binary")
    made.add_vectors([str(i) for i in range(400)], vectors)
    made.optimize()
    shared = {1.0: 0, None: 0}
    for query in (rng.unit(6, 64) for _ in range(20)):
        wanted = set(np.argsort(-latebolt.maxsim(query, vectors))[:10].tolist())
        for oversampling in shared:
            again = edge.QuantizationSearchParams(rescore=True, oversampling=oversampling)
            params = None if oversampling is None else edge.SearchParams(quantization=again)
            hits = made.search_vectors(query, k=10, search_params=params)
            shared[oversampling] += len(wanted & {int(hit.id) for hit in hits})
    assert shared[None] > shared[1.0] + 20


@pytest.mark.parametrize("first_stage", [None, "mean"])
def test_filters_of_qdrant_pass_through(engine, encoder, first_stage):
    made = engine.create(encoder, first_stage=first_stage)
    made.add(TEXTS, ids=IDS, metadata=YEARS)
    hits = made.search("unpack a zip file", where=above(engine, 2003))
    assert sorted(ids(hits)) == ["json", "socket"]
    # The first stage is filtered too, or its only candidate would be another one.
    assert len(made.search("unpack a zip file", k=1, candidates=1, where=above(engine, 2003))) == 1
    match = engine.models.FieldCondition(key="metadata.tags", match=engine.models.MatchValue(value="b"))
    assert ids(made.search("unpack", where=engine.models.Filter(must=[match]))) == ["shuffle"]


def test_an_id_that_exists_is_replaced_and_ids_are_uuids_of_ours(engine, encoder):
    made = engine.create(encoder)
    made.add(TEXTS[:2], ids=["a", "é 1"])
    made.add(["the moon is bright tonight"], ids=["a"], metadata=[{"new": True}])
    assert len(made) == 2
    [hit] = made.search("moon", k=1)
    assert (hit.id, hit.text, hit.metadata) == ("a", "the moon is bright tonight", {"new": True})
    assert {str(uuid.UUID(point)) for page in made.point_ids() for point in page} == {
        point_id("a"),
        point_id("é 1"),
    }
    assert point_id("a") == "43c9b56b-2bbb-52be-8acd-f7b195a76e1a"  # stored collections rest on it
    assert point_id("a", 1) not in (point_id("a"), point_id("a1"), point_id("a\x001"))
    made.delete(["a", "nothing"])
    assert len(made) == 1 and "a" not in ids(made.search("moon"))


def test_ids_are_made_where_none_are_given_and_texts_may_be_a_stream(engine, encoder):
    made = engine.create(encoder)
    names = made.add(text for text in TEXTS)
    assert len(set(names)) == 5 and len(made) == 5
    assert made.search("unpack an archive", k=1)[0].id == names[0]


def test_a_document_without_vectors_is_kept_and_not_found(engine, rng):
    made = engine.create(dim=32, first_stage="mean")
    vectors = TokenVectors.from_matrices([rng.unit(3, 32), np.zeros((0, 32)), rng.unit(2, 32)])
    made.add_vectors(list("abc"), vectors, ["one", "", "three"])
    assert len(made) == 3
    assert sorted(ids(made.search_vectors(rng.unit(2, 32)))) == ["a", "c"]
    assert sorted(ids(made.search_vectors(rng.unit(2, 32), exhaustive=True))) == ["a", "c"]


def test_wrong_input_is_refused_by_name(engine, encoder, rng):
    made = engine.create(encoder)
    with pytest.raises(InvalidInput, match=r"ids should have one entry a document, 5 in all"):
        made.add(TEXTS, ids=["a"])
    with pytest.raises(InvalidInput, match=r"metadata\[1\]\.a is nan"):
        made.add(TEXTS[:2], metadata=[{}, {"a": float("nan")}])
    with pytest.raises(InvalidInput, match=r"ids\[0\] should be a non-empty string"):
        made.add(["x"], ids=[""])
    with pytest.raises(InvalidInput, match="dim 128, got 32"):
        made.add_vectors(["a"], TokenVectors.from_matrices([rng.unit(3, 32)]))
    with pytest.raises(InvalidInput, match="not finite"):
        made.add_vectors(["a"], TokenVectors.from_matrices([np.full((1, 128), np.nan)]))
    with pytest.raises(InvalidInput, match="shape"):
        made.search_vectors(np.zeros((2, 32)))
    with pytest.raises(InvalidInput, match="k should be"):
        made.search("x", k=0)
    with pytest.raises(InvalidInput, match="one str"):
        made.delete("abc")
    assert len(made) == 0


def test_a_collection_of_another_size_or_model_is_refused(engine, encoder):
    engine.create(encoder)
    narrow = encoder.with_dim(64)
    with pytest.raises(ModelMismatch, match="size 128, and the encoder gives 64"):
        engine.open(narrow)
    other = copy.copy(encoder)
    object.__setattr__(other, "__class__", type("Other", (Encoder,), {"fingerprint": "other"}))
    with pytest.raises(ModelMismatch, match='made for model "starter"'):
        engine.open(other)
    opened = engine.open()
    with pytest.raises(InvalidInput, match="without an encoder"):
        opened.search("x")


def test_what_to_make_is_checked(engine, encoder, tmp_path):
    with pytest.raises(InvalidInput, match="got nothing"):
        engine.create()
    with pytest.raises(InvalidInput, match="dim 64, encoder 128"):
        engine.create(encoder, dim=64)
    with pytest.raises(InvalidInput, match="first_stage should be"):
        engine.create(encoder, first_stage="max")
    with pytest.raises(InvalidInput, match="quantization should be"):
        engine.create(encoder, quantization="int3")
    index = Index.create(tmp_path / "index", encoder.with_dim(64))
    with pytest.raises(InvalidInput, match="encoder 128, like 64"):
        engine.create(encoder, like=index)


def test_clients_own_errors_stay(tmp_path, encoder):
    client = QdrantClient(":memory:")
    Collection.create(client, "docs", encoder)
    with pytest.raises(ValueError, match="already exists"):
        Collection.create(client, "docs", encoder)
    with pytest.raises(ValueError, match="not found"):
        Collection.open(client, "nothing", encoder)
    with pytest.raises(AssertionError, match="shard_nummer"):
        Collection.create(client, "more", encoder, options={"shard_nummer": 3})


def test_a_shard_that_is_not_there_or_in_use(tmp_path, encoder):
    with pytest.raises(IndexNotFound, match=r"no edge_config\.json"):
        Shard.open(tmp_path / "nothing", encoder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("x")
    with pytest.raises(IndexExists, match="not an empty folder"):
        Shard.create(tmp_path / "full", encoder)
    with pytest.raises(IndexExists, match="not an empty folder"):
        Shard.create(tmp_path / "full" / "a.txt", encoder)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "latebolt.json").write_text("{")  # a creation cut short
    with Shard.create(tmp_path / "s", encoder), pytest.raises(IndexUnusable, match="cannot be opened"):
        Shard.open(tmp_path / "s", encoder)


def test_requests_are_bounded_by_their_size():
    def of(n_tokens: int) -> NewPoint:
        return NewPoint("x", {"text": None}, np.zeros((n_tokens, 128), np.float32))

    assert [len(batch) for batch in batches([of(8192), of(8192), of(1)])] == [1, 1, 1]
    small = [len(batch) for batch in batches(of(1) for _ in range(1000))]
    assert sum(small) == 1000 and max(small) == 256
    long_text = NewPoint("x", {"text": "x" * 3_000_000}, np.zeros((1, 8), np.float32))
    assert [len(batch) for batch in batches([long_text, long_text])] == [1, 1]


def test_shortened_documents_keep_what_is_not_alike(rng):
    matrix = rng.unit(100, 32)
    assert shortened(matrix, 100) is matrix
    for most in (99, 60, 50, 13, 1):
        fewer = shortened(matrix, most)
        assert fewer.shape == (most, 32) and fewer.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(fewer, axis=1), 1, atol=1e-5)
    twice = np.repeat(matrix, 2, axis=0)
    np.testing.assert_allclose(shortened(twice, 100), matrix, atol=1e-6)


# Collections of others, and token vectors by hand


def compared_by_maxsim(width: int) -> models.VectorParams:
    return models.VectorParams(
        size=width,
        distance=models.Distance.COSINE,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    )


def test_token_vectors_pass_straight_into_the_client(encoder):
    """The steps of Qdrant's documentation of late interaction, with our vectors and no adapter."""
    client = QdrantClient(":memory:")
    client.create_collection(collection_name="docs", vectors_config=compared_by_maxsim(128))
    vectors = encoder.encode_documents(TEXTS)
    client.upsert(
        collection_name="docs",
        points=[
            models.PointStruct(id=i, vector=matrix, payload={"text": text})
            for i, (matrix, text) in enumerate(zip(vectors, TEXTS, strict=True))
        ],
    )
    [query] = encoder.encode_queries(["how do I unpack a zip file"])
    for form in (query, query.tolist()):
        points = client.query_points(collection_name="docs", query=form, limit=5).points
        expected = latebolt.maxsim(query, vectors)
        assert [point.id for point in points] == np.argsort(-expected).tolist()
        np.testing.assert_allclose([p.score for p in points], np.sort(expected)[::-1], atol=1e-4)


def test_a_collection_made_by_hand_opens(encoder):
    client = QdrantClient(":memory:")
    dense = models.VectorParams(size=384, distance=models.Distance.COSINE)
    multi = compared_by_maxsim(128)
    client.create_collection("plain", multi)
    client.create_collection("named", {"colbert": multi, "dense": dense})
    for name, key in (("plain", None), ("named", "colbert")):
        matrix = encoder.encode_documents(TEXTS[:1])[0].tolist()
        vector = matrix if key is None else {key: matrix, "dense": [0.1] * 384}
        client.upsert(name, [models.PointStruct(id=7, vector=vector, payload={"title": "zip"})])
        opened = Collection.open(client, name, encoder)
        opened.add(TEXTS[1:2], ids=["split"])
        hits = opened.search("unpack an archive")
        assert ids(hits) == ["7", "split"] and hits[0].metadata == {"title": "zip"} and hits[0].text is None
    client.create_collection("two", {"a": multi, "b": multi})
    client.create_collection("none", dense)
    for name in ("two", "none"):
        with pytest.raises(InvalidInput, match="should have one multivector"):
            Collection.open(client, name)
