"""A setting under another name is refused at every surface of ours, and the one that was meant is named."""

from __future__ import annotations

import asyncio
import datetime
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import pytest

import latebolt.adapters
from latebolt import Index
from latebolt.adapters.settings import refuse_unknown
from latebolt.errors import InvalidInput, RuntimeUnavailable, UnknownSetting

OTHERS = ({"filter": {"tenant": "a"}}, {"search_kwargs": {"k": 1}}, {"top_k": 1}, {"wehre": "a = 1"})


def test_the_nearest_is_named():
    for given, meant in (("filter", "where"), ("top_k", "k"), ("wehre", "where"), ("search_kwargs", "k")):
        with pytest.raises(UnknownSetting, match=rf'"{given}" is not known here; did you mean "{meant}"\?'):
            refuse_unknown([given], ["k", "where", "mode"], "it")
    refuse_unknown(["k"], ["k"], "it")
    assert issubclass(UnknownSetting, TypeError) and issubclass(UnknownSetting, InvalidInput)


@pytest.fixture
def tenants(tmp_path, encoder):
    with Index.create(tmp_path / "tenants", encoder) as index:
        index.add(
            [f"note {i}" for i in range(6)], metadata=[{"tenant": "a" if i < 3 else "b"} for i in range(6)]
        )
        yield index


def test_langchain(tenants, encoder):
    core = pytest.importorskip("langchain_core.documents")
    from pydantic import ValidationError

    from latebolt.adapters.langchain import LateboltRerank, LateboltRetriever

    retriever = LateboltRetriever(index=tenants, tags=["t"], metadata={"m": 1}, name="n")
    for setting in OTHERS:
        [name] = setting
        with pytest.raises(ValidationError, match=f'"{name}" is not known here; did you mean'):
            LateboltRetriever(index=tenants, **setting)
        with pytest.raises(UnknownSetting, match=f'"{name}" is not known here; did you mean'):
            retriever.invoke("note", **setting)
        with pytest.raises(UnknownSetting, match=name):
            asyncio.run(retriever.ainvoke("note", **setting))
        with pytest.raises(UnknownSetting, match=name):
            LateboltRetriever.from_documents([core.Document("x")], tenants, **setting)
    # What LangChain itself hands on.
    assert len(retriever.invoke("note", config={"callbacks": [], "tags": ["x"]}, verbose=True, k=2)) == 2
    with pytest.raises(ValidationError, match='did you mean "top_n"'):
        LateboltRerank(model=encoder, top_k=3)
    ranked = LateboltRerank(model=encoder).rerank([{"content": "bread"}, {"text": "a cat"}], "kitten")
    assert [each["index"] for each in ranked] == [1, 0]


def test_llama_index(tenants, encoder):
    schema = pytest.importorskip("llama_index.core.schema")
    from latebolt.adapters.llama_index import LateboltRerank, LateboltRetriever

    for setting in ({"filter": 1}, {"where": "a = 1"}, {"top_k": 1}, {"vector_store_query_mode": "hybrid"}):
        [name] = setting
        with pytest.raises(UnknownSetting, match=name):
            LateboltRetriever(tenants, **setting)
        with pytest.raises(UnknownSetting, match=name):
            LateboltRetriever.from_nodes([schema.TextNode(text="x")], tenants, **setting)
    with pytest.raises(UnknownSetting, match='did you mean "top_n"'):
        LateboltRerank(model=encoder, top_k=1)
    assert LateboltRetriever(tenants, callback_manager=None, verbose=False).similarity_top_k


def test_ragatouille(tmp_path, encoder):
    pytest.importorskip("langchain_core")
    from latebolt.adapters.ragatouille import RAGPretrainedModel

    rag = RAGPretrainedModel.from_pretrained(encoder, index_root=str(tmp_path))
    rag.index(["a cat", "bread"], index_name="i")
    for ask in (rag.as_langchain_retriever, rag.as_langchain_document_compressor):
        with pytest.raises(ValueError, match='"top_k" is not known'):
            ask(top_k=1)
    compressor = rag.as_langchain_document_compressor(k=1)
    with pytest.raises(UnknownSetting, match="top_n"):
        compressor.compress_documents([], "q", top_n=1)
    found = rag.search("kitten")
    assert rag.rerank("kitten", found, k=1)[0]["content"] == "a cat"
    with pytest.raises(InvalidInput, match=r"documents\[0\] should have a \"text\""):
        rag.rerank("kitten", [{"body": "x"}])


def test_stanford(tmp_path, encoder):
    from latebolt.adapters.stanford import Indexer, Run, RunConfig, Searcher

    with Run().context(RunConfig(root=str(tmp_path))):
        indexer = Indexer(encoder)
        with pytest.raises(UnknownSetting, match='did you mean "nbits"'):
            indexer.configure(nbit=4)
        indexer.index("i", ["a cat", "bread"])
        with pytest.raises(UnknownSetting, match="ncell"):
            Searcher("i", checkpoint=encoder).configure(ncell=4)


def test_rerankers_and_sentence_transformers(encoder):
    from latebolt.adapters.sentence_transformers import MultiVectorEncoder

    with pytest.raises(UnknownSetting, match="batchsize"):
        MultiVectorEncoder(encoder).encode_query(["a"], batchsize=1)
    pytest.importorskip("rerankers")
    from latebolt.adapters.rerankers import LateboltRanker, Reranker

    with pytest.raises(UnknownSetting, match="api_key"):
        Reranker("starter", api_key="x")
    ranked = LateboltRanker(encoder).rank("kitten", [{"content": "bread"}, {"text": "a cat"}])
    assert [each.doc_id for each in ranked.results] == [1, 0]


def test_ray():
    pytest.importorskip("ray")
    from latebolt.adapters.ray.encode import _options

    with pytest.raises(UnknownSetting, match='did you mean "text_column"'):
        _options({"column": "body"}, None)


TOLERANT = {
    # function: what happens to what it gathers
    "latebolt.adapters.langchain.LateboltRetriever.from_documents": "refused",
    "latebolt.adapters.langchain.LateboltRetriever._get_relevant_documents": "refused",
    "latebolt.adapters.langchain.LateboltRetriever._aget_relevant_documents": "refused",
    "latebolt.adapters.llama_index.LateboltRetriever.__init__": "refused",
    "latebolt.adapters.llama_index.LateboltRetriever.from_nodes": "refused",
    "latebolt.adapters.llama_index.LateboltRerank.__init__": "refused",
    "latebolt.adapters.rerankers.Reranker": "refused",
    "latebolt.adapters.ragatouille.langchain.RAGatouilleLangChainCompressor.compress_documents": "refused",
    "latebolt.adapters.ragatouille.model.RAGPretrainedModel.as_langchain_retriever": "refused",
    "latebolt.adapters.ragatouille.model.RAGPretrainedModel.as_langchain_document_compressor": "refused",
    "latebolt.adapters.sentence_transformers.MultiVectorEncoder.encode_query": "refused",
    "latebolt.adapters.sentence_transformers.MultiVectorEncoder.encode_document": "refused",
    "latebolt.adapters.stanford.infra.Settings.configure": "given back, as ignore_unrecognized says",
    "latebolt.adapters.stanford.infra.Settings.configure_strictly": "refused",
    "latebolt.adapters.stanford.indexing.Indexer.configure": "refused",
    "latebolt.adapters.stanford.searching.Searcher.configure": "refused",
    "latebolt.adapters.ray.encode._WritePart.__init__": "refused by write_parts",
    "latebolt.adapters.ray.serve.deploy": "refused",
    "latebolt.adapters.ray.serve.running": "refused by deploy",
}


def test_nothing_else_gathers_keywords():
    """A new function that takes any keyword has to say here what becomes of them."""
    found = set()
    for module in pkgutil.walk_packages(latebolt.adapters.__path__, "latebolt.adapters."):
        try:
            loaded = importlib.import_module(module.name)
        except RuntimeUnavailable:
            continue
        for owner in vars(loaded).values():
            if getattr(owner, "__module__", None) != module.name:
                continue
            members = [owner, *vars(owner).values()] if inspect.isclass(owner) else [owner]
            for member in members:
                function = getattr(member, "__func__", member)
                if not inspect.isfunction(function) or function.__module__ != module.name:
                    continue
                kinds = [p.kind for p in inspect.signature(function).parameters.values()]
                if inspect.Parameter.VAR_KEYWORD in kinds:
                    found.add(f"{module.name}.{function.__qualname__}")
    assert found <= set(TOLERANT)


# What is refused leaves nothing that is in the way of the corrected run.

REFUSED = {"when": datetime.date(2024, 1, 1)}


def test_refused_documents_leave_nothing(tmp_path, encoder):
    core = pytest.importorskip("langchain_core.documents")
    from latebolt.adapters.langchain import LateboltRetriever

    folder = tmp_path / "i"
    with pytest.raises(InvalidInput):
        LateboltRetriever.from_documents([core.Document("x", metadata=REFUSED)], folder, encoder)
    with pytest.raises(UnknownSetting):
        LateboltRetriever.from_documents([core.Document("x")], folder, encoder, filter="x")
    assert list(tmp_path.iterdir()) == []
    retriever = LateboltRetriever.from_documents([core.Document("bread")], folder, encoder)
    assert [d.page_content for d in retriever.invoke("bread")] == ["bread"]
    assert LateboltRetriever.from_documents([], tmp_path / "none", encoder).invoke("bread") == []


def test_refused_nodes_leave_nothing(tmp_path, encoder):
    schema = pytest.importorskip("llama_index.core.schema")
    from latebolt.adapters.llama_index import LateboltRetriever

    bad = schema.TextNode(text="x", metadata={"f": float("nan")})
    bad.text, bad.id_ = "x", ""
    with pytest.raises(InvalidInput):
        LateboltRetriever.from_nodes([bad], tmp_path / "i", encoder)
    assert list(tmp_path.iterdir()) == []
    retriever = LateboltRetriever.from_nodes([schema.TextNode(text="bread")], tmp_path / "i", encoder)
    assert len(retriever.retrieve("bread")) == 1


@pytest.mark.parametrize("overwrite", (True, False))
def test_refused_passages_leave_nothing(tmp_path, encoder, overwrite):
    from latebolt.adapters.stanford import Indexer, Run, RunConfig, Searcher

    with Run().context(RunConfig(root=str(tmp_path))):
        for bad in (["a cat", 7], ["a cat", None]):
            with pytest.raises(InvalidInput):
                Indexer(encoder).index("i", bad, overwrite=overwrite)
        assert not list(Path(tmp_path).rglob("*.json"))
        path = Indexer(encoder).index("i", ["a cat"], overwrite=overwrite)
        with pytest.raises((InvalidInput, AssertionError)):  # what was there is there still
            Indexer(encoder).index("i", ["a dog", 7], overwrite=overwrite)
        assert Searcher("i", checkpoint=encoder).search("a cat")[0] == [0]
        assert [p.name for p in Path(path).parent.iterdir()] == ["i"]
        Indexer(encoder).index("i", ["a dog", "a cow"], overwrite=True)
        assert len(Searcher("i", checkpoint=encoder).collection) == 2
        assert [p.name for p in Path(path).parent.iterdir()] == ["i"]
        Indexer(encoder).index("none", [])


def test_a_refused_collection_leaves_nothing(tmp_path, encoder):
    from latebolt.adapters.ragatouille import RAGPretrainedModel

    rag = RAGPretrainedModel.from_pretrained(encoder, index_root=str(tmp_path))
    for overwrite in (True, False):
        with pytest.raises(InvalidInput):
            rag.index(["a cat"], document_metadatas=[REFUSED], index_name="i", overwrite_index=overwrite)
        assert not list(Path(tmp_path).rglob("*.json"))
    path = rag.index(["a cat"], index_name="i", overwrite_index=False)
    with pytest.raises(InvalidInput):
        rag.index(["a dog"], document_metadatas=[REFUSED], index_name="i")
    assert RAGPretrainedModel.from_index(path).search("cat")[0]["content"] == "a cat"
    assert json.loads((Path(path) / "metadata.json").read_text())["next_pid"] == 1
