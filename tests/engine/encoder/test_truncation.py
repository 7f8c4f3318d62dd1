"""What the model does not read is counted and told, once a call."""

from __future__ import annotations

import logging

import pytest

from latebolt import Encoder
from latebolt.encoder.tally import gathered

LONG = "word " * 600


@pytest.fixture
def told(caplog):
    """The messages of the package's logger."""
    caplog.set_level(logging.WARNING, "latebolt")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "latebolt"]


def test_documents_that_are_cut_are_counted_and_told_once(encoder, told):
    vectors = encoder.encode_documents([LONG, "short", LONG] * 4)
    assert vectors.n_truncated == 8 and vectors.truncated.tolist() == [True, False, True] * 4
    [message] = told()
    assert message.startswith("8 of 12 documents were longer than the 512 tokens")
    assert "passage_tokens" in message and "with_lengths" not in message  # 512 is all that the starter takes


def test_what_fits_is_not_told(encoder, told):
    vectors = encoder.encode_documents(["short", "w " * 510])
    assert vectors.n_truncated == 0 and vectors.truncated is None
    assert encoder.encode_queries(["short"]).n_truncated == 0
    assert told() == []


@pytest.mark.parametrize("kind", ("query", "document"))
def test_a_length_that_can_be_raised_is_named(encoder, told, kind):
    short = encoder.with_lengths(query=10, document=10)
    encode = short.encode_queries if kind == "query" else short.encode_documents
    assert encode([LONG]).n_truncated == 1
    [message] = told()
    assert f"with_lengths({kind}=...)" in message and "10 tokens" in message and "512" in message


def test_a_length_given_with_the_call_is_the_one_that_counts(encoder, told):
    assert encoder.encode_documents(["a b c d e f g"], max_length=5).n_truncated == 1
    assert "the 5 tokens" in told()[0] and "with_lengths(document=...)" in told()[0]
    assert encoder.encode_queries(["word " * 200], full_length=True).n_truncated == 0
    assert encoder.encode_queries([LONG], full_length=True).n_truncated == 1
    assert "the 512 tokens" in told()[1] and "with_lengths" not in told()[1]


def test_chunks_are_one_call(encoder, told):
    chunks = list(encoder.iter_documents([LONG, "a", LONG, "b", "c"], chunk=2))
    assert [chunk.n_truncated for chunk in chunks] == [1, 1, 0]
    [message] = told()
    assert message.startswith("2 of 5 documents were")


def test_reranking_tells(encoder, told):
    encoder.rerank("a word", [LONG, "a"])
    [message] = told()
    assert message.startswith("1 of 2 documents was")


def test_an_encoder_run_by_another_counts_and_tells(encoder, told):
    other = encoder.run_by(lambda tokens, kind: [encoder.vectors_of(each) for each in tokens])
    assert other.encode_documents(["a", LONG]).n_truncated == 1
    assert other.encode_queries([LONG]).n_truncated == 1
    assert len(told()) == 2


def test_pooling_and_slices_keep_the_count(encoder):
    vectors = encoder.encode_documents(["a", LONG, "b", LONG])
    assert encoder.pooled(vectors, 4).n_truncated == 2
    assert vectors[1:3].n_truncated == 1 and vectors[2:3].n_truncated == 0
    assert vectors[::-1].truncated.tolist() == [True, False, True, False]


def test_a_caller_that_gathers_speaks_for_itself(encoder, told):
    with gathered() as tally:
        encoder.encode_documents([LONG, "a"])
        encoder.encode_documents([LONG])
    assert (tally.n_texts, tally.n_truncated) == (3, 2) and told() == []
    encoder.encode_documents([LONG])
    assert len(told()) == 1


def test_cut_queries_are_still_summed_up():
    encoder = Encoder.load(threads=1)
    encoder.encode_queries([LONG, "a"])
    encoder.encode_queries([LONG])
    assert encoder.truncated_queries == 2
