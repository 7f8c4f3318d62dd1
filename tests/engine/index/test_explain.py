"""An explained search: the same hits, its stages, and the words that matched."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt import Index
from latebolt.alignment import match_tokens
from latebolt.hits import TokenMatch
from latebolt.index import index as module
from latebolt.index.documents.words import word_spans, words_of
from latebolt.index.ingest import train
from latebolt.index.search import explain, planning
from latebolt.index.search.common_words import LEAST_TEXTS, without_common
from latebolt.index.search.query import Request
from latebolt.index.search.word_matches import MOST_PLACES, match_words_of

TEXTS = ["a cat sleeps on the sofa", "the dog barks at night", "a house stands on the hill"]


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    index = Index.create(tmp_path / "i", encoder)
    index.add(TEXTS, ids=["cat", "dog", "house"], metadata=[{"n": i} for i in range(3)])
    return index


def test_hits_stages_and_words(index):
    found = index.search("a kitten sleeping", k=2, where="n < 2", explain=True)
    assert found.hits == index.search("a kitten sleeping", k=2, where="n < 2")
    stages = {stage.name: stage for stage in found.stages}
    assert stages["filter"].documents == 3  # looked at
    assert stages["score exactly"].documents == 2  # what the filter left
    assert stages["align words"].documents == 2 and all(stage.ms >= 0 for stage in found.stages)
    by_word = {match.query_word: match for match in found.alignments[0]}
    assert by_word["kitten"].document_word == "cat" and by_word["sleeping"].document_word == "sleeps"
    assert 0.4 < by_word["kitten"].similarity < 1


def test_residual_codes_show_both_rankings(pruned, tmp_path, rng, monkeypatch):
    from latebolt import TokenVectors

    vectors = TokenVectors.from_matrices(list(rng.unit(600, 20, 64)))
    index = Index.create(tmp_path / "v", None, dim=64)
    index.add_vectors(None, vectors)
    monkeypatch.setattr(planning, "LEAST_LEVEL", 4)
    monkeypatch.setattr(planning, "STABLE_TOKENS", 1)
    trace = explain.Trace(wanted=True)
    index._each(
        index._snapshot(Request()), [(vectors[5], "")], lambda each, _: each.find(Request(k=3)), trace=trace
    )
    seen = {stage.name: stage.documents for stage in trace.stages}
    assert seen["rank by centroids"] == 600 and 3 <= seen["score exactly"] < 600


def test_hits_without_text_have_no_alignment(index, encoder):
    index.add_vectors(["bare"], encoder.encode_documents(["a kitten"]))
    found = index.search("kitten", k=4, explain=True)
    bare = [hit.id for hit in found.hits].index("bare")
    assert found.alignments[bare] == [] and all(found.alignments[i] for i in range(4) if i != bare)


def test_json_form(index):
    record = json.loads(json.dumps(index.search("kitten", k=1, explain=True).record()))
    [hit] = record["hits"]
    assert hit["id"] == "cat" and hit["matches"][0]["document_word"] == "cat"
    assert {"name", "ms", "documents"} == set(record["stages"][0])


def test_nothing_is_aligned_or_timed_unasked(index, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(module, "match_hits", never)
    monkeypatch.setattr(explain, "time", None)
    assert index.search("kitten", k=1)[0].id == "cat"
    with pytest.raises(AttributeError, match="perf_counter"):
        index.search("kitten", k=1, explain=True)


def test_segments_add_up_in_a_stage(index):
    index.add(["a bird sings"], ids=["bird"])
    stages = {stage.name: stage.documents for stage in index.search("kitten", explain=True).stages}
    assert index.info()["segments"] == 2 and stages["filter"] == stages["score exactly"] == 4


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("cut", [None, 24])
def test_token_matches_add_up_to_the_words_and_the_score(bits, cut, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(train, "TRAIN_TOKENS", 1000)
    index = Index.create(tmp_path / "i", encoder, bits=bits, passage_tokens=cut)
    index.add([" ".join(TEXTS) + f" and the number {i}" for i in range(60)])
    assert (index.info()["centroids"] is None) == (bits > 4)
    index.add(TEXTS, ids=["cat", "dog", "house"])
    monkeypatch.setattr(type(encoder), "encode_documents", None)  # nothing is encoded again
    for mode in ("late", "hybrid"):
        found = index.search("a kitten and the dog", k=5, mode=mode, explain=True)
        scored = {hit.id: hit.score for hit in index.search("a kitten and the dog", k=63, exhaustive=True)}
        assert len(found.hits) == 5
        for hit, tokens, words in zip(found.hits, found.tokens, found.alignments, strict=True):
            if mode == "late" or cut is None:  # by words another passage may be best
                total = sum(token.similarity for token in tokens)
                assert total == pytest.approx(scored[hit.id], rel=2e-3)
            [best] = [token for token in tokens if "a kitten and the dog"[slice(*token.query)] == "dog"]
            [word] = [each for each in words if each.query_word == "dog"]
            assert hit.text[slice(*best.document)] == word.document_word == "dog"


def test_what_is_stored_otherwise_is_encoded_again(tmp_path, encoder):
    """Of pooled vectors, and of those of an encoder with other limits, no text says where they stand."""
    text = "a cat sleeps on the sofa while the dog barks at night"
    index = Index.create(tmp_path / "i", encoder, bits=16)
    index.add_vectors(["pooled"], encoder.encode_documents([text], pool_factor=2), texts=[text])
    index.add_vectors(["cut"], encoder.with_lengths(document=8).encode_documents([text]), texts=[text])
    index.add([text], ids=["whole"])
    found = index.search("a hound", explain=True)
    by_id = {hit.id: words for hit, words in zip(found.hits, found.alignments, strict=True)}
    assert len(by_id) == 3
    for words in by_id.values():
        assert {each.query_word: each.document_word for each in words}["hound"] == "dog"
    alike = [each.similarity for words in by_id.values() for each in words if each.query_word == "hound"]
    assert alike == pytest.approx([alike[0]] * 3, abs=1e-3)


def test_bm25_is_explained_by_its_words_and_without_the_model(index, monkeypatch):
    monkeypatch.setattr(type(index), "encoder", property(lambda _: pytest.fail("the model was asked")))
    found = index.search("The DOG, and the dog's höuse", mode="bm25", explain=True)
    assert [hit.id for hit in found.hits[:2]] == ["dog", "house"]
    dog, house = ({match.query_word: match for match in words} for words in found.alignments[:2])
    assert (dog["DOG"].document_word, dog["DOG"].similarity) == ("dog", 1)
    assert house["höuse"].document_word == "house" and "DOG" not in house
    assert 0 < dog["The"].similarity < 0.3  # every document has it
    assert "and" not in dog  # no document has it
    text, [tokens] = found.hits[0].text, found.tokens[:1]
    assert {text[slice(*token.document)] for token in tokens} == {"the", "dog"}


def test_every_place_of_a_word_is_told_in_scripts_of_all_kinds():
    places = [
        ("café", "Cafe, CAFÉ und cafe\u0301s", [("Cafe", 1.0), ("CAFÉ", 1.0)]),
        ("so\u00adft", "soft s\u00adoft", [("soft", 1.0), ("s\u00adoft", 1.0)]),
        ("東京", "京都と東京タワー", [("京", 0.5), ("東", 0.5), ("京", 0.5), ("東京", 1.0)]),
        ("हिन्दी", "यह हिंदी है", [("हिंदी", 1.0)]),
        ("a_b", "a b", [("a", 1.0), ("b", 1.0)]),
        ("straße", "STRASSE", [("STRASSE", 1.0)]),
    ]
    weights = {
        word: 0.5 if word in ("東", "京") else 1.0 for query, _, _ in places for word in words_of(query)
    }
    for query, text, expected in places:
        found = match_words_of(query, text, weights)
        assert sorted((text[slice(*m.document)], m.similarity) for m in found) == sorted(expected), query
        assert all(0 <= m.query[0] < m.query[1] <= len(query) for m in found)
    assert len(match_words_of("a", "a " * 1000, {"a": 1.0})) == MOST_PLACES
    assert match_words_of("a b", "a b", {}) == []


@given(st.text(max_size=60))
def test_the_words_at_their_places_are_the_words(text):
    found = [word for word, _ in word_spans(text)]
    if not any(unicodedata.normalize("NFKD", each) != each for each in text):
        assert Counter(found) == Counter(words_of(text))
    for word, (start, end) in word_spans(text):
        assert 0 <= start < end <= len(text) and word


def test_matches_of_common_words_are_not_telling_in_any_script():
    def told(query: str, tokens: list[str], shares: dict[str, float]) -> dict[str, bool]:
        spans = [(query.index(token), query.index(token) + len(token)) for token in tokens]
        matches = [TokenMatch(span, (0, 1), 0.9) for span in spans]
        found = without_common(query, [*matches, TokenMatch((0, 0), (0, 0), 0.9)], shares)
        assert found[-1].telling  # a marker's
        return {token: match.telling for token, match in zip(tokens, found, strict=False)}

    common = {"of": 0.2, "the": 0.9, "mullers": 0.1}
    english = told("of the Müllers?", ["of", "the", "Mü", "llers", "?"], common)
    assert english == {"of": False, "the": False, "Mü": True, "llers": True, "?": True}
    shares = {"東": 0.6, "京": 0.7, "東京": 0.1, "の": 0.97, "国": 0.4}
    japanese = told("東京の国", ["東京", "の", "国"], shares)
    assert japanese == {"東京": True, "の": False, "国": True}  # what its characters are alone says little
    assert told("东 x", ["东", "x"], {}) == {"东": True, "x": True}


def test_what_is_common_is_asked_of_indexes_that_have_enough_texts(tmp_path, encoder):
    few, many = (Index.create(tmp_path / name, encoder) for name in ("few", "many"))
    texts = [f"The house of number {i} is in the north of the town." for i in range(LEAST_TEXTS)]
    few.add(texts[:20])
    many.add(texts)
    query = "the house of number 7"
    for index, common in ((few, set()), (many, {"the", "house", "of", "number"})):
        [words, *_] = index.search(query, 1, explain=True).alignments
        assert {each.query_word for each in words} == {"the", "house", "of", "number", "7"}
        found = {each.query_word for each in words if not each.telling}
        assert common <= found and "7" not in found and (common or "house" not in found)


def test_a_match_stands_out_or_is_no_reason():
    query = np.eye(3, 4, dtype=np.float32)
    document = np.array([[1, 0, 0, 0], [0, 0.5, 0, 0.75**0.5], [0, 0.45, 0.2, 0.87]], np.float32)
    same, near, far = match_tokens(query, [(0, 1)] * 3, document, [(0, 1), (2, 3), (4, 5)])
    assert (same.telling, near.telling, far.telling) == (True, False, False)
    [alone] = match_tokens(query[:1], [(0, 1)], document[:1], [(0, 1)])
    assert alone.telling  # all of the text is the word itself
