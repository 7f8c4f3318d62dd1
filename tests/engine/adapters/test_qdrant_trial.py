"""What a copy in Qdrant is kept as: chosen by what is measured, noted in the copy, and searched by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_qdrant_url import latebolt
from topics import DIM, topics

from late_imports import late_imports
from latebolt import Index, TokenVectors
from latebolt.errors import IndexUnusable, InvalidInput

if TYPE_CHECKING:
    import qdrant_edge as edge
    from qdrant_client import QdrantClient
    from qdrant_stand_in import stand_in

    from latebolt.adapters.qdrant import Collection
    from latebolt.adapters.qdrant_common.push import push
    from latebolt.adapters.qdrant_common.requests import storages_of
    from latebolt.adapters.qdrant_common.shape import MARK
    from latebolt.adapters.qdrant_common.storage import STORAGES
    from latebolt.adapters.qdrant_common.trial import choose, chosen, sample_of
    from latebolt.adapters.qdrant_edge import Shard
    from latebolt.adapters.stages.base import MeanStage, PooledStage
    from latebolt.adapters.stages.learned import LearnedStage

late = late_imports(globals())


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    documents, _ = topics(500, 1)
    index = Index.create(tmp_path_factory.mktemp("topics") / "i", None, bits=16, dim=DIM)
    index.add_vectors([f"d{i}" for i in range(500)], documents)
    return index


@pytest.fixture
def few(monkeypatch) -> None:
    """Of 500 documents 20 are handed on, where it would be 200."""
    monkeypatch.setattr("latebolt.adapters.qdrant_common.trial.CANDIDATES", 20)


@pytest.fixture
def quick(monkeypatch) -> None:
    """A learned stage of few features."""
    fit = LearnedStage.fit.__func__
    monkeypatch.setattr(
        LearnedStage, "fit", classmethod(lambda cls, documents: fit(cls, documents, features=64))
    )


def test_the_cheapest_that_keeps_enough_is_chosen(index, few):
    lowest = choose(index, "codes", wanted=0.3)
    assert (lowest.stage, lowest.storage) == (MeanStage(DIM), "turbo4") and lowest.reached
    mean = lowest.measured[0].overlap
    more = choose(index, "codes", storage="float16", wanted=mean + 0.01)
    assert isinstance(more.stage, PooledStage) and [m.name for m in more.measured][:2] == [
        "mean",
        "pooled/32",
    ]
    most = choose(index, "codes", first_stage="pooled", wanted=1.0)
    assert not most.reached and "none reaches 1" in str(most)
    assert [each.name for each in most.measured] == ["pooled/32", "pooled", *STORAGES]
    best = max(each.overlap for each in most.measured if each.what == "storage")
    assert {each.name: each.overlap for each in most.measured}[most.storage] == best


def test_the_same_index_gives_the_same_choice(index, few):
    first, again = (choose(index, "codes", wanted=0.9) for _ in range(2))
    assert first.record() == again.record() and str(first) == str(again)
    assert json.loads(json.dumps(first.record()))["documents"] == 500


def test_storages_are_measured_in_the_engine_from_end_to_end(index):
    """Floats lose no more than the first stage; 4 bits lose some."""
    overlaps = {}
    for name in ("turbo4", "float32"):
        found = choose(index, "codes", "mean", storages=(name, "float32"), wanted=0.01)
        [overlaps[name]] = [each.overlap for each in found.measured if each.name == name]
        stage = found.measured[0].overlap
    assert overlaps["float32"] == pytest.approx(stage, abs=0.011)
    assert overlaps["turbo4"] < overlaps["float32"]


def test_nothing_is_measured_where_nothing_is_open(index, tmp_path):
    assert chosen(index, "codes", "pooled", "turbo8", 0.98) == ("pooled", "turbo8", None)
    assert chosen(index, "codes", "mean", "auto", 0.98, ("float32",)) == ("mean", "float32", None)
    empty = Index.create(tmp_path / "empty", None, dim=DIM)
    assert chosen(empty, "codes", "auto", "auto", 0.98) == ("mean", "float32", None)
    with pytest.raises(InvalidInput, match="empty, so there is nothing to measure on"):
        chosen(empty, "codes", "learned", "auto", 0.98)


def test_a_learned_stage_that_keeps_too_little_is_refused(index, few, quick):
    with pytest.raises(InvalidInput, match=r"keeps 0\.\d+ of the exact top 10 .* less than 1\. Use --first-"):
        choose(index, "codes", "learned", wanted=1.0)
    assert choose(index, "codes", "learned", "turbo8", wanted=0.5).stage_name == "learned"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"first_stage": "max"}, "first_stage should be one of auto"),
        ({"storage": "int4"}, "storage should be auto or one of turbo4"),
        ({"wanted": 0}, "above 0 and at most 1"),
        ({"wanted": float("nan")}, "above 0 and at most 1"),
        ({"wanted": "0.9"}, "above 0 and at most 1"),
    ],
)
def test_wrong_wishes_are_refused(index, given, said):
    with pytest.raises(InvalidInput, match=said):
        choose(index, "codes", **given)


def test_queries_come_from_documents_that_are_not_fitted(index):
    sample = sample_of(index, "codes")
    assert len(sample.documents) == sample.total == 500
    assert len(sample.queries) == min(100, int(sample.held_out.sum()))
    fitted = {row.tobytes() for row in sample.fitted.values}
    assert not any(row.tobytes() in fitted for row in sample.queries.values)
    some = sample_of(index, "codes", most=100)
    assert 60 < len(some.documents) < 140 and some.total == 500
    assert len(sample_of(index, "codes", most=1).documents) >= 1


def test_queries_are_sentences_where_there_are_texts(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    texts = [f"Note {i}. The {i}th train to the old harbour is late again. It rains." for i in range(40)]
    index.add(texts, [str(i) for i in range(40)])
    sample = sample_of(index, "texts")
    held_out = np.flatnonzero(sample.held_out)
    assert 0 < len(held_out) < 40 and len(sample.queries) == len(held_out)
    asked = encoder.encode_queries(["The 3th train to the old harbour is late again."])[0]
    assert {len(query) for query in sample.queries} <= {len(asked) - 1, len(asked), len(asked) + 1}
    assert len(sample_of(index, "codes").queries[0]) <= 12


@pytest.mark.parametrize("to", ["edge", "client"])
def test_what_was_chosen_is_noted_and_searched_by(index, few, quick, tmp_path, to):
    found = choose(index, "codes", "learned", "turbo8", wanted=0.5)
    made = {"like": index, "first_stage": found.stage, "storage": found.storage, "measured": found.record()}
    client = QdrantClient(":memory:")

    def opened():
        return Shard.open(tmp_path / "s") if to == "edge" else Collection.open(client, "docs")

    target = (
        Shard.create(tmp_path / "s", **made) if to == "edge" else Collection.create(client, "docs", **made)
    )
    assert push(index, target).sent == 500
    if to == "edge":
        target.close()
    again = opened()
    assert (again.first_stage, again.storage) == ("learned", "turbo8")
    assert again.mark["measured"] == found.record()
    documents, queries = topics(500, 10)
    shared = 0
    for query in queries:
        wanted = {hit.id for hit in index.search_vectors(query, 10, exhaustive=True)}
        shared += len(wanted & {hit.id for hit in again.search_vectors(query, 10, candidates=60)})
    assert shared > 70
    # Candidates are those of the largest dot product, in which a vector's length counts.
    vectors = np.stack(found.stage.of_documents(list(documents)))
    first = [f"d{np.argmax(vectors @ again.stage.of_query(query))}" for query in queries]
    found_first = [again.search_vectors(query, 1, candidates=1)[0].id for query in queries]
    assert sum(a == b for a, b in zip(found_first, first, strict=True)) > 7, (found_first, first)
    # Read back, it has no sample, and a copy that goes on draws one.
    with pytest.raises(InvalidInput, match="no sample"):
        again.add_vectors(["new"], documents[:1])
    assert push(index, again).sent == 0
    index.add_vectors(["new"], TokenVectors.from_matrices([documents[0]]))
    try:
        assert push(index, again).sent == 1
        hits = again.search_vectors(documents[0], 2)
        assert {hit.id for hit in hits} == {"new", "d0"}
    finally:
        index.delete(["new"])


def test_copies_of_before_have_no_note_and_stay_what_they_are(index, tmp_path):
    client = QdrantClient(":memory:")
    for stage in ("mean", "pooled"):
        made = Collection.create(client, stage, like=index, first_stage=stage)
        for name in ("first_stage", "storage"):
            made.mark.pop(name)
        client.update_collection(stage, metadata={MARK: made.mark})
        again = Collection.open(client, stage)
        assert again.first_stage == stage and again.storage is None
    folder = tmp_path / "s"
    Shard.create(folder, like=index, first_stage="pooled").close()
    note = folder / "latebolt.json"
    note.write_text(json.dumps({MARK: {"model": None, "fingerprint": None, "passages": False}}))
    with Shard.open(folder) as again:
        assert again.stage == PooledStage(DIM, 8)


def test_a_note_that_does_not_fit_is_refused(index, tmp_path):
    folder = tmp_path / "s"
    Shard.create(folder, like=index, first_stage="mean").close()
    note = folder / "latebolt.json"
    for mark, said in (
        ({"first_stage": {"kind": "pooled"}}, "is of another"),
        ({"first_stage": {"kind": "learned"}}, "is damaged"),
        (["x"], "should be an object, got list"),
    ):
        note.write_text(json.dumps({MARK: mark}))
        with pytest.raises(InvalidInput, match=said):
            Shard.open(folder)
    note.write_text("{")
    with pytest.raises(IndexUnusable, match="is no JSON"):
        Shard.open(folder)


def test_storages_of_the_two_clients(index, rng, tmp_path):
    vectors = TokenVectors.from_matrices([rng.unit(12, DIM) for _ in range(60)])
    query = rng.unit(4, DIM)
    scores = {}
    for name in STORAGES:
        with Shard.create(tmp_path / name, dim=DIM, first_stage="mean", storage=name) as shard:
            shard.add_vectors([str(i) for i in range(60)], vectors)
            scores[name] = {hit.id: hit.score for hit in shard.search_vectors(query, 60)}
        config = json.loads((tmp_path / name / "edge_config.json").read_text())["vectors"]["tokens"]
        assert (config.get("datatype") or "float32") == STORAGES[name].datatype
        assert bool(config.get("quantization_config")) == (name == "int8")
        with Shard.open(tmp_path / name) as again:
            assert again.storage == name
    exact = np.array([scores["float32"][str(i)] for i in range(60)])
    off = {
        name: np.abs(np.array([found[str(i)] for i in range(60)]) - exact).max()
        for name, found in scores.items()
    }
    assert off["float16"] < 0.01 and off["int8"] < 0.01 and off["turbo8"] < off["turbo4"] < 1
    assert len(sorted(tmp_path.iterdir())) == len(STORAGES)
    for wrong, said in (
        ({"storage": "int4"}, "one of turbo4"),
        ({"storage": "turbo4", "quantization": "scalar"}, "itself"),
    ):
        with pytest.raises(InvalidInput, match=said):
            Shard.create(tmp_path / "wrong", dim=DIM, **wrong)
    assert not (tmp_path / "wrong").exists()


def test_what_a_server_is_asked_for():
    with stand_in() as server:
        client = QdrantClient(url=server.url, check_compatibility=False)
        assert storages_of(client) == tuple(STORAGES)
        for version in ("1.18.2", "0.11", "a fork"):
            server.version = version
            assert storages_of(client) == ("float16", "int8", "float32")
        Collection.create(client, "docs", dim=DIM, first_stage="mean", storage="turbo4")
        params = server.engine.get_collection("docs").config.params.vectors
        assert (params["tokens"].datatype, params["first"].datatype) == ("turbo4", "float16")
    assert storages_of(QdrantClient(":memory:")) == ("float32",)


def test_the_command_line_says_what_it_measured(index, tmp_path):
    shard = str(tmp_path / "shard")
    done = latebolt(
        "push", str(index.path), "--to", "qdrant-edge", "--path", shard, "--json", "--overlap", "0.9"
    )
    assert done.returncode == 0, done.stderr
    assert "first stage " in done.stderr and "share of the exact top 10, on 500 documents" in done.stderr
    told = json.loads(done.stdout)
    assert told["measured"]["wanted"] == 0.9 and told["measured"]["storage"] == told["storage"]
    again = latebolt("push", str(index.path), "--to", "qdrant-edge", "--path", shard, "--storage", "float32")
    assert again.returncode == 0 and "share of" not in again.stderr  # it is there, and stays what it is
    with Shard.open(shard) as opened:
        assert opened.storage == told["storage"] and isinstance(opened.shard, edge.EdgeShard)
    for wrong in (["--overlap", "0"], ["--overlap", "1.1"], ["--storage", "int4"]):
        assert latebolt("push", str(index.path), "--path", str(tmp_path / "x"), *wrong).returncode == 2
    plain = latebolt("push", str(index.path), "--path", str(tmp_path / "local"), "--first-stage", "mean")
    assert plain.returncode == 0 and "share of" not in plain.stderr


def test_without_the_edge_package_a_server_gets_floats(index, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qdrant_edge", None)
    with stand_in() as server:
        done = latebolt("push", str(index.path), "--url", server.url, "--collection", "c", "--json")
    assert done.returncode == 0, done.stderr
    assert (
        "qdrant-edge-py is not installed" in done.stderr and json.loads(done.stdout)["storage"] == "float32"
    )
