"""Texts in a script that a model does not read are known by its tokenizer's tokens, and no others are."""

from __future__ import annotations

import base64
import inspect
import json
import logging
import random
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from languages import READ_BY_MULTILINGUAL, READ_BY_NONE
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

import latebolt
from latebolt.encoder import legibility
from latebolt.encoder.legibility import Legibility, sampled
from latebolt.encoder.model_folder import find
from latebolt.encoder.tally import Letters, gathered

SHARED = Path(__file__).parents[4] / "shared" / "tokenizers"
FOLDERS = {
    "starter": find("starter").path,
    "multilingual": find("multilingual").path,
    "bytes": SHARED / "modernbert",
}

LATIN = {name: text for name, text in READ_BY_MULTILINGUAL.items() if "LATIN" in unicodedata.name(text[0])}
OTHERS = {name: text for name, text in READ_BY_MULTILINGUAL.items() if name not in LATIN}
# Of no language, and nothing that another model would read better.
NO_LANGUAGE = {
    "python": inspect.getsource(json.decoder),
    "one letter names": "for (i = 0; i < n; i++) { x[i] += a * y[j]; } // é",
    "numbers": "3.14159 2,71828 0x1F ½ ² ٣٤٥ 一 1999-12-31 +49 30 1234567 €5 ₽ " * 9,
    "emoji": "great 😀 food 🍕🍕 and nice people ❤️ 🎉 party lol 😂😂😂 👍🏽 thanks 👩‍👩‍👧 ",
    "emoji on words": "great😀 food🍕🍕 nice👍 people❤️ 🎉party🎉 lol😂😂 thanks🙏 ok👌",
    "only emoji": "😀🍕👍🏽❤️🎉😂👩‍👩‍👧🙏" * 9,
    "base64": base64.b64encode(random.Random(1).randbytes(3000)).decode() + "é",
    "hex": random.Random(1).randbytes(3000).hex() + " é",
    "mathematics": "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε. α+β=γ, λ·μ ∈ ℝⁿ " * 5,
    "names": "Łódź, Kraków, Zürich, São Paulo, Reykjavík, Þingvellir, Şişli, İzmir, Đà Nẵng",
    "quotation": "The capital of Russia is Moscow (Москва), in older texts also Moskau; of Greece, Athens.",
    "nothing": "",
    "marks": " . , ; — ́ ̈ \u200b \ufffd \U0010fffd ",
}


@pytest.fixture(scope="module", params=FOLDERS)
def tokenizer(request) -> Tokenizer:
    path = FOLDERS[request.param] / "tokenizer.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return Tokenizer.from_file(str(path))


@pytest.fixture(scope="module")
def starter() -> Legibility:
    return Legibility(Tokenizer.from_file(str(find("starter").tokenizer_file)))


@pytest.fixture(scope="module")
def multilingual() -> Legibility:
    return Legibility(Tokenizer.from_file(str(find("multilingual").tokenizer_file)))


def unread(reader: Legibility, *texts: str) -> bool:
    """By all letters, which a sample of longer texts agrees with."""
    whole, part = reader.letters(texts), reader.letters(sampled([f"{text} " * 4 for text in texts]))
    assert whole.are_mostly_unread == part.are_mostly_unread, (texts, whole, part)
    return whole.are_mostly_unread


# Real languages


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_not_in_latin_letters_is_unread_by_the_starter_and_read_by_multilingual(
    starter, multilingual, language
):
    assert unread(starter, OTHERS[language])
    assert not unread(multilingual, OTHERS[language])


@pytest.mark.parametrize("language", LATIN)
def test_latin_letters_are_read_by_both(starter, multilingual, language):
    assert not unread(starter, LATIN[language])
    assert not unread(multilingual, LATIN[language])


@pytest.mark.parametrize("language", READ_BY_NONE)
def test_some_scripts_are_read_by_none(starter, multilingual, language):
    assert unread(starter, READ_BY_NONE[language])
    assert unread(multilingual, READ_BY_NONE[language])


@pytest.mark.parametrize("what", NO_LANGUAGE)
def test_what_is_no_language_is_no_unread_script(starter, multilingual, what):
    assert not unread(starter, NO_LANGUAGE[what])
    assert not unread(multilingual, NO_LANGUAGE[what])


def test_short_texts_of_a_word_or_two(starter, multilingual):
    for text in (
        "これはペンです。",
        "東京は日本の首都です",
        "北京是中国的首都",
        "Привет",
        "สวัสดีครับ",
        "नमस्ते दुनिया",
    ):
        assert unread(starter, text) and not unread(multilingual, text)
    assert not starter.letters(["да"]).are_mostly_unread  # too little to say


@given(st.data())
def test_parts_of_sentences_and_mixtures(starter, multilingual, data):
    """Some words say what the whole says; a mixture says what most of it says."""
    name = data.draw(st.sampled_from(sorted(OTHERS)))
    text = OTHERS[name]
    start = data.draw(st.integers(0, max(0, len(text) - 60)))
    part = text[start : start + data.draw(st.integers(60, 92))]
    assert starter.letters([part]).are_mostly_unread
    assert not multilingual.letters([part]).are_mostly_unread
    german = LATIN["deu"]
    assert not starter.letters([part, german, german]).are_mostly_unread
    assert starter.letters([text, text, text, text, german]).are_mostly_unread


@given(st.sampled_from(sorted(READ_BY_MULTILINGUAL)), st.randoms(use_true_random=False))
def test_numbers_marks_and_emoji_between_words_change_nothing(starter, language, rng):
    words = READ_BY_MULTILINGUAL[language].split()
    between = ["42", "😀", "—", "❤️", "3,5", "…", "!?"]
    sprinkled = " ".join(part for word in words for part in (word, rng.choice(between)))
    assert starter.letters([sprinkled]) == starter.letters([" ".join(words)])


# Held against a plain reading of the definition


def plainly(tokenizer: Tokenizer, unknown: int | None, ideographs: bool, text: str) -> Letters:
    """Letter by letter, of a model that reads English and marks a space by ▁."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    tokens = [
        (id, text[first:last].strip(), first, last)
        for id, token, (first, last) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        if token != "▁"
    ]
    n = unread = 0
    for i, letter in enumerate(text):
        if not letter.isalpha():
            continue
        holding = [(id, piece) for id, piece, first, last in tokens if first <= i < last]
        is_read = letter.isascii()
        if not is_read and len(holding) == 1:
            [(id, piece)] = holding
            around = text[max(0, i - 1) : i] + text[i + 1 : i + 2]
            if id == unknown:
                if any(unicodedata.category(c)[0] not in "LMNZ" for c in piece):
                    continue
            elif len(piece) > 1:
                is_read = True
            elif legibility._SYLLABLE_OR_WORD.match(letter):
                is_read = ideographs
            else:
                is_read = not any(unicodedata.category(c)[0] in "LM" for c in around)
        n, unread = n + 1, unread + (not is_read)
    return Letters(n, unread)


KINDS = (
    *OTHERS.values(),
    *(LATIN["vie"], LATIN["deu"], LATIN["azj"]),
    *NO_LANGUAGE.values(),
    *READ_BY_NONE.values(),
    *("한국어ᄀ", "ﬁﷺ①㈱", "x²y", "e\u0301", "ㄱㄴ", "ｶﾞ", "〇々", "中a文b", "[UNK] <unk>", "naïve™"),
)


@settings(max_examples=300)
@given(st.randoms(use_true_random=False))
def test_letters_are_counted_as_they_are_defined(tokenizer, rng):
    parts = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.choice(KINDS)
        start = rng.randint(0, len(kind))
        parts.append(kind[start : start + rng.randint(1, 30)])
    text = rng.choice(["", " "]).join(parts)
    reader = Legibility(tokenizer)
    kind = type(tokenizer.model).__name__
    unknown = {"WordPiece": 100, "Unigram": 3, "BPE": None}[kind]
    assert reader.letters([text]) == plainly(tokenizer, unknown, kind == "Unigram", text)


@given(st.lists(st.sampled_from(KINDS), max_size=6))
def test_texts_add_up(starter, texts):
    each = [starter.letters([text]) for text in texts]
    assert starter.letters(texts) == (sum(one.n for one in each), sum(one.unread for one in each))


# Models of other kinds


def wordpiece(pieces: list[str], **options: object) -> Tokenizer:
    made = Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(["[UNK]", *pieces])}, unk_token="[UNK]", **options
        )
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


ENGLISH_WORDS = legibility._ENGLISH.split()


def test_a_model_of_chinese_characters_reads_chinese():
    reader = Legibility(wordpiece([chr(i) for i in range(0x4E00, 0x9FFF)] + ENGLISH_WORDS))
    assert not unread(reader, READ_BY_MULTILINGUAL["cmn_hans"])
    assert unread(reader, READ_BY_MULTILINGUAL["tha"]) and unread(reader, READ_BY_MULTILINGUAL["rus"])


def test_a_model_of_single_characters_reads_what_it_knows():
    letters = sorted({c for text in (*LATIN.values(), READ_BY_MULTILINGUAL["rus"]) for c in text.lower()})
    reader = Legibility(wordpiece([*letters, *("##" + c for c in letters)]))
    assert not unread(reader, READ_BY_MULTILINGUAL["rus"]) and not unread(reader, LATIN["eng"])
    assert unread(reader, READ_BY_MULTILINGUAL["tha"])


def test_a_model_of_bytes_reads_everything():
    made = Tokenizer(
        models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    reader = Legibility(made)
    assert not any(unread(reader, text) for text in READ_BY_MULTILINGUAL.values())


def test_a_model_that_knows_no_english():
    words = READ_BY_MULTILINGUAL["rus"].lower().replace(".", " ").split()
    reader = Legibility(wordpiece(words))
    assert not unread(reader, READ_BY_MULTILINGUAL["rus"])
    assert unread(reader, LATIN["eng"]) and unread(reader, READ_BY_MULTILINGUAL["tha"])


def test_byte_pairs_that_drop_what_they_do_not_know():
    made = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert unread(Legibility(made), "Привет мир")


def test_a_word_longer_than_the_model_looks_at_is_no_script(starter):
    assert starter.letters(["é " + "abcdefghij" * 30]).unread == 0


# What is looked at, and what it costs


def test_a_sample_is_small_and_from_everywhere():
    assert sampled([]) == [] and sampled([""]) == [""] and sampled(["short"]) == ["short"]
    for n, length in ((1, 10**6), (5, 3000), (50, 200), (10_000, 50), (1_000, 100_000)):
        parts = sampled(["x" * length] * n)
        assert 1 <= len(parts) <= 64 and all(0 < len(part) <= 52 for part in parts)
        assert sum(map(len, parts)) <= max(20, n * length // 2)
    text = "of the people and of their representatives in every country of the world " * 9
    for cut in (sampled([text]), sampled([text[:74]]), sampled([text[:26], text[:221]])):
        assert all(f" {part.strip()} " in f" {text}" for part in cut)  # whole words
    texts = ["a" * 3000, *["b" * 10] * 3]
    assert {part[0] for part in sampled(texts)} == {"a", "b"}
    assert len(set(sampled([str(i) for i in range(1000)]))) == 64
    book = "".join(chr(0x4E00 + i) for i in range(8000))
    places = [book.index(part[0]) for part in sampled([book])]
    assert places == sorted(places) and places[0] < 2000 and places[-1] > 6000


def test_a_heading_or_one_document_of_many_does_not_speak_for_all(starter):
    russian, english = READ_BY_MULTILINGUAL["rus"], LATIN["eng"]
    headed = english[:60] + "\n" + (russian + " ") * 9
    assert starter.letters(sampled([headed])).are_mostly_unread
    quoting = (english + " ") * 4 + russian + (" " + english) * 4
    assert not starter.letters(sampled([quoting])).are_mostly_unread
    for n in (3, 8, 40, 2000):
        texts = [english] * n
        texts[n // 2] = russian
        assert not starter.letters(sampled(texts)).are_mostly_unread
        assert starter.letters(sampled([russian] * n)).are_mostly_unread


@pytest.mark.parametrize("language", ("eng", "deu", "rus"))
def test_it_costs_less_than_a_hundredth_of_encoding(encoder, language):
    texts = [READ_BY_MULTILINGUAL[language] * 3] * 64
    encoder.legibility(sampled(texts))
    encoder.encode_documents(texts[:8])

    def seconds(work) -> float:
        start = time.process_time()  # other work on the machine is not counted
        work()
        return time.process_time() - start

    looking = min(seconds(lambda: [encoder.legibility(sampled(texts)) for _ in range(10)]) for _ in range(3))
    assert looking / 10 < 0.01 * seconds(lambda: encoder.encode_documents(texts))


# What is told


def test_the_words(caplog):
    caplog.set_level(logging.WARNING, "latebolt")
    assert legibility.warn(Letters(200, 190), "starter")
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(
        '95 % of the letters in a sample of these texts are in words that model "starter"'
    )
    assert 'Encoder.load("multilingual")' in message and "--model multilingual" in message
    assert "\n" not in message
    assert "bm25" in legibility.sentence(Letters(9, 9), "multilingual")
    assert "Encoder" not in legibility.sentence(Letters(9, 9), "multilingual")
    caplog.clear()
    assert not legibility.warn(Letters(200, 190), "starter", silent=True)
    assert not legibility.warn(Letters(200, 100), "starter") and not legibility.warn(Letters(), "starter")
    with gathered() as tally:
        assert not legibility.warn(Letters(200, 190), "starter", silent=True)
        assert not legibility.warn(Letters(10, 1), "starter")
    assert tally.letters == (210, 191) and not caplog.records


def test_an_encoder_says_it_of_any_texts(encoder):
    assert encoder.legibility(["Привет, мир"]) == (9, 9)
    assert encoder.legibility(["hello", "world"]) == (10, 0)
    with pytest.raises(latebolt.LateboltError, match="texts should be a list of str"):
        encoder.legibility("hello")
