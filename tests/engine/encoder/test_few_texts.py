"""`few_texts`: the whole tokenizer's tokens from a part of its pieces, and where that ends."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from languages import READ_BY_MULTILINGUAL
from tokenizers import Tokenizer

from latebolt import Encoder, Index
from latebolt.encoder import few_texts
from latebolt.encoder.few_texts import FewTexts
from latebolt.encoder.model_folder import find
from latebolt.encoder.text import TextPipeline
from latebolt.errors import ModelError

TEXTS = [
    *READ_BY_MULTILINGUAL.values(),
    "",
    "  two  spaces\tand\nlines ",
    "nothing knows \U0010fffd\U0010fffd\ue000, nor \U00013000\U00013001",
    "ﬁne ＡＢＣ ①② é e\u0301 ｱ ＜s＞ 🙂👩‍👩‍👧 \u200b\u00ad",
    "Donaudampfschifffahrtsgesellschaft" * 20,
    "▁▁a ▁b",
    "0x7fffffff == 2147483647; f(x) = x**2",
]


@pytest.fixture(scope="module")
def content() -> bytes:
    return find("multilingual").tokenizer_file.read_bytes()


@pytest.fixture(scope="module")
def whole(content) -> Tokenizer:
    return Tokenizer.from_buffer(content)


@pytest.fixture(scope="module")
def parsed(content):
    return few_texts.msgspec.json.decode(content, type=few_texts._File)


def made(content: bytes) -> Tokenizer:
    with few_texts.expected():
        return few_texts.made_of(content)


def same(found, wanted) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.ids == theirs.ids and ours.offsets == theirs.offsets
        assert ours.word_ids == theirs.word_ids and ours.tokens == theirs.tokens
        assert ours.special_tokens_mask == theirs.special_tokens_mask


LOTS = 20  # each of a few texts whose languages are far apart, so that none has the pieces of another


@pytest.mark.parametrize("texts", [TEXTS[lot::LOTS] for lot in range(LOTS)])
def test_texts_have_the_tokens_of_the_whole_tokenizer(content, parsed, whole, texts):
    few = FewTexts(content, parsed)
    same(
        few.encode_batch(texts, add_special_tokens=False),
        whole.encode_batch(texts, add_special_tokens=False),
    )
    fast = few.encode_batch_fast(texts, add_special_tokens=False)
    wanted = whole.encode_batch_fast(texts, add_special_tokens=False)
    assert [each.ids for each in fast] == [each.ids for each in wanted]
    for text in texts:
        same([few.encode(text, add_special_tokens=False)], [whole.encode(text, add_special_tokens=False)])
    assert few._whole is None


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.text(max_size=60),
            st.lists(st.sampled_from([*TEXTS, " ", "\u0301", "ﷺ"]), max_size=3).map("".join),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_so_has_any(content, parsed, whole, texts):
    few = FewTexts(content, parsed)
    for some in (texts[:1], texts):
        same(
            few.encode_batch(some, add_special_tokens=False),
            whole.encode_batch(some, add_special_tokens=False),
        )


@pytest.mark.parametrize(
    ("ask", "with_special"),
    [
        (["word " * 10_000], False),
        (["a text that spells </s> out"], False),
        (["a text"], True),
    ],
)
def test_what_a_part_cannot_do_the_whole_does(content, whole, ask, with_special):
    few = made(content)
    same(
        few.encode_batch(ask, add_special_tokens=with_special),
        whole.encode_batch(ask, add_special_tokens=with_special),
    )
    assert few._whole is not None


def test_pieces_are_added_twice_and_then_all_are_there(content, whole):
    few = made(content)
    for i, text in enumerate(["one", "one", "zwei Häuser", "zwei one", "трое", "四つ"]):
        same(
            few.encode_batch([text], add_special_tokens=False),
            whole.encode_batch([text], add_special_tokens=False),
        )
        assert (few._whole is None) == (i < 4), text
    with pytest.raises(AttributeError):
        _ = made(content)._nothing


def test_all_else_is_asked_of_the_whole(content, whole):
    few = made(content)
    assert few.get_vocab_size() == whole.get_vocab_size() and few._whole is None
    added = {i: token.content for i, token in few.get_added_tokens_decoder().items()}
    assert added == {i: token.content for i, token in whole.get_added_tokens_decoder().items()}
    assert few.token_to_id("▁the") == whole.token_to_id("▁the") and few._whole is not None
    assert few.get_vocab(False) == whole.get_vocab(False)


def test_threads_share_one(content, whole):
    few, texts = made(content), [*READ_BY_MULTILINGUAL.values()][:8]
    wanted = whole.encode_batch(texts, add_special_tokens=False)
    found = {}

    def encode(i: int) -> None:
        found[i] = few.encode_batch([texts[i]], add_special_tokens=False)

    threads = [threading.Thread(target=encode, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same([found[i][0] for i in range(len(texts))], wanted)


@pytest.fixture(scope="module")
def shorter(content) -> bytes:
    """A vocabulary that is just large enough to be taken in parts."""
    return changed(
        content, lambda each: each["model"].update(vocab=each["model"]["vocab"][: few_texts._LEAST_PIECES])
    )


def changed(content: bytes, change) -> bytes:
    parsed = json.loads(content)
    change(parsed)
    return json.dumps(parsed).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda each: each["model"].update(byte_fallback=True),
        lambda each: each["model"].update(vocab=each["model"]["vocab"][:40_000]),
        lambda each: each["added_tokens"][0].update(normalized=True),
        lambda each: each["added_tokens"].append(
            {**each["added_tokens"][0], "id": 165_000, "content": "[Q]"}
        ),
        lambda each: each.update(normalizer=None),
    ],
)
def test_other_tokenizers_are_loaded_whole(shorter, change):
    assert isinstance(made(shorter), FewTexts)
    assert isinstance(made(changed(shorter, change)), Tokenizer)


def test_it_is_only_made_where_few_texts_are_expected(content):
    assert isinstance(few_texts.made_of(content), Tokenizer)
    assert isinstance(made(find("starter").tokenizer_file.read_bytes()), Tokenizer)
    assert isinstance(made(content), FewTexts)


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"model": {"type": "Unigram"}}', b"\xff"])
def test_what_is_no_tokenizer_is_told_as_ever(tmp_path, damage):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(damage)
    with few_texts.expected(), pytest.raises(ModelError, match="Export the model again"):
        TextPipeline(file, find("multilingual").contract)


def test_a_search_finds_the_same(tmp_path):
    texts = [*READ_BY_MULTILINGUAL.values()]
    with Index.create(tmp_path / "i", Encoder.load("multilingual")) as index:
        index.add(texts[::3])
        wanted = [index.search(text, explain=True) for text in texts[:3]]
    for text, each in zip(texts, wanted, strict=False):
        with few_texts.expected(), Index.open(tmp_path / "i") as index:
            found = index.search(text, explain=True)
            assert isinstance(index.encoder._text._tokenizer, FewTexts)
        assert (found.hits, found.tokens) == (each.hits, each.tokens)


def test_what_is_unknown_costs_as_much_as_with_all_pieces(content):
    """By the worst of all pieces, which the texts need not have: `?bcdef` against `ab cd ef`."""

    def to_small(parsed) -> None:
        words = {"▁": -1.0, "ab": -20.0, "cd": -20.0, "ef": -20.0, "bcdef": -1.0, "zzz": -60.0}
        fillers = [[f"q{i}", -10.0] for i in range(few_texts._LEAST_PIECES)]
        parsed["model"]["vocab"][4:] = [*map(list, words.items()), *fillers]

    small = changed(content, to_small)
    few, whole = made(small), Tokenizer.from_buffer(small)
    assert isinstance(few, FewTexts)
    wanted = whole.encode_batch(["abcdef xx"], add_special_tokens=False)
    assert wanted[0].tokens[:4] == ["▁", "ab", "cd", "ef"] and wanted[0].ids[-1] == 3
    same(few.encode_batch(["abcdef xx"], add_special_tokens=False), wanted)
