"""The ranker of the `rerankers` package against the package itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from calls import QUERY, TEXTS

from late_imports import late_imports
from latebolt.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from rerankers import Document
    from rerankers.models.ranker import BaseRanker
    from rerankers.results import RankedResults

    from latebolt.adapters.rerankers import LateboltRanker, Reranker

late = late_imports(globals())


@pytest.fixture(scope="module")
def ranker(encoder):
    return LateboltRanker(encoder)


def test_texts_come_back_ranked(ranker, encoder):
    assert isinstance(ranker, BaseRanker)
    found = ranker.rank(QUERY, list(TEXTS.values()))
    hits = encoder.rerank(QUERY, list(TEXTS.values()))
    assert isinstance(found, RankedResults) and found.has_scores and found.query == QUERY
    assert [(r.doc_id, r.score, r.rank, r.text) for r in found] == [
        (hit.id, hit.score, n, hit.text) for n, hit in enumerate(hits, start=1)
    ]
    assert found.top_k(1)[0].text == TEXTS["zip"]
    assert found.get_score_by_docid(1) == next(hit.score for hit in hits if hit.id == 1)
    assert ranker.score(QUERY, TEXTS["zip"]) == found[0].score


def test_ids_metadata_and_documents(ranker):
    ids, about = list(TEXTS), [{"n": n} for n in range(len(TEXTS))]
    found = ranker.rank(QUERY, list(TEXTS.values()), doc_ids=ids, metadata=about)
    assert found[0].doc_id == "zip" and found[0].metadata == {"n": 0} and found[0].n == 0
    given = [Document(text, doc_id=name, metadata={"of": name}) for name, text in TEXTS.items()]
    again = ranker.rank(QUERY, given)
    assert [r.doc_id for r in again] == [r.doc_id for r in found]
    assert again[0].document is given[0]
    assert ranker.rank(QUERY, given, metadata=about)[0].metadata == {"n": 0}
    assert ranker.rank(QUERY, given[0])[0].doc_id == "zip"
    assert ranker.rank(QUERY, TEXTS["zip"]).results_count() == 1
    assert ranker.rank(QUERY, []).results == []


def test_async_gives_the_same(ranker):
    found = asyncio.run(ranker.rank_async(QUERY, list(TEXTS.values()), list(TEXTS)))
    assert [r.doc_id for r in found] == [
        r.doc_id for r in ranker.rank(QUERY, list(TEXTS.values()), list(TEXTS))
    ]


def test_what_does_not_fit_is_named(ranker):
    with pytest.raises(InvalidInput, match=r"doc_ids.*4.*got 1"):
        ranker.rank(QUERY, list(TEXTS.values()), doc_ids=["zip"])
    with pytest.raises(InvalidInput, match=r"metadata.*4.*got 1"):
        ranker.rank(QUERY, list(TEXTS.values()), metadata=[{}])
    with pytest.raises(InvalidInput, match=r"docs\[1\] is of type image and has no text"):
        ranker.rank(QUERY, [Document("a text"), Document(document_type="image", base64="")], doc_ids=[1, 2])
    with pytest.raises(InvalidInput, match="empty"):
        ranker.rank("", ["a text"])


def test_the_loader_has_the_name_and_the_arguments_of_the_package(encoder):
    ranker = Reranker("starter", model_type="colbert", verbose=0, device="cpu", dim=64, threads=1)
    assert (ranker.model.dim, ranker.model.threads) == (64, 1)
    with pytest.raises(InvalidInput, match="cross-encoder"):
        Reranker("starter", model_type="cross-encoder")
    with pytest.raises(InvalidInput, match="an Encoder or the name of a model, got int"):
        LateboltRanker(3)
    with pytest.raises(ModelError, match="no-such-model"):
        Reranker("./no-such-model")


def test_a_langchain_compressor_of_the_same_model(ranker):
    from latebolt.adapters.langchain import LateboltRerank

    compressor = ranker.as_langchain_compressor(k=2)
    assert isinstance(compressor, LateboltRerank)
    assert compressor.model is ranker.model and compressor.top_n == 2
