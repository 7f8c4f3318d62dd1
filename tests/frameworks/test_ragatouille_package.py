"""The RAGatouille adapter beside RAGatouille: the same results and refusals, and what differs on purpose."""

from __future__ import annotations

import pytest
from tiny_colbert import export, make_checkpoint, passages

from latebolt.adapters.ragatouille import RAGPretrainedModel, sentence_splitter
from later import Later, needs

ragatouille = Later("ragatouille")
pytestmark = [
    needs("ragatouille", "latebolt[dev-frameworks]"),
    pytest.mark.filterwarnings(r"ignore:\s*\*+\s*RAGatouille"),  # on its next release, at every import
]

TEXTS = passages(8)
# Queries are the beginnings of texts: theirs takes 1.35 tokens a word, and cuts what has more.
QUERIES = [text[:24] for text in TEXTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(a checkpoint, its export)."""
    folder = make_checkpoint(tmp_path_factory.mktemp("model") / "tiny")
    return folder, export(folder)


@pytest.fixture
def pair(folders, tmp_path, monkeypatch):
    """(theirs, ours)."""
    monkeypatch.chdir(tmp_path)
    their = ragatouille.RAGPretrainedModel.from_pretrained(str(folders[0]), index_root="theirs", verbose=0)
    return their, RAGPretrainedModel.from_pretrained(folders[1], index_root="ours", verbose=0)


def alike(found, expected, ranks=0):
    """The same results, in keys, order and values; `ranks`: what theirs lack to begin at 1."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        assert one["score"] == pytest.approx(other["score"], rel=2e-3)
        for key in set(one) - {"score", "rank"}:
            assert one[key] == other[key], key
        assert one["rank"] == other["rank"] + ranks


def test_rerank(pair):
    their, our = pair
    # Theirs begins at 0, and at -1 with zero_index_ranks, where its own documentation says 1 and 0.
    for zero in (False, True):
        args = {"documents": TEXTS, "k": 3, "zero_index_ranks": zero}
        alike(our.rerank(QUERIES[3], **args), their.rerank(QUERIES[3], **args), ranks=1)
    found, expected = (each.rerank([QUERIES[3], QUERIES[1]], TEXTS, k=2) for each in (our, their))
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        alike(one, other, ranks=1)
    alike(our.rerank([QUERIES[3]], TEXTS, k=2), their.rerank([QUERIES[3]], TEXTS, k=2), ranks=1)
    assert their.rerank("abcd", TEXTS, k=20) is None and len(our.rerank("abcd", TEXTS, k=20)) == len(TEXTS)


def test_documents_in_memory(pair):
    metadata = [{"n": i} for i in range(len(TEXTS))]
    for each in pair:
        each.encode(list(TEXTS), document_metadatas=metadata, verbose=False)
    their, our = pair
    alike(our.search_encoded_docs(QUERIES[3], k=3), their.search_encoded_docs(QUERIES[3], k=3), ranks=1)
    with pytest.raises(TypeError):  # several queries and metadata
        their.search_encoded_docs(QUERIES[:2], k=1)
    for [result] in our.search_encoded_docs(QUERIES[:2], k=1):
        assert result["document_metadata"] == metadata[result["result_index"]]
    for each in pair:
        each.clear_encoded_docs(force=True)
        each.encode(TEXTS[:2], verbose=False)
        each.encode(TEXTS[2:], verbose=False)
    alike(our.search_encoded_docs(QUERIES[6], k=2), their.search_encoded_docs(QUERIES[6], k=2), ranks=1)


@pytest.mark.parametrize(
    "given",
    [
        {"document_ids": ["a"]},
        {"document_ids": ["a"] * len(TEXTS)},
        {"document_ids": ["", *"abcdefg"]},
        {"document_metadatas": [{}]},
    ],
)
def test_what_they_refuse_we_refuse_alike(pair, given):
    for each in pair:
        with pytest.raises(ValueError, match=r"must (be|not)"):
            each.index(TEXTS, index_name="i", **given)


def test_a_missing_index(pair):
    for module in (ragatouille.RAGPretrainedModel, RAGPretrainedModel):
        with pytest.raises(FileNotFoundError):
            module.from_index("nowhere")
    assert pair[0].search("abcd") is None
    with pytest.raises(ValueError, match="no open index"):
        pair[1].search("abcd")


def test_langchain(pair):
    from langchain_core.documents import Document

    def documents():
        return [Document(page_content=text, metadata={"i": i}) for i, text in enumerate(TEXTS)]

    found, expected = (
        each.as_langchain_document_compressor(k=2).compress_documents(documents(), QUERIES[3])
        for each in pair[::-1]
    )
    assert [document.page_content for document in found] == [document.page_content for document in expected]
    for one, other in zip(found, expected, strict=True):
        assert list(one.metadata) == list(other.metadata) and one.metadata["i"] == other.metadata["i"]
        assert one.metadata["relevance_score"] == pytest.approx(other.metadata["relevance_score"], rel=1e-3)


def test_splitting_is_much_like_llama_index_s():
    from ragatouille.data.preprocessors import llama_index_sentence_splitter

    text = " ".join(f"Sentence number {i} is about the thing {i * 7}." for i in range(80))
    found, expected = (
        split([text, "short"], ["x", "y"], 64) for split in (sentence_splitter, llama_index_sentence_splitter)
    )
    assert {frozenset(chunk) for chunk in found} == {frozenset(chunk) for chunk in expected}
    assert found[-1] == expected[-1] == {"document_id": "y", "content": "short"}
    # Both end at sentences and share some; their tokens are other ones, so the numbers differ.
    assert 0.5 < len(found) / len(expected) < 2
    for chunks in (found, expected):
        assert all(c["content"].startswith("Sentence") and c["content"].endswith(".") for c in chunks[:-1])
        first, second = (set(chunk["content"].rstrip(".").split(". ")) for chunk in chunks[:2])
        assert first & second


@pytest.mark.slow  # half a minute where torch has not compiled the library's extensions yet
def test_indexes(pair, monkeypatch):
    texts = passages(60)
    args = {
        "document_ids": [f"d{i}" for i in range(60)],
        "document_metadatas": [{"n": i} for i in range(60)],
        "index_name": "notes",
        "max_document_length": 96,
    }
    paths = [each.index(list(texts), **args) for each in pair]
    assert paths == ["theirs/colbert/indexes/notes", "ours/colbert/indexes/notes"]
    # Theirs looks in another folder when the model that made the index searches it, so it is loaded again.
    their = ragatouille.RAGPretrainedModel.from_index(paths[0])
    our = RAGPretrainedModel.from_index(paths[1])
    for each in (pair[1], our):
        alike(each.search(texts[3][:24], k=1), their.search(texts[3][:24], k=1))
    found, expected = (each.search(texts[3][:24], k=5) for each in (our, their))
    assert list(found[0]) == list(expected[0]) and [r["rank"] for r in found] == [r["rank"] for r in expected]
    for each in (our, their):
        assert [r["rank"] for r in each.search(texts[3][:24], k=3, zero_index_ranks=True)] == [0, 1, 2]
        several = each.search([texts[3][:24], texts[1][:24]], k=1)
        assert [[r["document_id"] for r in results] for results in several] == [["d3"], ["d1"]]
        assert {r["document_id"] for r in each.search(texts[3][:24], doc_ids=["d0", "d5"])} == {"d0", "d5"}
        retrieved = each.as_langchain_retriever(k=1).invoke(texts[3][:24])
        assert [(document.page_content, document.metadata) for document in retrieved] == [
            (texts[3], {"n": 3})
        ]
        assert len(each.search(texts[3][:24], k=500)) <= 60
