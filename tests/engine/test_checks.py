"""The rules for what callers pass in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.checks import check_k, check_query, clean_text, whole_number
from latebolt.errors import InvalidInput

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # surrogates too


@given(ANY_TEXT)
def test_clean_text_can_be_written_as_utf8_and_stays_what_it_is(text):
    cleaned = clean_text(text)
    assert cleaned.encode().decode() == cleaned == clean_text(cleaned)
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned is text


def test_halves_of_characters():
    assert clean_text("cheap \ud83d") == "cheap �"
    assert clean_text("\udc00a\ud800b") == "�a�b"
    assert clean_text("\ud83d\ude00") == "😀"  # two halves that belong together
    assert check_query("flights \ud83d") == "flights �"


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_python_and_numpy(value):
    assert check_k(value) == 3 and type(check_k(value)) is int


@pytest.mark.parametrize("value", [0, -1, True, np.True_, 3.0, np.float32(3), "3", None, [3]])
def test_what_is_no_whole_number_of_at_least_one(value):
    with pytest.raises(InvalidInput, match="n_hits should be an int of at least 1"):
        check_k(value, "n_hits")


def test_least():
    assert whole_number(np.int32(0), "n", least=0) == 0
