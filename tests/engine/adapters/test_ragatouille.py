"""RAGatouille's surface, without the package, on the built-in model.

tests/frameworks holds the same surface to the package itself.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt import Encoder, Index
from latebolt.adapters.ragatouille import RAGPretrainedModel, sentence_splitter
from latebolt.adapters.ragatouille.splitting import sentence_starts
from latebolt.adapters.stanford import Searcher
from latebolt.errors import IndexLocked, InvalidInput, ModelError, RuntimeUnavailable
from latebolt.index.filters import tree

DOCUMENTS = [
    "Berlin is the capital of Germany. It has 3.85 million inhabitants.",
    "Cats sleep on sofas.",
    "Zip files hold other files.",
]
IDS = ["berlin", "cats", "zip"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rag(encoder):
    return RAGPretrainedModel.from_pretrained(encoder)


@pytest.fixture
def indexed(rag):
    metadata = [{"n": 1}, None, {"n": 3}]
    rag.index(DOCUMENTS, document_ids=IDS, document_metadatas=metadata, index_name="notes")
    return rag


def ids(results):
    return [result["document_id"] for result in results]


def test_index_and_search(indexed):
    first, second = indexed.search("capital of Germany", k=2)
    assert list(first) == ["content", "score", "rank", "document_id", "passage_id", "document_metadata"]
    assert (first["content"], first["rank"], first["document_id"], first["passage_id"]) == (
        DOCUMENTS[0], 1, "berlin", 0,
    )  # fmt: skip
    assert first["document_metadata"] == {"n": 1} and first["score"] > second["score"]
    assert [r["rank"] for r in indexed.search("cat", zero_index_ranks=True)] == [0, 1, 2]  # k is 10
    several = indexed.search(["capital of Germany", "kitten"], k=1)
    assert [ids(results) for results in several] == [["berlin"], ["cats"]]
    assert several[1][0]["document_metadata"] is None
    assert ids(indexed.search(["kitten"], k=1)) == ["cats"]  # one query in a list is as one
    assert indexed.search([]) == []


def test_search_within_documents(indexed):
    assert ids(indexed.search("capital of Germany", doc_ids=["zip", "cats"])) != []
    assert sorted(ids(indexed.search("capital of Germany", doc_ids=["zip", "cats"]))) == ["cats", "zip"]
    assert [ids(r) for r in indexed.search(["cat", "capital"], doc_ids=["zip"])] == [["zip"], ["zip"]]
    assert indexed.search("cat", doc_ids=["nobody"]) == []


def test_lists_of_documents_are_as_long_as_they_are(indexed, monkeypatch):
    """What one written filter may hold is no limit of the library's own calls."""
    monkeypatch.setattr(tree, "MOST_VALUES", 2)
    many = [*IDS, "nobody", "nowhere"]
    assert len(indexed.search("cat", doc_ids=many)) == 3
    indexed.add_to_index(["Paris.", *DOCUMENTS], ["paris", *IDS])
    assert len(indexed.search("a")) == 4
    indexed.delete_from_index(many)
    assert ids(indexed.search("a")) == ["paris"]


def test_an_index_is_where_ragatouille_puts_it(rag, tmp_path):
    path = rag.index(DOCUMENTS, index_name="notes", document_ids=IDS)
    assert path == ".ragatouille/colbert/indexes/notes"
    info = Index.open(path).info()
    assert (info["bits"], info["documents"]) == (4, 3)
    opened = RAGPretrainedModel.from_index(tmp_path / path)
    assert ids(opened.search("kitten", k=1)) == ["cats"] and "document_metadata" not in opened.search("a")[0]
    # A Stanford searcher reads it too, as it reads RAGatouille's.
    assert Searcher("notes", index_root=".ragatouille/colbert/indexes").search("kitten", k=1)[0] == [1]
    assert rag.index(DOCUMENTS).endswith("starternew_index")
    elsewhere = RAGPretrainedModel.from_pretrained("starter", n_gpu=0, index_root=str(tmp_path / "mine"))
    assert elsewhere.index(DOCUMENTS, index_name="x") == str(tmp_path / "mine/colbert/indexes/x")
    uuids = ids(elsewhere.search("cat"))
    assert len(set(uuids)) == 3 and all(len(uuid) == 36 for uuid in uuids)


def test_an_index_can_be_named_in_a_search(rag):
    rag.index(DOCUMENTS, document_ids=IDS, index_name="a")
    rag.index(["The moon is bright."], document_ids=["moon"], index_name="b")
    assert ids(rag.search("capital", k=1)) == ["moon"]
    assert ids(rag.search("capital", k=1, index_name="a")) == ["berlin"]
    assert ids(rag.search("capital", k=1)) == ["berlin"]  # which is open from then on
    fresh = RAGPretrainedModel.from_pretrained(rag.encoder)
    assert ids(fresh.search("capital", index_name="b")) == ["moon"]
    with pytest.raises(FileNotFoundError, match="no finished index"):
        rag.search("capital", index_name="c")
    assert ids(rag.search("capital", k=1)) == ["berlin"]


def test_overwriting(indexed):
    with pytest.raises(AssertionError, match="already"):
        indexed.index(["new"], index_name="notes", overwrite_index=False)
    indexed.index(["new"], index_name="notes", overwrite_index="reuse")
    assert len(indexed.search("cat", index_name="notes")) == 3
    indexed.index(["new"], index_name="notes")
    assert len(indexed.search("cat")) == 1


def test_documents_come_and_go(indexed):
    indexed.add_to_index(
        ["Paris is the capital of France.", "Berlin again."], ["paris", "berlin"], [{"n": 4}, {"n": 5}]
    )
    [hit] = indexed.search("capital of France", k=1)
    assert (hit["document_id"], hit["passage_id"], hit["document_metadata"]) == ("paris", 3, {"n": 4})
    assert len(indexed.search("a")) == 4  # an id that is there stays as it is
    assert indexed.search("Germany", k=1)[0]["content"] == DOCUMENTS[0]
    indexed.delete_from_index(["paris", "nobody"])
    indexed.delete_from_index("berlin")
    assert sorted(ids(indexed.search("capital"))) == ["cats", "zip"]
    indexed.add_to_index(["Berlin is back."], ["berlin"])
    assert indexed.search("Berlin", k=1)[0]["passage_id"] == 4  # no passage's number is given twice
    again = RAGPretrainedModel.from_index(".ragatouille/colbert/indexes/notes")
    assert again.search("Berlin", k=1)[0]["content"] == "Berlin is back."
    again.add_to_index(["Rome is old."], index_name="notes")
    assert again.search("Rome", k=1)[0]["content"] == "Rome is old."


def test_an_index_that_is_not_there(rag):
    for call in (
        lambda: rag.search("cat"),
        lambda: rag.add_to_index(["cat"]),
        lambda: rag.delete_from_index(["cat"]),
    ):
        with pytest.raises(InvalidInput, match="no open index"):
            call()
    with pytest.raises(FileNotFoundError):
        RAGPretrainedModel.from_index("nowhere")
    with pytest.raises(ModelError, match="nowhere"):
        RAGPretrainedModel.from_pretrained("nowhere")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"document_ids": ["a"]}, "document_ids must be the same length"),
        ({"document_ids": ["a", "b", "a"]}, "unique"),
        ({"document_ids": ["a", " ", "b"]}, "empty"),
        ({"document_ids": [1, 2, 3]}, "should be str"),
        ({"document_metadatas": [{}]}, "document_metadatas must be the same length"),
        ({"document_metadatas": [{"a": {1}}, {}, {}]}, "metadata"),
        ({"index_name": "../up"}, "relative path"),
        ({"preprocessing_fn": lambda chunks, ids: [{"text": "a"}]}, "chunk 0"),
        ({"split_documents": False, "preprocessing_fn": lambda documents, ids: documents}, "chunk 0"),
    ],
)
def test_bad_documents(rag, given, message):
    with pytest.raises(ValueError, match=message):
        rag.index(DOCUMENTS, **{"index_name": "i", **given})


def test_another_writer_is_waited_for_by_nobody(indexed):
    with (
        Index.open(".ragatouille/colbert/indexes/notes")._store.writer(),
        pytest.raises(IndexLocked),
    ):
        indexed.add_to_index(["late"])


def test_rerank(rag, encoder):
    found = rag.rerank("capital of Germany", DOCUMENTS, k=2)
    assert [list(result) for result in found] == [["content", "score", "rank", "result_index"]] * 2
    assert (found[0]["rank"], found[0]["result_index"]) == (1, 0)
    assert found[0]["score"] == encoder.rerank("capital of Germany", DOCUMENTS)[0].score
    several = rag.rerank(["kitten", "archive"], DOCUMENTS, k=1, zero_index_ranks=True)
    assert [[(r["rank"], r["result_index"]) for r in results] for results in several] == [[(0, 1)], [(0, 2)]]
    assert len(rag.rerank("kitten", DOCUMENTS)) == 3  # k is 10
    assert rag.rerank("kitten", []) == []
    with pytest.raises(ValueError, match="k should"):
        rag.rerank("kitten", DOCUMENTS, k=0)


def test_no_score_is_raised_by_padding():
    """Where every similarity is negative, zeros behind a short document would win."""
    from latebolt.adapters.ragatouille.memory import EncodedDocuments
    from latebolt.values import TokenVectors

    held = EncodedDocuments()
    held.add(
        ["short", "long"], TokenVectors.from_matrices([[[-0.8, 0.6, 0, 0]], [[-1.0, 0, 0, 0]] * 9]), None
    )
    found = held.search(np.eye(1, 4, dtype=np.float32), 2)
    assert [(r["content"], r["score"]) for r in found] == [
        ("short", pytest.approx(-0.8)),
        ("long", pytest.approx(-1.0)),
    ]


def test_documents_in_memory(rag, encoder):
    with pytest.raises(InvalidInput, match=r"encode\(documents\)"):
        rag.search_encoded_docs("cat")
    rag.encode(DOCUMENTS)
    found = rag.search_encoded_docs("kitten", k=1)
    assert list(found[0]) == ["content", "score", "rank", "result_index"] and found[0]["result_index"] == 1
    assert found[0]["score"] == pytest.approx(encoder.rerank("kitten", DOCUMENTS)[0].score)
    rag.encode(["The dog barks."], document_metadatas=[{"n": 4}], verbose=False)
    both = rag.search_encoded_docs(["kitten", "barking dog"], k=2)
    assert [[r["rank"] for r in results] for results in both] == [[1, 2], [1, 2]]
    assert (both[1][0]["result_index"], both[1][0]["document_metadata"]) == (3, {"n": 4})
    assert both[0][0]["document_metadata"] is None
    assert len(rag.search_encoded_docs("cat", k=99)) == 4
    with pytest.raises(ValueError, match="2 in all, got 1"):
        rag.encode(["a", "b"], document_metadatas=[{}])
    rag.clear_encoded_docs()  # does not sleep
    with pytest.raises(InvalidInput):
        rag.search_encoded_docs("cat")
    rag.encode(["one two three four five six"], max_document_length=5)
    rag.encode(["one two three four five six"], max_document_length=10**6)
    [full, cut] = rag.search_encoded_docs("six", k=2)
    assert (full["result_index"], cut["result_index"]) == (1, 0)
    rag.clear_encoded_docs(force=True)


def sentences(n: int) -> str:
    return " ".join(f"Sentence number {i} is about the thing {i * 7}." for i in range(n))


def test_long_documents_are_split(rag, encoder):
    rag.index(
        [sentences(60), "short"], document_ids=["long", "short"], index_name="x", max_document_length=64
    )
    entries = list(Index.open(".ragatouille/colbert/indexes/x").documents())
    assert len(entries) > 8 and entries[-1].text == "short"
    texts = [entry.text for entry in entries[:-1]]
    assert all(text.startswith("Sentence number") and text.endswith(".") for text in texts)
    assert max(encoder.count_tokens(texts)) <= 64  # with markers: no passage is cut off when it is encoded
    [hit] = rag.search("the thing 406", k=1)
    assert hit["document_id"] == "long" and "thing 406." in hit["content"]
    rag.index([sentences(60)], index_name="whole", split_documents=False, max_document_length=64)
    assert len(rag.search("thing")) == 1
    rag.add_to_index([sentences(60)], ["another"])  # with the passages' length of the index
    assert sum(r["document_id"] == "another" for r in rag.search("thing", k=99)) == len(texts)


def test_own_splitters_and_preprocessors(rag):
    calls = []

    def split(documents, names, chunk_size):
        calls.append((documents, names, chunk_size))
        return [
            {"document_id": name, "content": part}
            for name, text in zip(names, documents, strict=True)
            for part in text.split(";")
        ]

    def lower(chunks, names):
        return [chunk | {"content": chunk["content"].lower()} for chunk in chunks]

    def drop(chunks, names):
        return [chunk for chunk in chunks if "drop" not in chunk["content"]]

    rag.index(
        ["A CAT;DROP IT", "A DOG"], ["x", "y"], index_name="i", max_document_length=99,
        document_splitter_fn=split, preprocessing_fn=[lower, drop],
    )  # fmt: skip
    assert calls == [(["A CAT;DROP IT", "A DOG"], ["x", "y"], 99)]
    assert sorted((r["document_id"], r["content"]) for r in rag.search("cat")) == [
        ("x", "a cat"), ("y", "a dog"),
    ]  # fmt: skip


def test_sentences_begin_where_a_reader_sees_them():
    text = 'He said "Stop." Then 3.85 million left!\nNew line… 東京は首都。人口は多い。'
    starts = [*sentence_starts(text), len(text)]
    assert [text[a:b].strip() for a, b in itertools.pairwise(starts)] == [
        'He said "Stop."', "Then 3.85 million left!", "New line…", "東京は首都。", "人口は多い。",
    ]  # fmt: skip
    assert sentence_starts("") == [0]


# What a break is, said plainly; read again from every mark of a row, so its cost is a row's length squared.
PLAIN_BREAK = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*\s+|[。！？｡।؟]+[”’」』）]*\s*|\s*\n\s*)")


@settings(max_examples=2000, deadline=None)
@given(st.text(st.sampled_from("aé.!…。؟”’\"'»)]』） \t\n\r\u2028\u3000"), max_size=14))
def test_sentences_begin_where_the_plain_pattern_says(text):
    expected = [match.end() for match in PLAIN_BREAK.finditer(text) if match.end() < len(text)]
    assert sentence_starts(text) == [0, *expected]


@pytest.mark.parametrize("row", (".", " ", "。", ".)", '?"', "\t ", "…!", "\n "))
def test_a_long_row_of_marks_is_read_once(row):
    def seconds(n):
        start = time.perf_counter()
        sentence_starts("Contents" + row * n + "7")
        return time.perf_counter() - start

    # Twenty times as much takes four hundred times as long where every mark begins a search of its own.
    assert min(seconds(20_000) for _ in range(2)) < 60 * min(seconds(1_000) for _ in range(5)) + 0.02


@settings(max_examples=40, deadline=None)
@given(
    ends=st.lists(st.sampled_from(["", ".", "?", "\n", "。", ",", "...\n\n"]), max_size=60),
    size=st.integers(8, 40),
)
def test_no_word_is_lost_by_splitting(encoder, ends, size):
    text = " ".join(f"w{i}{end}" for i, end in enumerate(ends))  # every word is in it once
    chunks = sentence_splitter([text], ["d"], size, encoder=encoder)
    assert {chunk["document_id"] for chunk in chunks} == {"d"}
    start = end = 0
    for chunk in chunks:
        start = text.index(chunk["content"], start)
        assert not text[end:start].strip() or start < end
        end = start + len(chunk["content"])
    assert not text[end:].strip()
    assert max(encoder.count_tokens([chunk["content"] for chunk in chunks])) <= size + 2


def test_splitting_refuses(encoder):
    with pytest.raises(InvalidInput, match="2 in all, got 1"):
        sentence_splitter(["a", "b"], ["x"], encoder=encoder)
    assert sentence_splitter(["  "], ["x"], encoder=encoder) == [{"document_id": "x", "content": ""}]


def test_langchain(indexed):
    core = pytest.importorskip("langchain_core", reason="needs latebolt[dev-adapters]")
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever

    assert core is not None
    retriever = indexed.as_langchain_retriever(k=2)
    assert isinstance(retriever, BaseRetriever)
    found = retriever.invoke("capital of Germany")
    assert len(found) == 2 and (found[0].page_content, found[0].metadata) == (DOCUMENTS[0], {"n": 1})
    assert retriever.batch(["kitten"])[0][0].metadata == {}
    compressor = indexed.as_langchain_document_compressor(k=2)
    assert isinstance(compressor, BaseDocumentCompressor)
    documents = [Document(page_content=text, metadata={"i": i}) for i, text in enumerate(DOCUMENTS)]
    best, _ = compressor.compress_documents(documents, "an archive")
    assert best.metadata["i"] == 2
    expected = indexed.rerank("an archive", DOCUMENTS)[0]["score"]
    assert best.metadata["relevance_score"] == expected and documents[2].metadata == {"i": 2}
    assert len(compressor.compress_documents(documents, "an archive", k=1)) == 1
    assert compressor.compress_documents([], "an archive") == []


def test_langchain_is_needed_for_itself_only(indexed, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("langchain_core")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain_core", None)
    monkeypatch.delitem(sys.modules, "latebolt.adapters.ragatouille.langchain", raising=False)
    with pytest.raises(RuntimeUnavailable, match="langchain-core"):
        indexed.as_langchain_retriever()


def test_metadata_of_an_index_say_what_comes_next(indexed):
    with open(".ragatouille/colbert/indexes/notes/metadata.json", encoding="utf-8") as file:  # noqa: PTH123
        content = json.load(file)
    assert content["next_pid"] == 3 and content["config"]["doc_maxlen"] == 256
    assert isinstance(indexed.encoder, Encoder)
