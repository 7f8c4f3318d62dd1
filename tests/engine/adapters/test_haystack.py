"""The Haystack components against haystack-ai itself, pipelines and their YAML included."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from calls import METADATA, QUERY, TEXTS, index_of_calls

from late_imports import late_imports
from latebolt import Index
from latebolt.errors import IndexNotFound, InvalidInput

if TYPE_CHECKING:
    from haystack import Document, Pipeline
    from haystack.components.joiners import DocumentJoiner
    from haystack.core.errors import DeserializationError
    from haystack.errors import FilterError
    from haystack.utils.filters import document_matches_filter

    from latebolt.adapters.haystack import LateboltRanker, LateboltRetriever

late = late_imports(globals())


@pytest.fixture(scope="module")
def index(tmp_path_factory, encoder):
    return index_of_calls(tmp_path_factory.mktemp("haystack") / "calls.index", encoder)


@pytest.fixture(scope="module")
def ranker(encoder):
    made = LateboltRanker(top_k=3, threads=2)
    made.warm_up()
    return made


def documents() -> list[Document]:
    return [Document(id=name, content=text, meta=dict(METADATA[name])) for name, text in TEXTS.items()]


def test_a_ranker_gives_scored_copies(ranker, encoder):
    given = documents()
    found = ranker.run(QUERY, given)["documents"]
    hits = encoder.rerank(QUERY, list(TEXTS.values()), 3)
    assert [(d.id, d.score) for d in found] == [(list(TEXTS)[h.id], h.score) for h in hits]
    assert found[0].meta == METADATA["zip"]
    assert given == documents()
    assert asyncio.run(ranker.run_async(QUERY, given)) == {"documents": found}
    assert ranker.run(QUERY, []) == {"documents": []}


def test_a_ranker_loads_its_model_on_first_use():
    ranker = LateboltRanker(dim=64, precision="int8", threads=1)
    assert ranker._encoder is None
    assert ranker.run(QUERY, documents(), top_k=1)["documents"][0].id == "zip"
    assert (ranker._encoder.dim, ranker._encoder.threads) == (64, 1)
    loaded = ranker._encoder
    ranker.warm_up()
    assert ranker._encoder is loaded


def test_settings_of_a_run(ranker):
    found = ranker.run(QUERY, documents(), top_k=4)["documents"]
    assert len(found) == 4
    least = found[1].score
    assert ranker.run(QUERY, documents(), score_threshold=least)["documents"] == found[:2]
    assert LateboltRanker(score_threshold=least).run(QUERY, documents())["documents"] == found[:2]
    for top_k in (0, -1):
        with pytest.raises(ValueError, match="top_k must be > 0"):
            ranker.run(QUERY, documents(), top_k=top_k)
    with pytest.raises(ValueError, match="top_k must be > 0"):
        LateboltRanker(top_k=0)
    with pytest.raises(InvalidInput, match="empty"):
        ranker.run(" ", documents())


def test_of_doubles_the_best_is_ranked_and_documents_without_text_are_last(ranker):
    double = Document(id="zip", content="something else", score=-1.0)
    given = [Document(id="none"), double, *documents()]
    given[2] = replace(given[2], score=0.7)
    found = ranker.run(QUERY, given, top_k=9)["documents"]
    assert [d.id for d in found].count("zip") == 1 and found[0].content == TEXTS["zip"]
    assert found[-1].id == "none"


def test_a_ranker_reads_meta_where_it_is_told_to(encoder):
    given = [Document(content="the same", meta={"title": title}) for title in ("a zip archive", "a program")]
    given.append(Document(content="the same"))
    ranker = LateboltRanker(meta_fields_to_embed=["title"], embedding_separator=" : ")
    found = ranker.run("zip", given)["documents"]
    texts = ["a zip archive : the same", "a program : the same", "the same"]
    assert [d.score for d in found] == [hit.score for hit in encoder.rerank("zip", texts)]
    assert found[0].meta["title"] == "a zip archive"


def test_a_retriever_gives_the_hits_of_the_index(index):
    retriever = LateboltRetriever(str(index.path), top_k=3)
    found, hits = retriever.run(QUERY)["documents"], index.search(QUERY, k=3)
    assert [(d.id, d.score, d.content) for d in found] == [(h.id, h.score, h.text) for h in hits]
    assert found[0].meta == METADATA["zip"]
    assert asyncio.run(retriever.run_async(QUERY, top_k=1))["documents"] == found[:1]
    assert [d.id for d in LateboltRetriever(index.path, mode="bm25").run("whitespace")["documents"]] == [
        "split"
    ]


def is_(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


FILTERS = [
    is_("meta.since", "==", 2003),
    is_("meta.since", "!=", 2003),
    is_("meta.since", ">", 2003),
    is_("meta.since", ">=", 2003),
    is_("meta.since", "<", 2003),
    is_("meta.since", "<=", 2003),
    is_("meta.since", ">", None),
    is_("meta.kind", "in", ["method", "class"]),
    is_("meta.kind", "not in", ["method", "class"]),
    is_("meta.kind", "in", []),
    is_("meta.draft", "==", True),
    is_("meta.draft", "!=", True),  # most have no such field
    is_("meta.draft", "==", None),
    is_("meta.note", "!=", None),
    is_("meta.draft", "in", [None, 3]),
    is_("meta.home.module", "==", "zipfile"),
    is_("meta.home.module", "not in", ["zipfile"]),
    is_("kind", "==", "method"),
    is_("id", "in", ["zip", "json"]),
    {"operator": "AND", "conditions": [is_("meta.kind", "==", "method"), is_("meta.since", ">", 2000)]},
    {"operator": "OR", "conditions": [is_("meta.kind", "==", "method"), is_("meta.draft", "==", True)]},
    {"operator": "NOT", "conditions": [is_("meta.kind", "==", "method"), is_("meta.since", ">", 2000)]},
    {"operator": "AND", "conditions": []},
    {"operator": "OR", "conditions": []},
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_mean_what_they_mean_to_haystack(index, filters):
    found = LateboltRetriever(str(index.path), filters=filters).run(QUERY)["documents"]
    expected = {d.id for d in documents() if document_matches_filter(filters, d)}
    assert {d.id for d in found} == expected


BROKEN = [
    ({"field": "meta.since", "value": 1}, "'operator' key missing"),
    ({"field": "meta.since", "operator": "=="}, "'value' key missing"),
    ({"operator": "AND"}, "'conditions' key missing"),
    ({"operator": "XOR", "conditions": []}, "Unknown logical operator 'XOR'"),
    (is_("meta.since", "~", 1), "Unknown comparison operator '~'"),
    (is_("meta.since", "in", 1), "must be a `list`"),
    (is_("meta.since", ">", [1]), "must not be a `list`"),
    (is_("content", "==", "x"), '"content" cannot be filtered'),
]


@pytest.mark.parametrize("filters, message", BROKEN, ids=str)
def test_a_broken_filter_is_a_filter_error_at_once(index, filters, message):
    with pytest.raises(FilterError, match=message):
        LateboltRetriever(str(index.path), filters=filters)
    with pytest.raises(FilterError, match=message):
        LateboltRetriever(str(index.path)).run(QUERY, filters=filters)


def test_dates_are_compared_as_they_are_kept(tmp_path, encoder):
    Index.create(tmp_path / "i", encoder).add(
        ["old", "new"],
        ids=["old", "new"],
        metadata=[{"day": "2020-01-01T00:00:00"}, {"day": "2024-01-01T00:00:00"}],
    )
    retriever = LateboltRetriever(str(tmp_path / "i"), filters=is_("meta.day", ">", datetime(2022, 1, 1)))
    assert [d.id for d in retriever.run("old")["documents"]] == ["new"]


@pytest.mark.parametrize("policy, expected", [("replace", {"spawn", "json"}), ("merge", {"spawn"})])
def test_filters_of_a_run_replace_or_join_those_of_the_component(index, policy, expected):
    retriever = LateboltRetriever(str(index.path), filters=is_("meta.since", ">", 2010), filter_policy=policy)
    assert {d.id for d in retriever.run(QUERY)["documents"]} == {"spawn"}
    found = retriever.run(QUERY, filters=is_("meta.kind", "==", "function"))["documents"]
    assert {d.id for d in found} == expected


def test_wrong_settings_of_a_retriever(index, tmp_path):
    with pytest.raises(ValueError, match="top_k must be > 0"):
        LateboltRetriever(str(index.path), top_k=0)
    with pytest.raises(ValueError, match="top_k must be > 0"):
        LateboltRetriever(str(index.path)).run(QUERY, top_k=0)
    with pytest.raises(ValueError, match="mode"):
        LateboltRetriever(str(index.path), mode="dense")
    with pytest.raises(IndexNotFound, match="nothing"):
        LateboltRetriever(str(tmp_path / "nothing")).run(QUERY)


def pipeline(index) -> Pipeline:
    made = Pipeline()
    made.add_component("late", LateboltRetriever(str(index.path), top_k=4))
    made.add_component(
        "words",
        LateboltRetriever(
            str(index.path), mode="bm25", filters=is_("meta.since", ">", 2000), filter_policy="merge"
        ),
    )
    made.add_component("join", DocumentJoiner())
    made.add_component("rank", LateboltRanker(top_k=2, meta_fields_to_embed=["kind"], score_threshold=0.5))
    for name in ("late", "words"):
        made.connect(f"{name}.documents", "join.documents")
    made.connect("join.documents", "rank.documents")
    return made


def test_a_pipeline_runs_and_survives_yaml(index):
    made = pipeline(index)
    asked = {name: {"query": QUERY} for name in ("late", "words", "rank")}
    found = made.run(asked)["rank"]["documents"]
    assert found[0].id == "zip" and len(found) == 2
    written = made.dumps()
    read = Pipeline.loads(written, allowed_modules=["latebolt"])
    assert read.to_dict()["components"] == made.to_dict()["components"]
    assert len(read.to_dict()["connections"]) == 3
    assert read.run(asked)["rank"]["documents"] == found
    assert asyncio.run(pipeline(index).run_async(asked))["rank"]["documents"] == found


def test_a_pipeline_of_elsewhere_is_not_trusted_by_itself(index):
    with pytest.raises(DeserializationError, match="latebolt"):
        Pipeline.loads(pipeline(index).dumps())


def test_every_setting_is_kept(index):
    ranker = LateboltRanker(
        "./model", top_k=7, precision="fp32", dim=96, device="auto", threads=3,
        meta_fields_to_embed=["title"], embedding_separator="|", score_threshold=1.5,
    )  # fmt: skip
    retriever = LateboltRetriever(
        str(index.path), filters=is_("meta.since", ">", 1), top_k=7, mode="hybrid", exhaustive=True,
        device="auto", threads=3, filter_policy="merge",
    )  # fmt: skip
    for component in (ranker, retriever):
        kept = component.to_dict()
        kind = type(component)
        assert kept["type"] == f"latebolt.adapters.haystack.{kind.__name__}"
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            assert name == "self" or kept["init_parameters"][name] != parameter.default
        assert kind.from_dict(kept).to_dict() == kept
