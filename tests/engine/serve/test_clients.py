"""Jina's clients, as their users install them: the URL is changed, and the server has one flag."""

from __future__ import annotations

import pytest
from servers import Running, serving
from test_jina import PASSAGES, QUERY

from latebolt import Encoder

KEY = "a-key-of-a-client"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory):
    # What these clients ask for when nobody tells them a model.
    settings = {"keys": f"{KEY} read", "aliases": "jina-reranker-v1-base-en=starter"}
    with serving(tmp_path_factory.mktemp("clients"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def best(encoder: Encoder) -> list[str]:
    return [hit.text or "" for hit in encoder.rerank(QUERY, PASSAGES, k=3)]


def test_langchain(guarded: Running, best: list[str], monkeypatch: pytest.MonkeyPatch):
    module = pytest.importorskip("langchain_community.document_compressors.jina_rerank")
    from langchain_core.documents import Document

    monkeypatch.setattr(module, "JINA_API_URL", f"{guarded.url}/v1/rerank")
    documents = [Document(text, metadata={"n": i}) for i, text in enumerate(PASSAGES)]
    found = module.JinaRerank(jina_api_key=KEY, top_n=3).compress_documents(documents, QUERY)
    assert [document.page_content for document in found] == best
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(RuntimeError, match="not one of the server's"):
        module.JinaRerank(jina_api_key="wrong").compress_documents(documents, QUERY)


def test_llama_index(guarded: Running, best: list[str]):
    module = pytest.importorskip("llama_index.postprocessor.jinaai_rerank")
    from llama_index.core.schema import NodeWithScore, TextNode

    reranker = module.JinaRerank(api_key=KEY, top_n=3, base_url=f"{guarded.url}/v1")
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in PASSAGES]
    found = reranker.postprocess_nodes(nodes, query_str=QUERY)
    assert [node.node.get_content() for node in found] == best


def test_haystack(guarded: Running, best: list[str]):
    module = pytest.importorskip("haystack_integrations.components.rankers.jina")
    from haystack import Document
    from haystack.utils import Secret

    ranker = module.JinaRanker(api_key=Secret.from_token(KEY), base_url=f"{guarded.url}/v1/rerank")
    result = ranker.run(query=QUERY, documents=[Document(content=text) for text in PASSAGES])
    assert [document.content for document in result["documents"]][:3] == best
    assert len(result["documents"]) == len(PASSAGES)
    assert result["meta"]["usage"]["total_tokens"] > 0
    with pytest.raises(RuntimeError, match="at most"):
        ranker.run(query=QUERY, documents=[Document(content="a")] * 2049)
