"""mteb itself evaluates us, and finds what our own evaluation finds."""

from __future__ import annotations

import inspect
import os
import statistics
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from latebolt import Encoder
from latebolt.errors import InvalidInput
from latebolt.evaluate import Collection, late_run, measure, read_collection
from later import Later, needs

if TYPE_CHECKING:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from latebolt.adapters.mteb import LateboltModel

pytestmark = needs("mteb", "latebolt[dev-frameworks]")
mteb, models, caches, datasets = map(Later, ("mteb", "mteb.models", "mteb.cache", "datasets"))
adapter = Later("latebolt.adapters.mteb")
LONGEST = 300  # characters of a document: each is encoded a dozen times
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load("starter", threads=2)


@pytest.fixture(scope="module")
def calls() -> Collection:
    """Functions of the standard library: what their docstrings say, with the first paragraph as query."""
    documents, queries = {}, {}
    for module in (textwrap, statistics, inspect, os.path):
        for name in sorted(getattr(module, "__all__", dir(module))):
            text = (getattr(module, name).__doc__ or "").strip()
            first, _, rest = text.partition("\n\n")
            # No text twice: mteb breaks ties in its reciprocal rank in another way than in its nDCG.
            if rest.strip() and callable(getattr(module, name)) and rest[:LONGEST] not in documents.values():
                documents[f"{module.__name__}.{name}"] = rest[:LONGEST]
                queries[f"q-{name}"] = first
    qrels = {query: {name: 1} for query, name in zip(queries, documents, strict=True)}
    return Collection("calls", documents, queries, qrels)


def listed(rows: Iterable[dict[str, str]]) -> Any:
    """mteb's kind of table."""
    return datasets.Dataset.from_list(list(rows))


def task_of(collection: Collection, top_ranked: dict[str, list[str]] | None = None) -> AbsTaskRetrieval:
    """A task of MTEB that needs no download."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="LateboltLocal",
            description="A collection that lies on this machine.",
            dataset={"path": "local/local", "revision": "1"},
            type="Retrieval" if top_ranked is None else "Reranking",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, **_):
            self.dataset = {"default": {"test": {
                "corpus": listed({"id": k, "text": v} for k, v in collection.documents.items()),
                "queries": listed({"id": k, "text": v} for k, v in collection.queries.items()),
                "relevant_docs": {q: dict(grades) for q, grades in collection.qrels.items()},
                "top_ranked": top_ranked,
            }}}  # fmt: skip
            self.data_loaded = True

    return Task()


def evaluated(model: LateboltModel, task: AbsTaskRetrieval, **settings) -> dict[str, float]:
    found = mteb.evaluate(model, task, cache=None, show_progress_bar=False, **settings)
    return found.task_results[0].scores["test"][0]


def ours(encoder: Encoder, collection: Collection) -> tuple[dict, dict[str, float]]:
    queries = encoder.encode_queries(list(collection.queries.values()))
    documents = encoder.encode_documents(list(collection.documents.values()))
    run, _ = late_run(collection, queries, documents, 32)
    return run, measure(run, collection.qrels)


@pytest.fixture(scope="module")
def expected(encoder: Encoder, calls: Collection) -> tuple[dict, dict[str, float]]:
    """The run and the figures of our own evaluation."""
    return ours(encoder, calls)


def searched(model: LateboltModel, collection: Collection, top_k: int, **more) -> dict[str, dict[str, float]]:
    task = task_of(collection)
    task.load_data()
    data = task.dataset["default"]["test"]
    shared = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    model.index(data["corpus"], **shared)
    return model.search(data["queries"], top_k=top_k, **shared, **more)


def test_mteb_takes_it_for_a_late_interaction_model(encoder):
    model = adapter.LateboltModel(encoder.with_dim(64), bits=2)
    assert isinstance(model, models.SearchProtocol) and not isinstance(model, models.EncoderProtocol)
    meta = model.mteb_model_meta
    assert meta.model_type == ["late-interaction"] and meta.similarity_fn_name.value == "MaxSim"
    assert (meta.name, meta.embed_dim) == ("latebolt/starter", 64)
    assert meta.experiment_kwargs["bits"] == 2 and "pool_factor" not in meta.experiment_kwargs
    pooled = adapter.LateboltModel(encoder, bits=2, pool_factor=2, max_vectors=9).mteb_model_meta
    assert (pooled.experiment_kwargs["pool_factor"], pooled.experiment_kwargs["max_vectors"]) == (2, 9)
    assert adapter.LateboltModel(encoder).mteb_model_meta.revision == encoder.fingerprint
    assert adapter.LateboltModel(encoder, name="me/mine").mteb_model_meta.name == "me/mine"


def test_ndcg_is_that_of_our_own_evaluation(encoder, calls, expected):
    assert len(calls.documents) > 40
    _, figures = expected
    found = evaluated(adapter.LateboltModel(encoder), task_of(calls))
    assert 0.3 < figures["nDCG@10"] < 0.98  # neither everything nor nothing is found
    assert found["ndcg_at_10"] == pytest.approx(figures["nDCG@10"], abs=1e-5)
    assert found["mrr_at_10"] == pytest.approx(figures["RR@10"], abs=1e-5)
    assert found["recall_at_100"] == pytest.approx(figures["R@100"], abs=1e-5)
    assert found["main_score"] == found["ndcg_at_10"]


def test_scores_do_not_depend_on_how_the_corpus_is_cut(encoder, calls, expected, monkeypatch):
    run, _ = expected
    for chunk in (1000, 7):
        monkeypatch.setattr("latebolt.adapters.mteb._CHUNK", chunk)
        found = searched(adapter.LateboltModel(encoder), calls, 5)
        for query, documents in run.items():
            best = dict(list(documents.items())[:5])
            assert list(found[query]) == list(best)
            np.testing.assert_allclose(list(found[query].values()), list(best.values()), rtol=1e-6)


def test_a_reranking_task_scores_what_it_names(encoder, calls, expected):
    names = list(calls.documents)
    top = {q: [names[(7 * n + i) % len(names)] for i in range(12)] for n, q in enumerate(calls.queries)}
    for query, candidates in top.items():
        candidates.extend(calls.qrels[query])
    run, whole = expected
    full = {q: dict(documents) for q, documents in run.items()}
    among = {q: {d: s for d, s in full[q].items() if d in set(top[q])} for q in full}
    found = evaluated(adapter.LateboltModel(encoder), task_of(calls, top))
    assert found["ndcg_at_10"] == pytest.approx(measure(among, calls.qrels)["nDCG@10"], abs=1e-5)
    assert found["ndcg_at_10"] > whole["nDCG@10"]  # which mteb finds, too
    for model in (adapter.LateboltModel(encoder), adapter.LateboltModel(encoder, bits=4)):
        scores = searched(model, calls, 100, top_ranked=top)
        assert {q: set(documents) for q, documents in scores.items()} == {q: set(d) for q, d in top.items()}


def test_a_document_that_is_not_there_is_named(encoder, calls):
    top = {query: ["no.such"] for query in calls.queries}
    for model in (adapter.LateboltModel(encoder), adapter.LateboltModel(encoder, bits=8)):
        with pytest.raises(InvalidInput, match=r"top_ranked.*'no\.such'"):
            searched(model, calls, 5, top_ranked=top)
    with pytest.raises(InvalidInput, match=r"index\(corpus"):
        adapter.LateboltModel(encoder).search(
            None, task_metadata=None, hf_split="", hf_subset="", top_k=1, encode_kwargs={}
        )
    with pytest.raises(InvalidInput, match="bits"):
        adapter.LateboltModel(encoder, mode="hybrid")


@pytest.mark.parametrize("settings", [{"bits": 2}, {"bits": 4, "mode": "hybrid"}, {"bits": 16}], ids=str)
def test_an_index_is_measured_as_it_searches(encoder, calls, tmp_path, settings):
    from latebolt import Index

    model = adapter.LateboltModel(encoder, exhaustive=True, **settings)
    found = searched(model, calls, 10)
    index = Index.create(tmp_path / "i", encoder, bits=settings["bits"])
    index.add(list(calls.documents.values()), ids=list(calls.documents))
    for query, text in calls.queries.items():
        hits = index.search(text, 10, exhaustive=True, mode=settings.get("mode", "late"))
        assert list(found[query].items()) == [(hit.id, hit.score) for hit in hits]


def test_titles_and_instructions_are_read_as_mteb_joins_them(encoder):
    one = Collection("one", {"a": "the text"}, {"q": "the query"}, {"q": {"a": 1}})
    task = task_of(one)
    task.load_data()
    shared = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    model = adapter.LateboltModel(encoder)
    model.index(listed([{"id": "a", "title": "A title", "text": "the text"}]), **shared)
    queries = listed([{"id": "q", "text": "the query", "instruction": "find it"}])
    score = model.search(queries, top_k=1, **shared)["q"]["a"]
    assert score == pytest.approx(encoder.rerank("the query find it", ["A title the text"])[0].score)


def test_results_are_filed_by_model_and_settings(encoder, calls, tmp_path):
    small = Collection(
        "small", *(dict(list(part.items())[:5]) for part in (calls.documents, calls.queries, calls.qrels))
    )
    cache = caches.ResultCache(tmp_path)
    for model in (adapter.LateboltModel(encoder), adapter.LateboltModel(encoder, bits=2)):
        mteb.evaluate(model, task_of(small), cache=cache, show_progress_bar=False)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("LateboltLocal.json")]
    assert len(files) == 2 and all("latebolt__starter" in file for file in files)
    assert any("bits" in file for file in files)


@pytest.mark.data
@pytest.mark.slow
def test_a_real_collection(encoder):
    folder = Path(os.environ.get("LATEBOLT_DATA", PROJECT.parent / "shared" / "data")) / "squad"
    if not folder.is_dir():
        pytest.skip(f"there is no collection at {folder}; set LATEBOLT_DATA")
    whole = read_collection(folder)
    queries = dict(list(whole.queries.items())[::50])
    qrels = {query: whole.qrels[query] for query in queries}
    names = {name for grades in qrels.values() for name in grades} | set(list(whole.documents)[:300])
    some = Collection("squad", {n: t for n, t in whole.documents.items() if n in names}, queries, qrels)
    _, expected = ours(encoder, some)
    assert len(some.documents) > 400
    found = evaluated(adapter.LateboltModel(encoder), task_of(some))
    assert found["ndcg_at_10"] == pytest.approx(expected["nDCG@10"], abs=1e-5)
    quantised = evaluated(adapter.LateboltModel(encoder, bits=2), task_of(some))
    assert quantised["ndcg_at_10"] == pytest.approx(expected["nDCG@10"], abs=0.02)
