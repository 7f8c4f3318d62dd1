"""Jina's contract over HTTP, held against the library in this process."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest
from servers import serving

from latebolt import Encoder, TokenVectors
from latebolt.errors import ModelError

QUERY = "What is the population of Berlin?"
PASSAGES = [
    "The population of Berlin grew from 1.6 to 4.3 million within two decades around 1900.",
    "Mount Berlin is a glacier-covered volcano in Marie Byrd Land, Antarctica.",
    "Population as of 31.12.2023 by nationality and federal states",
    "The urban area of Berlin has a population of about 4.5 million.",
    "Irving Berlin was an American composer and songwriter.",
    "Berlin is a town in Connecticut; its population was 20,175 at the 2020 census.",
    "Berlin is the capital of Germany, with 3.85 million inhabitants.",
    "Babylon Berlin is a German television series.",
]
VECTOR_PATHS = ["/v1/multi-vector", "/v1/multi-embeddings", "/v1/embeddings"]


def test_rerank_answers_as_the_library_does(client: httpx.Client, encoder: Encoder):
    answer = client.post("/v1/rerank", json={"query": QUERY, "documents": PASSAGES, "top_n": 3}).json()
    hits = encoder.rerank(QUERY, PASSAGES, k=3)
    assert [result["index"] for result in answer["results"]] == [hit.id for hit in hits]
    scores = [result["relevance_score"] for result in answer["results"]]
    np.testing.assert_allclose(scores, [hit.score for hit in hits], rtol=1e-5)
    told = [(result["confidence"], result["weak"]) for result in answer["results"]]
    assert told == [(pytest.approx(hit.confidence, abs=1e-4), hit.weak) for hit in hits]
    assert [result["document"]["text"] for result in answer["results"]] == [hit.text for hit in hits]
    tokens = sum(encoder.count_tokens(PASSAGES)) + sum(encoder.count_tokens([QUERY], "query"))
    assert answer["usage"] == {"total_tokens": tokens, "prompt_tokens": tokens, "truncated_texts": 0}
    assert (answer["model"], answer["object"]) == ("starter", "list")


def test_rerank_takes_objects_null_and_no_documents_back(client: httpx.Client):
    request = {
        "model": "jina-colbert-v2",
        "query": QUERY,
        "documents": [{"text": PASSAGES[0]}, PASSAGES[1]],
        "top_n": None,
        "return_documents": False,
    }
    results = client.post("/v1/rerank", json=request).json()["results"]
    assert sorted(result["index"] for result in results) == [0, 1]
    assert all(result.keys() == {"index", "relevance_score", "confidence", "weak"} for result in results)


def test_equal_scores_keep_the_order_of_the_request(client: httpx.Client):
    results = client.post("/v1/rerank", json={"query": "a", "documents": ["x"] * 12}).json()["results"]
    assert [result["index"] for result in results] == list(range(12))


def test_matches_of_an_explained_rerank_add_up_to_the_score(client: httpx.Client):
    request = {"query": QUERY, "documents": PASSAGES, "top_n": 2, "explain": True}
    for result in client.post("/v1/rerank", json=request).json()["results"]:
        matches = result["matches"]
        assert sum(m["similarity"] for m in matches) == pytest.approx(result["relevance_score"], rel=1e-4)
        shown = {m["query"]["text"] for m in matches if m["query"]}
        assert {"population", "Berlin"} <= shown
        for match in matches:
            for side, text in (("query", QUERY), ("document", PASSAGES[result["index"]])):
                if match[side] is not None:
                    assert text[match[side]["start"] : match[side]["end"]] == match[side]["text"]


@pytest.mark.parametrize("path", VECTOR_PATHS)
@pytest.mark.parametrize("kind", ["query", "document"])
def test_vectors_are_those_of_the_library(client: httpx.Client, encoder: Encoder, path: str, kind: str):
    texts = ["Berlin", "a longer text about Berlin"]
    answer = client.post(path, json={"input": [texts[0], {"text": texts[1]}], "input_type": kind}).json()
    expected = encoder.encode_queries(texts) if kind == "query" else encoder.encode_documents(texts)
    assert [each["index"] for each in answer["data"]] == [0, 1]
    assert {each["object"] for each in answer["data"]} == {"embeddings"}
    for each, vectors in zip(answer["data"], expected, strict=True):
        np.testing.assert_allclose(np.float32(each["embeddings"]), vectors, atol=1e-8)
    assert answer["usage"]["total_tokens"] == sum(encoder.count_tokens(texts, kind))


@pytest.mark.parametrize("dim", [64, 96, 128])
def test_types_and_widths(client: httpx.Client, encoder: Encoder, dim: int):
    kinds = ["float", "base64", "binary", "ubinary"]
    request = {"input": "Berlin at night", "embedding_type": kinds, "dimensions": dim}
    [entry] = client.post("/v1/multi-vector", json=request).json()["data"]
    found = entry["embeddings"]
    assert list(found) == kinds
    expected: TokenVectors = Encoder.load("starter", dim=dim, threads=2).encode_documents([request["input"]])
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in found["base64"]]
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_allclose(found["float"], rows, atol=1e-8)
    bits = np.unpackbits(np.array(found["ubinary"], np.uint8), axis=1)
    np.testing.assert_array_equal(bits, expected[0] > 0)
    np.testing.assert_array_equal(found["binary"], np.int64(found["ubinary"]) - 128)


@pytest.mark.parametrize("kind", ["float", "base64", "binary", "ubinary"])
def test_a_type_by_its_name_gives_no_object(client: httpx.Client, kind: str):
    one = client.post("/v1/embeddings", json={"input": "Berlin", "embedding_type": kind}).json()
    listed = client.post("/v1/embeddings", json={"input": "Berlin", "embedding_type": [kind]}).json()
    assert listed["data"][0]["embeddings"] == {kind: one["data"][0]["embeddings"]}


def test_models(client: httpx.Client):
    [model] = client.get("/v1/models").json()["data"]
    assert (model["id"], model["dimensions"], model["precision"]) == ("starter", [128, 96, 64], "int8")
    assert "jina-colbert-v2" in model["aliases"]


SECRET = "zanzibar secret"


@pytest.mark.parametrize(
    ("path", "request_", "status", "code", "field"),
    [
        (
            "/v1/rerank",
            {"query": SECRET, "documents": [SECRET], "model": SECRET},
            404,
            "model_not_found",
            None,
        ),
        ("/v1/rerank", {"query": SECRET, "documents": []}, 422, "validation_error", "documents"),
        ("/v1/rerank", {"query": SECRET, "documents": [SECRET, 3]}, 422, "validation_error", "documents.1"),
        ("/v1/rerank", {"query": "  ", "documents": [SECRET]}, 422, "validation_error", "query"),
        ("/v1/rerank", {"query": [SECRET], "documents": [SECRET]}, 422, "validation_error", "query"),
        ("/v1/rerank", {"query": SECRET, "documents": SECRET}, 422, "validation_error", "documents"),
        (
            "/v1/rerank",
            {"query": SECRET, "documents": [SECRET], "top_n": 0},
            422,
            "validation_error",
            "top_n",
        ),
        (
            "/v1/rerank",
            {"query": SECRET, "documents": [SECRET], "top_n": "3"},
            422,
            "validation_error",
            "top_n",
        ),
        ("/v1/embeddings", {"input": SECRET, "dimensions": 100}, 422, "validation_error", "dimensions"),
        ("/v1/embeddings", {"input": SECRET, "input_type": SECRET}, 422, "validation_error", "input_type"),
        ("/v1/embeddings", {"input": [SECRET] * 2049}, 422, "validation_error", "input"),
        ("/v1/embeddings", [SECRET], 422, "validation_error", ""),
        ("/v1/" + SECRET, {}, 404, "not_found", None),
    ],
)
def test_errors_have_the_shape_of_the_contract_and_repeat_no_text(
    client: httpx.Client, path: str, request_: object, status: int, code: str, field: str | None
):
    response = client.post(path, json=request_, headers={"X-Request-ID": "mine-1"})
    body = response.json()
    assert (response.status_code, body["code"], body["request_id"]) == (status, code, "mine-1")
    assert body["detail"]
    assert "zanzibar" not in response.text
    if field is None:
        assert "errors" not in body
    else:
        assert body["errors"][0].keys() == {"field", "message", "type", "input"}
        assert body["errors"][0]["field"].startswith(field)


def test_a_method_that_a_path_does_not_take(client: httpx.Client):
    response = client.get("/v1/rerank")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in response.headers["allow"]


def test_texts_that_are_too_long_are_cut_or_refused(client: httpx.Client, encoder: Encoder):
    long = "word " * 2000
    request = {"query": "word", "documents": ["short", long]}
    answer = client.post("/v1/rerank", json=request).json()
    assert answer["usage"]["total_tokens"] < 600
    response = client.post("/v1/rerank", json={**request, "truncation": False})
    assert response.status_code == 422
    assert [fault["field"] for fault in response.json()["errors"]] == ["documents.1"]


def test_limits_of_a_request(tmp_path):
    with serving(tmp_path, max_body_bytes=5000, max_vectors=40, max_depth=8) as running:
        client, json = running.client, {"Content-Type": "application/json"}
        big = client.post("/v1/rerank", json={"query": "a", "documents": ["x" * 6000]})
        assert (big.status_code, big.json()["code"]) == (413, "too_large")

        def pieces():
            for _ in range(100):
                yield b" " * 100

        assert client.post("/v1/rerank", content=pieces(), headers=json).status_code == 413
        many = client.post("/v1/embeddings", json={"input": ["a b c d e f g h"] * 9})
        assert (many.status_code, many.json()["errors"][0]["field"]) == (422, "input")
        deep = client.post("/v1/rerank", content=b'{"a":' * 9 + b"1" + b"}" * 9, headers=json)
        assert "levels deep" in deep.json()["detail"]
        in_a_text = client.post("/v1/rerank", json={"query": "[[[[[[[[[[", "documents": ['"{[{[{["']})
        assert in_a_text.status_code == 200
        assert client.post("/v1/rerank", content=b"{", headers=json).status_code == 422
        assert client.post("/v1/rerank", content=b'{"query": "\xff"}', headers=json).status_code == 422
        assert client.post("/v1/rerank", content=b"{}").status_code == 415


def test_a_server_may_answer_for_every_model(tmp_path):
    with serving(tmp_path, any_model=True) as running:
        request = {"model": "whatever", "query": "a", "documents": ["b"]}
        assert running.client.post("/v1/rerank", json=request).json()["model"] == "starter"


@pytest.mark.parametrize("path", [*VECTOR_PATHS, "/v1/rerank"])
def test_another_models_name_is_answered_only_where_an_alias_says_so(tmp_path, path: str):
    request = {"query": "a", "documents": ["b"]} if path == "/v1/rerank" else {"input": "a"}
    with serving(tmp_path / "plain") as running:
        refused = running.client.post(path, json={**request, "model": "jina-colbert-v2"})
        assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
        assert "answers for starter only" in refused.json()["detail"]
        assert "--aliases" in refused.json()["detail"] and "--any-model" in refused.json()["detail"]
        for name in ({}, {"model": "starter"}, {"model": None}):
            assert running.client.post(path, json={**request, **name}).json()["model"] == "starter"
        assert running.client.get("/v1/models").json()["data"][0]["aliases"] == []
    with serving(tmp_path / "named", aliases="jina-colbert-v2=starter, other") as running:
        for name in ("jina-colbert-v2", "other", "starter"):
            answer = running.client.post(path, json={**request, "model": name})
            assert answer.status_code == 200 and answer.json()["model"] == "starter"
        refused = running.client.post(path, json={**request, "model": "jina-colbert-v1-en"})
        assert "answers for starter, jina-colbert-v2, other only" in refused.json()["detail"]


def test_an_index_is_not_asked_for_with_another_models_name(client: httpx.Client):
    refused = client.post("/v1/indexes", json={"name": "mine", "model": "jina-colbert-v2"})
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "model"
    assert client.get("/v1/indexes/mine").status_code == 404


def test_the_library_loads_no_other_model_for_that_name():
    for name in ("jina-colbert-v2", "colbertv2.0"):
        with pytest.raises(ModelError, match="no such model folder"):
            Encoder.load(name)
