"""Alignment: which words matched."""

from __future__ import annotations

from latebolt import TokenVectors, maxsim
from latebolt.alignment import align
from latebolt.hits import TokenMatch, WordMatch, match_words


def test_words_find_their_like(encoder):
    text = "The population grows (in Berlin) to 3.85 million."
    [other, found] = align(encoder, "populations of Berlin", ["Berlin", text])
    assert other[2].query_word == "Berlin" and other[2].document_word == "Berlin"
    by_word = {match.query_word: match for match in found}
    assert list(by_word) == ["populations", "of", "Berlin"]
    assert by_word["Berlin"].document_word == "Berlin" and by_word["Berlin"].similarity > 0.8
    assert by_word["populations"].document_word == "population"


def test_a_word_of_several_tokens_is_reported_once(encoder):
    [found] = align(encoder, "unbelievableness", ["the unbelievableness of it"])
    assert [match.query_word for match in found] == ["unbelievableness"]
    assert found[0].document_word == "unbelievableness"


def test_a_sign_behind_a_word_is_no_part_of_it():
    tokens = [TokenMatch((0, 6), (4, 10), 0.5), TokenMatch((6, 7), (10, 11), 0.9)]
    assert match_words("Berlin?", "the Berlin!", tokens) == [
        WordMatch("Berlin", "Berlin", 0.5),
        WordMatch("?", "!", 0.9),
    ]


def test_maxsim_is_the_sum_of_the_best(rng):
    query = rng.unit(3, 8)
    documents = TokenVectors.from_matrices([query, -query, query[:0]])
    scores = maxsim(query, documents)
    assert abs(scores[0] - 3) < 1e-5 and scores[1] < scores[0] and scores[2] == 0
