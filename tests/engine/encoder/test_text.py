"""Texts to token ids: every rule of a contract, and every kind of odd text."""

from __future__ import annotations

import functools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt import contract as contracts
from latebolt.checks import check_texts
from latebolt.contract import Expansion, TextRules
from latebolt.encoder.model_folder import find
from latebolt.encoder.text import TextPipeline
from latebolt.errors import InvalidInput, ModelError

CLS, SEP, MASK, MARKER = 101, 102, 103, 1


def pipeline(**rules) -> TextPipeline:
    """The starter's tokenizer under another contract."""
    folder = find("starter")
    contract = msgspec.structs.replace(folder.contract, **rules)
    return TextPipeline(folder.tokenizer_file, contract)


def ids(pipe: TextPipeline, text: str, kind: str = "query", limit: int | None = None) -> list[int]:
    return pipe.tokenize([text], kind, limit)[0].ids.tolist()


def test_plain():
    pipe = pipeline()
    assert ids(pipe, "") == [CLS, SEP]
    assert ids(pipe, "Berlin") == ids(pipe, "BERLIN")
    assert ids(pipe, "berlin")[0] == CLS and ids(pipe, "berlin")[-1] == SEP


def test_marker_comes_second_and_truncation_counts_it():
    pipe = pipeline(query=TextRules(max_tokens=6, marker=MARKER))
    found = pipe.tokenize(["a b c d e f g h"], "query")[0]
    assert len(found.ids) == 6 and found.truncated
    assert found.ids[:2].tolist() == [CLS, MARKER] and found.ids[-1] == SEP
    assert not pipe.tokenize(["a b c"], "query")[0].truncated


@pytest.mark.parametrize(("attend", "attended"), [(True, 8), (False, 4)])
def test_expansion_fills_up_with_or_without_attention(attend, attended):
    pipe = pipeline(query=TextRules(max_tokens=8, marker=MARKER, expansion=Expansion(MASK, attend)))
    found = pipe.tokenize(["berlin"], "query")[0]
    assert found.ids.tolist()[:2] == [CLS, MARKER] and found.ids.tolist()[4:] == [MASK] * 4
    assert found.attended == attended and found.keep is None


def test_skiplist_drops_vectors_not_tokens():
    dot = ids(pipeline(), ".")[1]
    pipe = pipeline(document=TextRules(max_tokens=512, skiplist=(dot,)))
    found = pipe.tokenize(["a. b."], "document")[0]
    assert len(found.ids) == 6 and found.keep is not None and found.keep.sum() == 4


def test_expansion_to_a_length_of_its_own():
    pipe = pipeline(query=TextRules(max_tokens=12, expansion=Expansion(MASK, attend=True, length=6)))
    short, long = pipe.tokenize(["berlin", "a b c d e f g h"], "query")
    assert short.ids.tolist()[2:] == [SEP, MASK, MASK, MASK] and short.attended == 6
    assert len(long.ids) == long.attended == 10


def test_filled_tokens_may_be_dropped_too():
    rules = TextRules(max_tokens=8, expansion=Expansion(MASK, attend=False), skiplist=(MASK, SEP))
    found = pipeline(query=rules).tokenize(["berlin"], "query")[0]
    assert len(found.ids) == 8 and found.keep.tolist() == [True, True] + [False] * 6


def test_only_kept_ids_keep_their_vectors():
    berlin, dot = ids(pipeline(), "berlin .")[1:3]
    pipe = pipeline(document=TextRules(max_tokens=16, kept=(berlin, dot), skiplist=(dot,)))
    found = pipe.tokenize(["Berlin . a"], "document")[0]
    assert found.keep.tolist() == [False, True, False, False, False]
    pipe = pipeline(document=TextRules(max_tokens=16, kept=()))
    assert not pipe.tokenize(["Berlin"], "document")[0].keep.any()


def test_the_prompt_may_be_without_vectors():
    rules = TextRules(max_tokens=16, prompt="query: ", marker=MARKER, prompt_kept=False)
    pipe = pipeline(query=rules)
    found = pipe.tokenize(["query: berlin"], "query")[0]
    assert found.ids.tolist() == ids(
        pipeline(query=TextRules(max_tokens=16, marker=MARKER)), "query: query: berlin"
    )
    assert found.keep.tolist() == [True, True, False, False, True, True, True, True]  # the text's own stay
    assert [span for span in pipe.spans("berlin", "query") if span != (0, 0)] == [(0, 6)]
    assert pipe.tokenize([""], "query")[0].keep.tolist() == [True, True, False, False, True]
    colon = ids(pipeline(), ":")[1]
    skipping = pipeline(query=msgspec.structs.replace(rules, marker=None, skiplist=(CLS, SEP, colon)))
    found = skipping.tokenize(["berlin"], "query")[0]
    assert found.keep.tolist() == [False, False, False, True, False]
    # Nothing would be left of this one, and a text has a vector.
    assert skipping.tokenize([":"], "query")[0].keep.tolist() == [False, True, False, False, False]


@given(st.text(max_size=24))
def test_only_the_prompts_vectors_go_whatever_the_text_is(text):
    """The rules of the built-in model for many languages, whose pieces may cross the end of the prompt."""
    ours = many_languages()
    kept = many_languages(prompt_kept=True)
    [some], [all_] = ours.tokenize([text], "query"), kept.tokenize([text], "query")
    assert some.ids.tolist() == all_.ids.tolist()
    gone = [
        int(id) for id, more, less in zip(all_.ids, all_.keep, some.keep, strict=True) if more and not less
    ]
    prompt = kept.tokenize([""], "query")[0]
    assert gone == prompt.ids[prompt.keep][1:-1].tolist(), (
        "a piece of the text has gone, or one of the prompt stayed"
    )
    spans = [span for span in kept.spans(text, "query") if span != (0, 0)]
    assert [span for span in ours.spans(text, "query") if span != (0, 0)] == spans


@functools.cache
def many_languages(**changed) -> TextPipeline:
    folder = find("multilingual")
    rules = msgspec.structs.replace(folder.contract.query, **changed)
    return TextPipeline(folder.tokenizer_file, msgspec.structs.replace(folder.contract, query=rules))


def test_swapped_ids():
    pipe = pipeline(query=TextRules(max_tokens=16, swaps=((0, MASK),)))
    assert ids(pipe, "a [PAD] b") == [MASK if i == 0 else i for i in ids(pipeline(), "a [PAD] b")]


def test_white_space_around_prompt_and_text():
    pipe = pipeline(query=TextRules(max_tokens=16, prompt=" \n [unused0] x", strip=True))
    text = " berlin ! \x1f "
    assert ids(pipe, text) == ids(pipeline(), "[unused0] x berlin !")
    assert [text[a:b] for a, b in pipe.spans(text, "query")][-3:] == ["berlin", "!", ""]


def test_prompt_is_tokenised_with_the_text():
    pipe = pipeline(query=TextRules(max_tokens=64, prompt="query: "))
    assert ids(pipe, "berlin") == ids(pipeline(), "query: berlin")
    spans = pipe.spans("berlin", "query")
    assert spans[-2] == (0, 6)


def test_max_length_is_checked():
    with pytest.raises(InvalidInput, match=r"3\.\.512"):
        pipeline().limit("document", 2)
    with pytest.raises(InvalidInput, match="got 513"):
        pipeline().limit("document", 513)


def test_spans_point_at_the_text():
    text = "Zip files, in Zürich"
    words = [text[a:b] for a, b in pipeline().spans(text, "document")]
    assert words[0] == words[-1] == "" and words[1:4] == ["Zip", "files", ","] and words[-2].endswith("rich")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a",
        "\0",
        "\ud800",
        "a\ud800\udc00b",
        "שלום עולם",
        "日本語のテキスト",
        "é" * 1000,
        "x" * 100_000,
    ],
)
def test_odd_texts_have_a_result(text):
    [checked] = check_texts([text])
    [found] = pipeline().tokenize([checked], "document")
    assert 2 <= len(found.ids) <= 512
    assert len(pipeline().spans(checked, "document")) == len(found.ids)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one", "one str"),
        (b"one", "one bytes"),
        (["a", None], r"\[1\].*NoneType"),
        (["a", b"b"], r"\[1\].*bytes"),
    ],
)
def test_what_is_no_list_of_str_is_refused(texts, message):
    with pytest.raises(InvalidInput, match=message):
        check_texts(texts)


def test_a_broken_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        TextPipeline(tmp_path / "tokenizer.json", contracts.read(find("starter").path))
