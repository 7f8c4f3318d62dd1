"""Words as BM25 counts them, in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.index.postings import PostingsBlock, unpack_lengths, unpack_postings
from latebolt.index.words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Café's naïve_user-id 3.85", ["the", "cafe", "s", "naive", "user", "id", "3", "85"]),
        ("Straße ΣΊΣΥΦΟΣ ﬁne", ["strasse", "σισυφοσ", "fine"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),  # vowel signs stay, the danda goes
        ("東京", ["東", "京", "東京"]),
        ("猫", ["猫"]),
        ("ｶﾞラス", ["ガ", "ラ", "ス", "ガラ", "ラス"]),  # half-width kana are composed
        ("한국", ["한", "국", "한국"]),
        ("abc東京9", ["abc", "東", "京", "東京", "9"]),
        ("ไทย", ["ไ", "ท", "ย", "ไท", "ทย"]),
        ('" OR * NEAR/2 ( -', ["or", "near", "2"]),
        ("\ud800 \x00", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


@given(st.text(max_size=60))
def test_words_are_settled_and_storable(text):
    for word in words_of(text):
        assert word and word.encode() and not word.isspace()
    assert words_of(text.upper()) == words_of(text.upper().casefold())


@given(st.lists(st.lists(st.sampled_from(["a", "b", "東京"]), max_size=400), max_size=8), st.integers(0, 9))
def test_a_block_gives_back_what_came_in(documents, first):
    block = PostingsBlock(first)
    for words in documents:
        block.add(" ".join(words))
    assert block.next_row == first + len(documents)
    lengths = [len(words_of(" ".join(words))) for words in documents]
    assert unpack_lengths(block.lengths).tolist() == lengths
    found = {}
    for word, start, content in block.postings():
        rows, counts = unpack_postings(start, content)
        found |= {(row, word): n for row, n in zip(rows.tolist(), counts.tolist(), strict=True)}
    expected = {}
    for row, words in enumerate(documents, start=first):
        every = words_of(" ".join(words))
        expected |= {(row, word): min(every.count(word), 255) for word in every}
    assert found == expected
