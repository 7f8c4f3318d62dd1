"""The LlamaIndex adapter against llama-index-core itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from calls import METADATA, QUERY, TEXTS, index_of_calls

from late_imports import late_imports
from latebolt import Index
from latebolt.errors import IndexExists, InvalidInput

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
    from llama_index.core.llms import MockLLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers import get_response_synthesizer
    from llama_index.core.schema import (
        IndexNode,
        MetadataMode,
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )
    from llama_index.core.vector_stores.types import (
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
    )
    from llama_index.core.vector_stores.utils import build_metadata_filter_fn

    from latebolt.adapters.llama_index import LateboltRerank, LateboltRetriever

late = late_imports(globals())


@pytest.fixture(scope="module")
def index(tmp_path_factory, encoder):
    return index_of_calls(tmp_path_factory.mktemp("llama") / "calls.index", encoder)


def nodes() -> list[TextNode]:
    made = [TextNode(id_=name, text=text, metadata=dict(METADATA[name])) for name, text in TEXTS.items()]
    for node in made:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="the manual")
    return made


def test_a_retriever_gives_the_hits_of_the_index(index):
    retriever = LateboltRetriever(index, similarity_top_k=3)
    assert isinstance(retriever, BaseRetriever)
    found, hits = retriever.retrieve(QUERY), index.search(QUERY, k=3)
    assert [(n.node_id, n.score) for n in found] == [(hit.id, hit.score) for hit in hits]
    assert found[0].text == TEXTS["zip"] and found[0].metadata == METADATA["zip"]
    assert [n.node_id for n in asyncio.run(retriever.aretrieve(QueryBundle(QUERY)))] == [h.id for h in hits]
    assert len(LateboltRetriever(index).retrieve(QUERY)) == 2  # LlamaIndex's default


def test_nodes_come_back_whole(tmp_path, encoder):
    retriever = LateboltRetriever.from_nodes(
        nodes(), tmp_path / "i", encoder, similarity_top_k=1, pool_factor=3
    )
    assert Index.open(tmp_path / "i").info()["pool_factor"] == 3
    [found] = retriever.retrieve(QUERY)
    assert found.node == nodes()[0]
    assert found.node.ref_doc_id == "the manual"
    again = LateboltRetriever(tmp_path / "i", filters={"ref_doc_id": "the manual"}, similarity_top_k=9)
    assert len(again.retrieve(QUERY)) == 4
    with pytest.raises(IndexExists):
        LateboltRetriever.from_nodes(nodes(), tmp_path / "i", encoder)


def test_an_index_node_leads_to_its_object(tmp_path, encoder):
    inner = LateboltRetriever.from_nodes(nodes(), tmp_path / "inner", encoder, similarity_top_k=1)
    above = [IndexNode(text="questions about Python calls", index_id="calls", id_="above")]
    outer = LateboltRetriever.from_nodes(
        above, tmp_path / "outer", encoder, similarity_top_k=1, object_map={"calls": inner}
    )
    assert [n.node_id for n in outer.retrieve(QUERY)] == ["zip"]


def test_a_query_engine_reads_what_was_found(index, encoder):
    engine = RetrieverQueryEngine(
        LateboltRetriever(index, similarity_top_k=4),
        get_response_synthesizer(llm=MockLLM()),
        node_postprocessors=[LateboltRerank(top_n=1, model=encoder)],
    )
    answer = engine.query(QUERY)
    assert [n.node_id for n in answer.source_nodes] == ["zip"]
    assert TEXTS["zip"] in str(answer)  # the mock repeats what it was shown


def test_settings(index):
    assert [n.node_id for n in LateboltRetriever(index, mode="bm25").retrieve("whitespace")] == ["split"]
    late = LateboltRetriever(index, filters="since > 2010", similarity_top_k=4, exhaustive=True)
    assert [n.node_id for n in late.retrieve(QUERY)] == ["spawn"]
    with pytest.raises(InvalidInput, match="similarity_top_k"):
        LateboltRetriever(index, similarity_top_k=0)
    with pytest.raises(InvalidInput, match="mode"):
        LateboltRetriever(index, mode="dense")
    with pytest.raises(InvalidInput, match="empty"):
        LateboltRetriever(index).retrieve("")


FILTERS = [
    [("since", 2003, "EQ")],
    [("since", 2003, "NE")],
    [("since", 2003, "GT")],
    [("since", 2003, "GTE"), ("kind", "function", "EQ")],
    [("since", 2003, "LT")],
    [("since", 2003, "LTE")],
    [("kind", ["method", "class"], "IN")],
    [("kind", ["method", "class"], "NIN")],
    [("draft", "x", "NE"), ("draft", ["x"], "NIN")],  # most have no such key
    [("tags", "zip", "CONTAINS")],
    [("tags", ["zip", "text"], "ANY")],
    [("tags", ["zip", "file"], "ALL")],
    [("note", None, "IS_EMPTY"), ("tags", None, "IS_EMPTY")],
    [],
]


@pytest.mark.parametrize("condition", ["AND", "OR", "NOT"])
@pytest.mark.parametrize("parts", FILTERS, ids=str)
def test_filters_mean_what_they_mean_to_llama_index(index, parts, condition):
    assert {each.name for each in FilterCondition} == {"AND", "OR", "NOT"}
    filters = MetadataFilters(
        filters=[MetadataFilter(key=k, value=v, operator=FilterOperator[op]) for k, v, op in parts],
        condition=FilterCondition[condition],
    )
    theirs = build_metadata_filter_fn(METADATA.__getitem__, filters)
    found = LateboltRetriever(index, filters=filters, similarity_top_k=9).retrieve(QUERY)
    assert {n.node_id for n in found} == {name for name in METADATA if theirs(name)}


def test_filters_can_be_nested_and_say_what_they_cannot_do(index):
    young = MetadataFilter(key="since", value=2005, operator=FilterOperator.GT)
    inner = MetadataFilters(filters=[young, MetadataFilter(key="kind", value="method")], condition="or")
    outer = MetadataFilters(
        filters=[inner, MetadataFilter(key="since", value=1994, operator=FilterOperator.NE)]
    )
    found = LateboltRetriever(index, filters=outer, similarity_top_k=9).retrieve(QUERY)
    assert {n.node_id for n in found} == {"zip", "spawn", "json"}
    text = MetadataFilters(
        filters=[MetadataFilter(key="kind", value="meth", operator=FilterOperator.TEXT_MATCH)]
    )
    with pytest.raises(InvalidInput, match=r"'kind'.*text_match.*bm25"):
        LateboltRetriever(index, filters=text).retrieve(QUERY)
    bare = MetadataFilters(filters=[MetadataFilter(key="tags", value="zip", operator=FilterOperator.ALL)])
    with pytest.raises(InvalidInput, match=r"'tags'.*list"):
        LateboltRetriever(index, filters=bare).retrieve(QUERY)


def test_a_postprocessor_reranks(encoder):
    given = [NodeWithScore(node=node, score=0.5) for node in nodes()]
    reranker = LateboltRerank(top_n=2, model=encoder, keep_retrieval_score=True)
    assert isinstance(reranker, BaseNodePostprocessor)
    found = reranker.postprocess_nodes(given, query_str=QUERY)
    texts = [n.get_content(metadata_mode=MetadataMode.EMBED) for n in nodes()]
    hits = encoder.rerank(QUERY, texts, 2)
    assert [(n.node_id, n.score) for n in found] == [(nodes()[h.id].node_id, h.score) for h in hits]
    assert found[0].metadata["retrieval_score"] == 0.5
    assert [n.score for n in given] == [0.5] * 4
    again = asyncio.run(LateboltRerank(top_n=1, model=encoder).apostprocess_nodes(given, QueryBundle(QUERY)))
    assert [n.node_id for n in again] == ["zip"]
    assert reranker.postprocess_nodes([], query_str=QUERY) == []


def test_a_postprocessor_fails_as_those_of_llama_index(encoder):
    given = [NodeWithScore(node=node) for node in nodes()]
    with pytest.raises(ValueError, match="Missing query bundle"):
        LateboltRerank(model=encoder).postprocess_nodes(given)
    with pytest.raises(ValueError, match="top_n"):
        LateboltRerank(top_n=0, model=encoder)


def test_a_postprocessor_reports_to_callbacks_and_is_serialisable(encoder):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    reranker = LateboltRerank(top_n=1, model=encoder, callback_manager=CallbackManager([debug]))
    reranker.postprocess_nodes([NodeWithScore(node=node) for node in nodes()], query_str=QUERY)
    assert len(debug.get_event_pairs(CBEventType.RERANKING)) == 1
    kept = reranker.to_dict()
    assert kept["class_name"] == "LateboltRerank" and kept["model"] == "starter"
    assert LateboltRerank.from_dict(kept).top_n == 1
