"""Late chunking: passages' vectors are cut out of those of the text around them, and nothing else changes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import InvalidInput
from latebolt.index.documents.passages import Cutting, check_cutting, cut_parts, kept_cutting
from latebolt.index.documents.windows import TokenPlaces
from latebolt.index.ingest import addition, sources, train
from latebolt.index.store.check import check_index
from latebolt.progress import progress_bar

WORDS = ["river", "bread", "committee", "volcano", "ledger", "train", "kitten", "minutes", "glacier", "1997"]


def prose(n_words: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    words = rng.choice(WORDS, n_words)
    return " ".join(f"{word}." if i % 9 == 8 else word for i, word in enumerate(words))


LONG = prose(900)
JAPANESE = (
    "梅雨の時期が始まることを梅雨入りといい、社会通念上は春の終わりであるとともに夏の始まりとされる。" * 24
)


@pytest.fixture(scope="module")
def multilingual() -> Encoder:
    return Encoder.load("multilingual", threads=2)


def new_index(path: Path, encoder: Encoder, late: bool = True, tokens: int = 60, bits: int = 16) -> Index:
    return Index.create(path, encoder, bits, passage_tokens=tokens, late_chunking=late)


def stored(index: Index) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for block in index.iter_documents():
        for id, matrix in zip(block.ids, block.token_vectors(), strict=True):
            found.setdefault(id, []).append(matrix)
    return found


def rows_of(encoder: Encoder, text: str, cutting: Cutting) -> sources.Batch:
    return sources.rows_of(sources.one_batch(1, ["d"], [text], None), encoder, cutting)


def late_vectors(encoder: Encoder, batch: sources.Batch) -> TokenVectors:
    source = sources.EncodedTexts(encoder, batch, progress_bar(None, "", "", False))
    return source.vectors(range(len(batch)))


# Where windows lie


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[list[bool], Cutting, int]:
    tokens = draw(st.integers(1, 30))
    cutting = Cutting(tokens, draw(st.integers(0, tokens - 1)))
    return draw(st.lists(st.booleans(), max_size=150)), cutting, draw(st.integers(tokens, 60))


@given(cut_texts(), st.integers(1, 40))
def test_every_passage_lies_in_one_window_no_longer_than_the_model_reads(drawn, size):
    begins, cutting, room = drawn
    n = len(begins)
    spans = [(3 * i, 3 * i + 2) for i in range(n)]
    places = TokenPlaces()
    parts = [(spans[i : i + size], begins[i : i + size]) for i in range(0, n, size)]
    passages = list(cut_parts(places.passing(parts), cutting)) or [(0, 3 * n)]
    windows = places.windows(passages, room)
    assert [i for window in windows for i in window.passages] == list(range(len(passages)))
    for window in windows:
        assert window.start <= passages[window.passages[0]][0]
        assert window.stop >= passages[window.passages[-1]][1]
        first, last = -(-window.start // 3), -(-window.stop // 3)
        assert last - first <= room
        context = passages[window.passages[0]][0] - window.start
        assert context == 0 or begins[first]  # it begins with a word, and ends behind one
        assert window.stop == passages[window.passages[-1]][1] or last == n or begins[last]


def test_the_text_on_both_sides_is_shared_evenly_and_where_there_is_none_goes_to_the_other():
    spans = [(2 * i, 2 * i + 1) for i in range(1000)]
    places = TokenPlaces()
    cutting = Cutting(100, 0)
    passages = list(cut_parts(places.passing([(spans, [True] * 1000)]), cutting))
    windows = places.windows(passages, 404)
    assert [len(window.passages) for window in windows] == [3, 3, 3, 1]
    assert [(w.start // 2, w.stop // 2 + 1) for w in windows] == [
        (0, 400),
        (250, 650),
        (550, 950),
        (600, 1000),
    ]


# What is cut out


@pytest.mark.parametrize("text", ["a kitten sleeps on the sofa", "", "  spaces around \n", prose(50, 1)])
def test_a_document_of_one_passage_has_the_vectors_it_has_without(tmp_path, encoder, text):
    for name, late in (("late", True), ("plain", False)):
        new_index(tmp_path / name, encoder, late, 120).add([text, LONG], ids=["short", "long"])
    late, plain = (stored(Index.open(tmp_path / name, encoder)) for name in ("late", "plain"))
    [one], [other] = late["short"], plain["short"]
    np.testing.assert_array_equal(one, other)
    assert len(late["long"]) == len(plain["long"]) > 5
    assert not np.array_equal(late["long"][1], plain["long"][1])


@pytest.mark.parametrize("tokens", [7, 60, 250, 500])
def test_a_passage_has_as_many_vectors_as_by_itself(encoder, multilingual, tokens):
    for model in (encoder, multilingual):
        cutting = check_cutting(min(tokens, model.document_room), None, model.document_room, True)
        batch = rows_of(model, prose(150) if tokens == 7 else LONG, cutting)
        vectors = late_vectors(model, batch)
        # At once, as late chunking reads, and not in windows.
        alone = model.encode_parts(batch.texts, [[(0, len(text))] for text in batch.texts])
        assert vectors.lengths.tolist() == alone.lengths.tolist() and len(batch) > 2
        np.testing.assert_allclose(np.linalg.norm(vectors.values, axis=1), 1, atol=1e-3)
        # Tokens stand for the same words: they are nearer to their own than to others of the passage.
        same = np.einsum("ij,ij->i", vectors.values, alone.values)
        assert 0.5 < same.mean() < 0.9999


def test_text_without_spaces_is_cut_by_the_documents_own_tokens(multilingual):
    """A passage that begins inside what the tokenizer takes for a word has another first token by itself."""
    cutting = check_cutting(100, 20, multilingual.document_room, True)
    batch = rows_of(multilingual, JAPANESE, cutting)
    vectors = late_vectors(multilingual, batch)
    alone = multilingual.encode_documents(batch.texts)
    assert len(batch) > 5 and not vectors.n_truncated
    assert np.abs(np.subtract(vectors.lengths, alone.lengths)).max() <= 2


def test_a_window_is_the_encoding_of_its_text(encoder):
    """Each passage has the rows of its characters in the window's own vectors, and the markers' rows."""
    cutting = check_cutting(100, 20, encoder.document_room, True)
    batch = rows_of(encoder, LONG, cutting)
    assert batch.windows is not None and any(len(window.rows) > 1 for window in batch.windows)
    assert all(window.document is batch.windows[0].document for window in batch.windows)  # no copies
    vectors = late_vectors(encoder, batch)
    for window in batch.windows:
        whole = encoder.encode_documents([window.text])[0]
        spans = encoder.spans(window.text, "document")
        for row, (start, stop) in zip(window.rows, window.parts, strict=True):
            assert window.text[start:stop] == batch.texts[row]
            rows = [i for i, (a, b) in enumerate(spans) if b == 0 or start <= a < stop]
            np.testing.assert_array_equal(vectors[row], whole[rows])
            assert rows[0] == 0 and rows[-1] == len(spans) - 1  # [CLS] and [SEP]


def test_skip_list_and_pooling_are_as_for_any_document(multilingual):
    text = "a cat, a dog; and the rain. " * 60
    skipped = len(multilingual.contract.document.skiplist)
    cutting = check_cutting(60, 0, multilingual.document_room, True)
    batch = rows_of(multilingual, text, cutting)
    vectors, alone = late_vectors(multilingual, batch), multilingual.encode_documents(batch.texts)
    counted = multilingual.count_tokens(list(batch.texts))
    assert vectors.lengths.tolist() == alone.lengths.tolist()
    assert (sum(counted) > vectors.n_tokens) == bool(skipped)
    pooled = multilingual.pooled(vectors, 2)
    assert pooled.lengths.tolist() == multilingual.pooled(alone, 2).lengths.tolist()
    np.testing.assert_array_equal(pooled[0][0], vectors[0][0])  # the marker is kept as it is


def test_parts_of_a_document_that_is_too_long_are_marked(encoder):
    text = prose(600)
    middle, end = (0, 400), (len(text) - 100, len(text))
    vectors = encoder.encode_parts([text, "short"], [[middle, end, (0, len(text))], [(0, 5)]])
    assert vectors.truncated.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(vectors[2], encoder.encode_documents([text])[0])
    assert len(vectors[1]) == 2  # markers
    with pytest.raises(InvalidInput, match="one list a document, 2 in all, got 1"):
        encoder.encode_parts(["a", "b"], [[(0, 1)]])


def test_a_prompt_belongs_to_every_part(multilingual):
    """By itself a passage would have it, too."""
    from dataclasses import replace

    import msgspec

    contract = multilingual.contract
    rules = msgspec.structs.replace(contract.document, prompt="passage: ", skiplist=())
    text = type(multilingual._text)(
        multilingual._text._tokenizer, msgspec.structs.replace(contract, document=rules)
    )
    model = replace(multilingual, _text=text)
    passages = [(0, 6), (7, 22)]
    vectors = model.encode_parts(["kitten sleeps at noon"], [passages])
    alone = model.encode_documents(["kitten", "sleeps at noon"])
    assert vectors.lengths.tolist() == alone.lengths.tolist()


# An index


def test_all_but_the_vectors_is_as_without(tmp_path, encoder):
    texts = {"long": LONG, "other": prose(300, 3), "short": "the moon is bright"}
    breaks = [0, 700, 1500]
    indexes = [new_index(tmp_path / name, encoder, late) for name, late in (("l", True), ("p", False))]
    for index in indexes:
        rows = [
            (id, text, {"n": i}, lambda a, b: {"from": a, "to": b}, breaks if id == "long" else None)
            for i, (id, text) in enumerate(texts.items())
        ]
        index.sync(rows)
    late, plain = indexes
    assert list(late.documents()) == list(plain.documents()) and late.digests(list(texts)) == plain.digests(
        list(texts)
    )
    rows = [
        [(h.text, h.place) for h in index.search("river", k=3, mode="bm25", exhaustive=True)]
        for index in indexes
    ]
    assert rows[0] == rows[1]
    infos = [index.info() for index in indexes]
    differing = {name for name in infos[0] if infos[0][name] != infos[1][name]}
    assert differing <= {"path", "bytes", "late_chunking"} and infos[0]["truncated"] == 0
    assert [info["late_chunking"] for info in infos] == [True, False]
    assert late.sync(rows=[(id, text, {"n": i}) for i, (id, text) in enumerate(texts.items())]).kept == 3
    before = stored(late)["long"]
    assert late.sync([("moved", LONG, None)], prune=True).reused == 1
    for one, other in zip(stored(late)["moved"], before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert check_index(late.path) == []


def test_vectors_do_not_depend_on_company_chunks_samples_or_streams(tmp_path, encoder, monkeypatch):
    texts = [prose(n, n) for n in (700, 5, 333, 900, 80)]
    alone = []
    for i, text in enumerate(texts):
        index = new_index(tmp_path / f"{i}", encoder)
        index.add([text], ids=["x"])
        alone.append(stored(index)["x"])
    monkeypatch.setattr(addition, "CHUNK_DOCUMENTS", 3)  # windows lie across chunks
    monkeypatch.setattr(train, "DRAWN_DOCUMENTS", 2)
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 2)
    together = new_index(tmp_path / "together", encoder)
    together.add(iter(texts))
    found = stored(together)
    for i, expected in enumerate(alone):
        for one, other in zip(found[f"{i}"], expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_nothing_is_encoded_twice(tmp_path, encoder, monkeypatch):
    """A sample takes whole windows, and chunks that end inside one keep the rest of it."""
    taken: list[str] = []
    real = Encoder.encode_parts
    monkeypatch.setattr(
        Encoder, "encode_parts", lambda self, texts, parts: taken.extend(texts) or real(self, texts, parts)
    )
    monkeypatch.setattr(addition, "CHUNK_DOCUMENTS", 4)
    monkeypatch.setattr(train, "DRAWN_DOCUMENTS", 3)
    monkeypatch.setattr(train, "TRAIN_TOKENS", 1000)
    monkeypatch.setattr(train, "SAMPLE_TOKENS", 2000)
    index = new_index(tmp_path / "i", encoder, bits=2)
    index.add([prose(600, seed) for seed in range(6)])
    assert index.info()["centroids"] and len(taken) == len(set(taken)) > 10


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_every_bit_width(tmp_path, encoder, monkeypatch, bits):
    monkeypatch.setattr(train, "TRAIN_TOKENS", 1000)
    index = new_index(tmp_path / "i", encoder, bits=bits)
    filler = "The committee met on a Tuesday and discussed the minutes of the previous meeting at length. "
    answer = "A volcano erupted in Iceland and closed the airports. "
    texts = [LONG, filler * 40 + answer + filler * 12, "the dog barks at night"]
    index.add(texts, ids=["a", "b", "c"])
    [hit] = index.search("volcano eruption in Iceland", k=1)
    assert hit.id == "b" and answer.strip() in hit.text
    index.compact()
    assert check_index(index.path) == [] and index.info()["late_chunking"]


def test_an_index_with_and_one_without_are_not_mixed(tmp_path, encoder):
    late, plain = new_index(tmp_path / "l", encoder), new_index(tmp_path / "p", encoder, late=False)
    for index in (late, plain):
        index.add([LONG], ids=["a"])
    for one, other in itertools.permutations((late, plain)):
        with pytest.raises(InvalidInput, match=r"passage cutting of 60 tokens, .*late chunking in windows"):
            one.adopt(other.path)
    part = late.new_part(tmp_path / "part")
    part.add([prose(400, 9)], ids=["b"])
    assert part.info()["late_chunking"] and late.adopt(part.path) == 1
    together = new_index(tmp_path / "t", encoder)
    together.add([LONG, prose(400, 9)], ids=["a", "b"])
    found, expected = stored(late), stored(together)
    for id in "ab":
        for one, other in zip(found[id], expected[id], strict=True):
            np.testing.assert_array_equal(one, other)
    late.update_metadata(["a"], set={"n": 1})
    np.testing.assert_array_equal(stored(late)["a"][2], expected["a"][2])


def test_the_window_is_that_of_the_index_and_not_of_who_adds(tmp_path, multilingual):
    short = multilingual.with_lengths(document=200)
    index = new_index(tmp_path / "i", short, tokens=50)
    index.add([LONG], ids=["a"])
    again = Index.open(index.path, multilingual)
    again.add([LONG], ids=["b"])
    found = stored(again)
    for one, other in zip(found["a"], found["b"], strict=True):
        np.testing.assert_array_equal(one, other)
    # One that reads less takes what it reads: nothing is cut off where passages fit.
    less = Index.open(index.path, multilingual.with_lengths(document=80))
    less.add([LONG], ids=["c"])
    assert less.info()["truncated"] == 0


def test_settings_and_what_is_refused(tmp_path, encoder):
    cutting = check_cutting(100, None, 500, True)
    assert cutting == Cutting(100, 25, 500) and kept_cutting(cutting.settings()) == cutting
    assert check_cutting(100, None, 500).settings() == {"passage_tokens": 100, "passage_overlap": 25}
    with pytest.raises(InvalidInput, match="late_chunking needs passage_tokens"):
        Index.create(tmp_path / "i", encoder, late_chunking=True)
    with pytest.raises(InvalidInput, match="needs an encoder"):
        Index.create(tmp_path / "i", None, dim=64, late_chunking=True)


def test_places_of_the_tokens_of_a_very_long_text_are_small(encoder):
    import tracemalloc

    text = prose(160_000)
    assert len(text) > 1_000_000
    places = TokenPlaces()
    cutting = Cutting(250, 62, encoder.document_room)
    [parts] = encoder.token_parts([text])
    passages = list(cut_parts(places.passing(parts), cutting))
    tracemalloc.start()
    windows = places.windows(passages, encoder.document_room)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(windows) < len(passages) and peak < 12 * len(text)
