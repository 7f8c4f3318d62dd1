"""The MultiVectorEncoder where there is neither sentence-transformers nor torch."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import numpy as np
import pytest
from calls import QUERY, TEXTS

from latebolt import maxsim
from latebolt.adapters.sentence_transformers import MultiVectorEncoder
from latebolt.errors import InvalidInput, RuntimeUnavailable

DOCUMENTS = list(TEXTS.values())


@pytest.fixture(scope="module")
def model(encoder):
    return MultiVectorEncoder(encoder)


def test_vectors_are_those_of_the_encoder(model, encoder):
    queries = model.encode_query([QUERY, "split"])
    for found, expected in zip(queries, encoder.encode_queries([QUERY, "split"]), strict=True):
        np.testing.assert_array_equal(found, expected)
    documents = model.encode_document(DOCUMENTS, batch_size=2, show_progress_bar=False, convert_to_numpy=True)
    for found, expected in zip(documents, encoder.encode_documents(DOCUMENTS), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert isinstance(documents, list) and documents[0].dtype == np.float32
    assert model.encode_document(DOCUMENTS[0]).shape == documents[0].shape  # one text, one matrix
    np.testing.assert_array_equal(model.encode(iter(DOCUMENTS))[1], documents[1])
    np.testing.assert_array_equal(model.encode([QUERY], task="query")[0], queries[0])
    assert model.encode_query([]) == []


def test_similarity(model, encoder):
    queries, documents = model.encode_query([QUERY, "split"]), model.encode_document(DOCUMENTS)
    scores = model.similarity(queries, documents)
    assert scores.shape == (2, 4) and scores.dtype == np.float32
    vectors = encoder.encode_documents(DOCUMENTS)
    for row, query in zip(scores, queries, strict=True):
        np.testing.assert_array_equal(row, maxsim(query, vectors))
    np.testing.assert_array_equal(model.similarity(queries[0], documents[0]), scores[:1, :1])
    np.testing.assert_array_equal(model.similarity(encoder.encode_queries([QUERY]), vectors), scores[:1])
    pairs = model.similarity_pairwise([queries[0], queries[1]], documents[:2])
    np.testing.assert_allclose(pairs, [scores[0, 0], scores[1, 1]], rtol=1e-6)
    assert model.similarity([], documents).shape == (0, 4)
    assert model.similarity_pairwise([], []).shape == (0,)


def test_mean_similarity(encoder):
    model = MultiVectorEncoder(encoder, similarity_fn_name="meanmaxsim")
    queries, documents = model.encode_query([QUERY]), model.encode_document(DOCUMENTS)
    whole = MultiVectorEncoder(encoder).similarity(queries, documents)
    np.testing.assert_allclose(model.similarity(queries, documents), whole / len(queries[0]), rtol=1e-6)
    np.testing.assert_array_equal(model.similarity(queries, documents, length_normalize=False), whole)
    assert model.similarity_pairwise(queries, documents[:1])[0] == pytest.approx(
        whole[0, 0] / len(queries[0])
    )


def test_padded_arrays_and_documents_without_tokens(model):
    queries, documents = model.encode_query([QUERY]), model.encode_document(DOCUMENTS[:2])
    padded = np.zeros((2, 40, model.get_embedding_dimension()), np.float32)
    for row, matrix in zip(padded, documents, strict=True):
        row[: len(matrix)] = matrix
    np.testing.assert_array_equal(model.similarity(queries, padded), model.similarity(queries, documents))
    # Rows of zeros would be a better match than any token of these, and would count as tokens of a query.
    away = [-np.abs(matrix) for matrix in documents]
    toward = [np.abs(matrix) for matrix in queries]
    padded_away = np.pad(away[0], ((0, 5), (0, 0)))[None]
    np.testing.assert_array_equal(model.similarity(toward, padded_away), model.similarity(toward, away[:1]))
    assert model.similarity(toward, padded_away) < 0
    padded_query = np.pad(queries[0], ((0, 5), (0, 0)))[None]
    mean = model.similarity(queries, documents, length_normalize=True)
    np.testing.assert_allclose(
        model.similarity(padded_query, documents, length_normalize=True), mean, rtol=1e-6
    )
    empty = documents[0][:0]
    assert model.similarity(queries, [documents[0], empty])[0, 1] == -1e9
    assert model.similarity_pairwise(queries, [empty]).tolist() == [-1e9]


def test_prompts_go_before_the_texts(encoder):
    model = MultiVectorEncoder(
        encoder, prompts={"query": "search: ", "code": "code: "}, default_prompt_name="code"
    )
    same = np.testing.assert_array_equal
    same(model.encode_query(QUERY), encoder.encode_queries(["search: " + QUERY])[0])
    same(model.encode_query(QUERY, prompt="find: "), encoder.encode_queries(["find: " + QUERY])[0])
    same(model.encode_document("a text", prompt_name="code"), encoder.encode_documents(["code: a text"])[0])
    same(model.encode_document("a text"), encoder.encode_documents(["a text"])[0])
    same(model.encode("a text"), encoder.encode_documents(["code: a text"])[0])


def test_what_it_says_about_itself(model, encoder):
    assert model.device == "cpu" and model.get_embedding_dimension() == 128
    assert model.max_seq_length == model.get_max_seq_length() == 512
    assert model.similarity_fn_name == "maxsim" and model.get_backend() == "onnx"
    small = MultiVectorEncoder(
        "starter", device="cpu", dim=64, threads=1, trust_remote_code=True, backend="torch"
    )
    assert small.encode_query("a").shape[1] == 64
    pool = model.start_multi_process_pool()
    assert len(model.encode_document(DOCUMENTS, pool=pool)) == 4
    model.stop_multi_process_pool(pool)
    assert len(model.encode_document(DOCUMENTS[0], pool_factor=2)) < len(model.encode_document(DOCUMENTS[0]))


def test_a_bar_is_shown_where_logging_is_at_info(model, capsys, caplog):
    model.encode_document(DOCUMENTS)
    assert "encode" not in capsys.readouterr().err
    with caplog.at_level(logging.INFO):
        model.encode_document(DOCUMENTS)
        assert "encode" in capsys.readouterr().err
        model.encode_document(DOCUMENTS, show_progress_bar=False)
        assert "encode" not in capsys.readouterr().err


WRONG = [
    ({"batch_size": 0}, "batch_size must be a positive integer"),
    ({"output_value": None}, "token_embeddings"),
    ({"device": "cuda:1"}, "device should be the model's"),
    ({"prompt_name": "nix"}, "Prompt name 'nix' not found"),
    ({"convert_to_numpy": True, "convert_to_tensor": True}, "cannot both"),
    ({"inputs": ["a text", 3]}, r"documents\[1\]|1"),
]


@pytest.mark.parametrize("settings, message", WRONG, ids=str)
def test_what_does_not_fit_is_a_value_error(model, settings, message):
    with pytest.raises(ValueError, match=message):
        model.encode_document(**{"inputs": DOCUMENTS, **settings})


def test_other_mistakes(model, encoder):
    with pytest.raises(TypeError, match="truncate_dim"):
        model.encode_query(QUERY, truncate_dim=3)
    with pytest.raises(ValueError, match="task"):
        model.encode(QUERY, task="clustering")
    with pytest.raises(ValueError, match="similarity_fn_name"):
        MultiVectorEncoder(encoder, similarity_fn_name="cosine")
    with pytest.raises(ValueError, match="default_prompt_name"):
        MultiVectorEncoder(encoder, default_prompt_name="nix")
    with pytest.raises(ValueError, match="same number of items"):
        model.similarity_pairwise(np.ones((1, 2, 128)), np.ones((2, 2, 128)))
    with pytest.raises(ValueError, match=r"embeddings2\[1\].*\(128,\)"):
        model.similarity(np.ones((2, 128)), [np.ones((2, 128)), np.ones(128)])
    with pytest.raises(ValueError, match=r"embeddings1.*\(128,\)"):
        model.similarity(np.ones(128), [np.ones((2, 128))])
    with pytest.raises(InvalidInput, match="64"):
        model.similarity(np.ones((2, 128)), np.ones((2, 64)))


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is here")
def test_tensors_need_torch(model):
    with pytest.raises(RuntimeUnavailable, match="pip install torch"):
        model.encode_query(QUERY, convert_to_tensor=True)
