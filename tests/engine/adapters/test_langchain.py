"""The LangChain adapter against langchain-core itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from calls import METADATA, QUERY, TEXTS, index_of_calls
from pydantic import ValidationError

from late_imports import late_imports
from latebolt.errors import IndexExists, IndexNotFound, InvalidInput, ModelError

if TYPE_CHECKING:
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import ConfigurableField, RunnableLambda

    from latebolt.adapters.langchain import LateboltRerank, LateboltRetriever

late = late_imports(globals())


@pytest.fixture(scope="module")
def index(tmp_path_factory, encoder):
    return index_of_calls(tmp_path_factory.mktemp("langchain") / "calls.index", encoder)


def documents(*names: str) -> list[Document]:
    return [Document(TEXTS[name], id=name, metadata=dict(METADATA[name])) for name in names]


def test_a_retriever_gives_the_hits_of_the_index(index):
    retriever = LateboltRetriever(index=index, k=3)
    assert isinstance(retriever, BaseRetriever)
    found, hits = retriever.invoke(QUERY), index.search(QUERY, k=3)
    assert [d.id for d in found] == [hit.id for hit in hits]
    assert found[0].page_content == TEXTS["zip"]
    assert [d.metadata["relevance_score"] for d in found] == [hit.score for hit in hits]
    assert found[0].metadata.items() >= METADATA["zip"].items()


def test_async_batches_and_chains_give_the_same(index):
    retriever = LateboltRetriever(index=index, k=2)
    found = retriever.invoke(QUERY)

    async def several():
        return await asyncio.gather(retriever.ainvoke(QUERY), retriever.ainvoke(QUERY, k=1))

    assert asyncio.run(several()) == [found, found[:1]]
    assert retriever.batch([QUERY, "start a program"])[0] == found
    chain = retriever | RunnableLambda(lambda docs: [d.id for d in docs])
    assert chain.invoke(QUERY) == [d.id for d in found]


def test_settings_of_the_retriever_and_of_a_call(index):
    retriever = LateboltRetriever(index=index, k=4, where="since >= 2003", mode="hybrid")
    assert {d.id for d in retriever.invoke(QUERY)} == {"zip", "spawn", "json"}
    assert [d.id for d in retriever.invoke(QUERY, where={"kind": "function", "since": {"<": 2010}})] == [
        "json"
    ]
    assert len(retriever.invoke(QUERY, k=1)) == 1
    assert [d.id for d in retriever.invoke("whitespace", mode="bm25", where=None)] == ["split"]
    exact = index.search(QUERY, k=4, where="since >= 2003", mode="hybrid", exhaustive=True)
    found = retriever.invoke(QUERY, exhaustive=True)
    assert [d.metadata["relevance_score"] for d in found] == [hit.score for hit in exact]


def test_a_field_can_be_configured_as_with_other_retrievers(index):
    retriever = LateboltRetriever(index=index, k=1).configurable_fields(k=ConfigurableField(id="k"))
    assert len(retriever.with_config(configurable={"k": 3}).invoke(QUERY)) == 3


def test_callbacks_see_the_run_and_its_errors(index):
    from langchain_core.callbacks import BaseCallbackHandler

    class Seen(BaseCallbackHandler):
        ended, failed = None, None

        def on_retriever_end(self, documents, **_):
            self.ended = documents

        def on_retriever_error(self, error, **_):
            self.failed = error

    seen = Seen()
    retriever = LateboltRetriever(index=index, k=1)
    found = retriever.invoke(QUERY, {"callbacks": [seen]})
    assert seen.ended == found
    with pytest.raises(InvalidInput, match="query is empty"):
        retriever.invoke(" ", {"callbacks": [seen]})
    assert isinstance(seen.failed, InvalidInput)


def test_documents_go_in_and_come_out(tmp_path, encoder):
    retriever = LateboltRetriever.from_documents(
        documents("zip", "split"), tmp_path / "i", encoder, k=1, max_vectors=6
    )
    assert retriever.index.info()["max_vectors"] == 6
    retriever.add_documents(documents("json"))
    [found] = retriever.invoke("read an object")
    assert found.metadata.pop("relevance_score") > 0
    assert found == documents("json")[0]
    with pytest.raises(IndexExists):
        LateboltRetriever.from_documents(documents("zip"), tmp_path / "i", encoder)
    again = LateboltRetriever(index=tmp_path / "i", k=9)  # another process opens the folder
    assert {d.id for d in again.invoke(QUERY)} == {"zip", "split", "json"}
    assert again.add_documents([Document("a text of no name")]) not in ([], ["None"])
    with pytest.raises(InvalidInput, match=r"ids\[1\]"):
        again.add_documents([*documents("zip"), Document("a text of no name")])


@pytest.mark.parametrize(
    "settings, message", [({"k": 0}, "k should be"), ({"mode": "dense"}, "mode"), ({"index": 3}, "Index")]
)
def test_wrong_settings_of_a_retriever(index, settings, message):
    with pytest.raises(ValidationError, match=message):
        LateboltRetriever(**{"index": index, **settings})


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(IndexNotFound, match="nothing"):
        LateboltRetriever(index=str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="no-such-model"):
        LateboltRerank(model="./no-such-model")


def test_a_compressor_reranks_copies(encoder):
    compressor = LateboltRerank(model=encoder, top_n=2)
    assert isinstance(compressor, BaseDocumentCompressor)
    given = documents(*TEXTS)
    found = compressor.compress_documents(given, QUERY)
    hits = encoder.rerank(QUERY, [d.page_content for d in given], 2)
    assert [d.id for d in found] == [given[hit.id].id for hit in hits]
    assert [d.metadata["relevance_score"] for d in found] == [hit.score for hit in hits]
    assert given == documents(*TEXTS)  # LangChain caches documents: the originals must not change
    assert asyncio.run(compressor.acompress_documents(given, QUERY)) == found
    assert compressor.compress_documents([], QUERY) == []


def test_a_compressor_has_the_rerank_of_jina(encoder):
    compressor = LateboltRerank(model=encoder, top_n=1)
    given = [TEXTS["split"], documents("zip")[0], {"text": TEXTS["json"]}]
    assert [r["index"] for r in compressor.rerank(given, QUERY)] == [1]
    assert len(compressor.rerank(given, QUERY, top_n=None)) == 3
    assert LateboltRerank(model=encoder, top_n=None).compress_documents(documents(*TEXTS), QUERY)[3:]
    assert LateboltRerank().model.model == "starter"
    with pytest.raises(ValidationError, match="top_n"):
        LateboltRerank(model=encoder, top_n=0)
    with pytest.raises(ValidationError, match="top_k"):
        LateboltRerank(model=encoder, top_k=3)  # a wrong name must not pass in silence


def test_retrieve_then_rerank(index, encoder):
    first = LateboltRetriever(index=index, k=4, mode="bm25", where="exists(since)")
    rerank = LateboltRerank(model=encoder, top_n=1)
    chain = RunnableLambda(lambda q: rerank.compress_documents(first.invoke(q), q))
    assert [d.id for d in chain.invoke("a zip archive that a text unpacks")] == ["zip"]
