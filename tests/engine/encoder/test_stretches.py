"""Long texts are tokenised stretch by stretch: the ids of the whole text, at the cost of what is kept."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from latebolt.encoder.model_folder import find
from latebolt.encoder.stretches import Stretches
from latebolt.encoder.text import TextPipeline

SHARED = Path(__file__).parents[4] / "shared" / "tokenizers"
FOLDERS = {"bert": find("starter").path, "unigram": SHARED / "xlm-roberta", "bpe": SHARED / "modernbert"}
# What texts are made of: scripts with and without white space, marks, rows of one character, added tokens.
KINDS = (
    *("the quick brown fox, jumps. over ", "ABC xyz", "0123456789 .,", "日本語中文漢字", "日本 語。、 "),
    *(
        "안녕하세요 세계",
        "ไทยภาษา",
        "مرحبا بالعالم ",
        "שָׁלוֹם ",
        "Привет мир ",
        "é́̈ a",
        " \t\n\r",
        "\u00a0\u3000\u200b ",
    ),
    *(
        "\x00\x01a ",
        "....",
        "'\"''s't ",
        "😀👍🏽 ",
        "▁ _",
        "[MASK] ",
        "<mask> ",
        "`~!@#$%^&*()",
        "\u1100\u1161\u11a8",
    ),
    *("e\u0301", "\ue000\ue001", "ﬁﷺ①", "a", "x"),
)


@pytest.fixture(scope="module", params=FOLDERS)
def tokenizer(request) -> Tokenizer:
    path = FOLDERS[request.param] / "tokenizer.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module")
def stretches(tokenizer) -> Stretches:
    return Stretches(tokenizer)


def joined(parts):
    ids, spans, begins = [], [], []
    for part in parts:
        ids += part.ids
        spans += part.spans
        begins += part.begins
    return ids, spans, begins


@st.composite
def texts(draw) -> str:
    """Some thousand characters, in runs of all lengths."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    goal, parts, n = rng.choice([500, 2000, 5000]), [], 0
    while n < goal:
        kind, length = rng.choice(KINDS), rng.choice([1, 1, 2, 5, 20, 100, 100, 600, 1500])
        way = rng.random()
        if way < 0.3:
            part = rng.choice(kind) * length
        elif way < 0.5:
            part = kind * max(1, length // len(kind))
        else:
            part = "".join(rng.choice(kind) for _ in range(length))
        parts.append(part)
        n += len(part)
    return "".join(parts)


@settings(max_examples=15, deadline=None)
@given(text=texts(), size=st.sampled_from([384, 500, 1000]))
def test_the_tokens_are_those_of_the_whole_text(stretches, text, size):
    parts = list(stretches.of(text, size))
    assert joined(parts) == tuple(stretches.whole(text))


def test_long_texts_do_come_in_stretches(stretches):
    assert stretches.is_local
    for text in ("the quick brown fox " * 2000, "日本語。" * 5000):
        parts = list(stretches.of(text, 2000))
        assert len(parts) > 3 and joined(parts) == tuple(stretches.whole(text))


@pytest.mark.parametrize(
    "unit", ("word and ", ".", "a", "日本語", "日本語。", " ", "ไทย", "aGVsbG8gd29ybGQhIQ9zZ", "\n")
)
def test_the_cost_follows_what_is_kept(stretches, unit):
    """Nothing of a text of millions of characters is read beyond the first tokens, or kept."""
    read = []
    whole = stretches._window

    def counted(text, first, last, *more):
        read.append(last - first)
        return whole(text, first, last, *more)

    stretches._window = counted
    try:
        text, n = unit * (1_000_000 // len(unit)), 0
        for part in stretches.of(text, 4096):
            n += len(part.ids)
            if n >= 512:
                break
    finally:
        del stretches._window
    assert max(read) < 300_000


def test_a_tokenizer_that_may_look_anywhere_is_left_alone():
    tokenizer = Tokenizer.from_file(str(FOLDERS["bert"] / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("fox jumps over", "isolated")
    strange = Stretches(tokenizer)
    assert not strange.is_local and len(list(strange.of("a fox jumps over " * 1000, 400))) == 1


def test_windows_that_contradict_each_other_end_in_the_whole_text(stretches):
    """As with a rule that this module does not know of: the tokens stay right."""
    text, real = "the quick brown fox " * 500, stretches._window
    expected = tuple(stretches.whole(text))

    def lying(text, first, last, *more):
        window = real(text, first, last, *more)
        if first > 0 and last < len(text):
            window.ids[:] = [7] * len(window.ids)
        return window

    stretches._window = lying
    try:
        assert joined(stretches.of(text, 1000)) == expected
    finally:
        del stretches._window


# The pipeline above it


@pytest.fixture(scope="module")
def pipeline(tokenizer) -> TextPipeline:
    folder = find("starter")
    made = TextPipeline(folder.tokenizer_file, folder.contract)
    made._tokenizer, made._stretches = tokenizer, Stretches(tokenizer)
    return made


@settings(max_examples=8, deadline=None)
@given(text=texts(), limit=st.integers(4, 60))
def test_a_document_is_cut_where_the_whole_one_would_be(pipeline, text, limit):
    text = text * 3
    [found] = pipeline.tokenize([text], "document", limit)
    body = pipeline._tokenizer.encode(text, add_special_tokens=False)
    frame, room = pipeline.contract.frame, limit - 2
    assert found.ids.tolist() == [*frame.prefix, *body.ids[:room], *frame.suffix]
    assert found.truncated == (len(body.ids) > room)
    assert pipeline.spans(text, "document", limit) == [(0, 0), *body.offsets[:room], (0, 0)]


@pytest.mark.parametrize("unit", ("word and ", ".", "a", "日本語。"))
def test_a_text_of_megabytes_takes_the_memory_of_its_beginning(encoder, unit):
    text = unit * (3_000_000 // len(unit))
    tracemalloc.start()
    vectors = encoder.encode_documents([text])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert vectors.n_truncated == (unit != "a") and vectors.n_tokens <= 512
    assert peak < 30_000_000  # the text's copies aside, of which there are few


def test_word_and_sentence_parts_of_long_texts_are_streamed(encoder):
    text = "the quick brown fox jumps over the lazy dog. " * 4000
    [parts] = encoder.token_parts([text])
    parts = list(parts)
    [whole] = encoder.text_tokens([text])
    assert len(parts) > 5 and sum(len(part.spans) for part in parts) == len(whole.spans) == 40_000
    expected = encoder._text._tokenizer.encode(text, add_special_tokens=False)
    assert whole.spans == expected.offsets and whole.begins.count(True) == 40_000
