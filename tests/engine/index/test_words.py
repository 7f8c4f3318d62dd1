"""Words as BM25 counts them, in any script."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.index.documents import postings
from latebolt.index.documents.postings import PostingsBlock, unpack_lengths, unpack_postings
from latebolt.index.documents.words import fold, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Café's naïve_user-id 3.85", ["the", "cafe", "s", "naive", "user", "id", "3", "85"]),
        ("Straße ΣΊΣΥΦΟΣ ﬁne", ["strasse", "σισυφοσ", "fine"]),
        ("भारतीय भाषा।", ["भारतीय", "भाषा"]),  # vowel signs stay, the danda goes
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


ONE_WORD = {
    "Arabic with its vowels": ("مَرْحَبًا", "مرحبا", "مـــرحبا", "\u200fمرحبا\u200e"),
    "alef, and letters with two codes": ("أحمد", "احمد", "اَحمد"),
    "alef wasla": ("ٱلقرآن", "القران"),
    "presentation forms": ("ﻣﺮﺣﺒﺎ", "مرحبا"),
    "teh marbuta, alef maksura": ("مدرسة", "مدرسه"),
    "Persian yeh and kaf from an Arabic keyboard": ("کتاب‌های", "كتابهاي", "کتابهای"),
    "Hebrew with its points": ("שָׁלוֹם", "שלום", "שָׁל\u200dוֹם"),
    "Syriac": ("ܫܠܳܡܳܐ", "ܫܠܡܐ"),
    "format characters": (
        "photo\u00adsynthesis",
        "photo\u200bsynthesis",
        "photo\u2060synthesis",
        "photosynthesis",
    ),
    "byte order mark and joiners": (
        "\ufeffphotosynthesis",
        "photo\u200c\u200dsynthesis",
        "photosynthesis\ufe0f",
    ),
    "accents, composed or not": ("café", "cafe\u0301", "CAFÉ", "cafe"),
    "Vietnamese": ("Đường", "đường", "duong"),
    "letters that Unicode does not decompose": ("Łódź", "lodz", "ŁÓDŹ"),
    "Danish": ("smørrebrød", "SMØRREBRØD", "smorrebrod"),
    "ligatures": ("Œuvre", "oeuvre", "ŒUVRE"),
    "German": ("Straße", "STRASSE", "strasse", "STRAẞE"),
    "Turkish, either i": ("ılık", "ILIK", "ilik", "İlik"),
    "Greek": ("Ελλάδα", "ΕΛΛΑΔΑ", "ελλαδα", "Ελλα\u0301δα"),
    "final sigma": ("λόγος", "ΛΟΓΟΣ"),
    "Russian with the stress": ("за\u0301мок", "замок", "ЗАМОК"),
    "Russian yo": ("ёлка", "елка", "е\u0308лка"),
    "short i, composed or not": ("мой", "мои\u0306", "МОЙ"),
    "Hindi nasals": ("हिन्दी", "हिंदी", "हिन्‍दी"),
    "nasals of all places": ("सम्बन्ध", "संबंध"),
    "Hindi nukta": ("फ़िल्म", "फिल्म", "फ\u093cिल्म"),
    "chandrabindu": ("हँसना", "हंसना"),
    "Bengali khanda ta": ("হঠাৎ", "হঠাত্‍"),
    "Malayalam chillu": ("അവൻ", "അവന്‍"),
    "Tamil vowels of two parts": ("கொடி", "க\u0bc6\u0bbeடி"),
    "digits": ("٢٠٢٤", "۲۰۲۴", "२०२४", "２０２４", "2024"),
    "full width": ("ＡＢＣ", "abc"),
}


@pytest.mark.parametrize("spellings", ONE_WORD.values(), ids=ONE_WORD.keys())
def test_spellings_of_a_word_are_one_word(spellings):
    assert {tuple(words_of(spelling)) for spelling in spellings} == {tuple(words_of(spellings[0]))}
    assert len(words_of(spellings[0])) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("काल", "कल"),  # time, tomorrow: vowel signs
        ("किला", "कीला"),
        ("कर्म", "करम"),  # virama
        ("जन्म", "जंम"),  # a nasal that is no anusvara
        ("পড়া", "পরা"),  # read, wear
        ("கல்", "கால்"),  # stone, leg
        ("мой", "мои"),
        ("їжак", "іжак"),
        ("سؤال", "سوال"),  # hamza but on alef is a letter
        ("ガラス", "カラス"),  # glass, crow
        ("ދިވެހި", "ދވހ"),  # Thaana writes all its vowels
        ("བོད", "བད"),
    ],
)
def test_words_that_only_a_mark_tells_apart_stay_apart(one, other):
    assert words_of(one) != words_of(other)


@pytest.mark.parametrize("category", ["Cf", "Mn", "Mc", "Me"])
def test_a_mark_or_format_character_never_ends_a_word(category):
    characters = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == category]
    assert len(characters) > 10
    unspaced = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]")
    for character in characters:
        if unspaced.match(character):  # pieces, which are its own
            assert words_of(f"a{character}b")[0] == "a"
            continue
        [word] = words_of(f"ab{character}cd")
        assert word[:2] + word[-2:] == "abcd"
        assert category != "Cf" or word == "abcd"
        if character != "\u0345":  # which is an iota in capitals
            assert words_of(f"{character} ab") == ["ab"], "a mark alone is no word"


def test_folding_is_settled_for_every_character_in_every_form_and_case():
    for code in range(0x110000):
        character = chr(code)
        if 0xD800 <= code < 0xE000 or (character.isascii() and not character.isalpha()):
            continue
        folded = fold(character)
        if unicodedata.category(character) in ("Cn", "Co"):  # most of them, without case or other forms
            assert folded == character or fold(folded) == folded, hex(code)
            continue
        others = {character.upper(), character.lower(), character.title(), folded}
        others |= {unicodedata.normalize(form, character) for form in ("NFC", "NFD", "NFKC", "NFKD")}
        assert {fold(other) for other in others} == {folded}, hex(code)


@given(st.text(max_size=60))
def test_words_do_not_depend_on_the_form_of_the_text(text):
    for form in ("NFC", "NFD"):
        assert words_of(unicodedata.normalize(form, text)) == words_of(text)


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


@given(st.text(st.one_of(st.sampled_from(" \n\t-aé東\u0301\u200d\u00a0"), st.characters()), max_size=80))
def test_words_of_a_text_that_is_read_in_pieces_are_those_of_the_whole(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "PIECE", 5)
        pieces = list(postings._pieces(text))
    assert "".join(pieces) == text
    assert [word for piece in pieces for word in words_of(piece)] == words_of(text)


def test_a_book_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr(postings, "PIECE", 100)
    lengths = []
    monkeypatch.setattr(postings, "words_of", lambda text: lengths.append(len(text)) or words_of(text))
    block = PostingsBlock(0)
    block.add("some words " * 200)
    assert max(lengths) < 120 and unpack_lengths(block.lengths).tolist() == [400]
