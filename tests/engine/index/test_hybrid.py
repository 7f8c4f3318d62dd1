"""Search by words and by both: BM25 as its formula says, filters before the cut, old indexes, odd queries."""

from __future__ import annotations

import math
import sqlite3
import tracemalloc
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latebolt import Index, TokenVectors
from latebolt.errors import IndexUnusable, InvalidInput
from latebolt.index.documents import postings
from latebolt.index.documents.old_words import old_words_of
from latebolt.index.documents.words import words_of
from latebolt.index.format import files, layout
from latebolt.index.search import bm25
from latebolt.index.search.fusion import WORDS_WEIGHT
from latebolt.index.store.check import check_index
from quick_folders import quick_folder

TEXTS = {
    "zip": "ZipFile.extractall unpacks a ZIP archive",
    "tar": "tarfile opens a tar archive of files",
    "split": "str.split cuts a string at whitespace",
    "cat": "a kitten sleeps on the sofa",
}


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    index = Index.create(tmp_path / "i", encoder)
    index.add(list(TEXTS.values()), ids=list(TEXTS), metadata=[{"n": i} for i in range(4)])
    return index


def ids(hits) -> list:
    return [hit.id for hit in hits]


def reference(texts: dict[str, str | None], query: str) -> dict[str, float]:
    """BM25 by its formula, k1 1.2 and b 0.75, of every document with a word of the query."""
    words = {name: Counter(words_of(text or "")) for name, text in texts.items()}
    lengths = [sum(w.values()) for w in words.values() if w]
    mean, n = (sum(lengths) / len(lengths), len(lengths)) if lengths else (1.0, 0)
    scores: dict[str, float] = {}
    for word, times in sorted(Counter(words_of(query)).items()):
        having = sum(word in each for each in words.values())
        idf = math.log(1 + (n - having + 0.5) / (having + 0.5))
        for name, each in words.items():
            if word in each:
                tf, length = each[word], sum(each.values())
                gain = idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean))
                scores[name] = scores.get(name, 0.0) + times * gain
    return scores


def add_texts(index: Index, texts: dict[str, str | None], metadata=None) -> None:
    vectors = TokenVectors(np.zeros((0, 8), np.float32), np.zeros(len(texts) + 1, np.int64))
    index.add_vectors(list(texts), vectors, list(texts.values()), metadata)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "東京", "the", "the"]), max_size=12).map(" ".join)
NAMES = st.sampled_from([f"d{i}" for i in range(12)])
STEP = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(NAMES, st.one_of(st.none(), WORDS), min_size=1, max_size=6)),
    st.tuples(st.just("delete"), st.lists(NAMES, max_size=4)),
    st.tuples(st.just("compact"), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=1, max_size=6), WORDS.filter(str.strip))
def test_scores_are_the_formula_over_live_documents_however_they_came(steps, query):
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "BLOCK_ROWS", 3)
        index, texts = Index.create(folder / "i", None, dim=8), {}
        for step, argument in steps:
            if step == "add":
                add_texts(index, argument)
                texts |= argument
            elif step == "delete":
                index.delete(argument)
                texts = {name: text for name, text in texts.items() if name not in argument}
            else:
                index.compact()
        expected = reference(texts, query)
        got = index.search(query, k=20, mode="bm25")
        assert {hit.id: pytest.approx(hit.score) for hit in got} == expected
        assert [(-hit.score, hit.id) for hit in got] == sorted((-hit.score, hit.id) for hit in got)
        index.close()


def test_modes(index):
    assert ids(index.search("unpack a zip archive", mode="bm25"))[:2] == ["zip", "tar"]
    assert index.search("feline", mode="bm25") == [] and index.search("feline", k=1)[0].id == "cat"
    assert ids(index.search("feline", k=1, mode="hybrid")) == ["cat"]
    both = index.search_many(["zip archive", "whitespace"], k=1, mode="hybrid")
    assert [ids(hits) for hits in both] == [["zip"], ["split"]]
    with pytest.raises(InvalidInput, match="late, bm25, hybrid"):
        index.search("cat", mode="bm52")


def test_a_hybrid_score_is_the_sum_of_both(index, encoder):
    query = "archive of the sofa"
    late = {hit.id: hit.score / len(encoder.encode_queries([query])[0]) for hit in index.search(query)}
    words = {hit.id: hit.score for hit in index.search(query, mode="bm25")}
    texts = reference(TEXTS, query)
    assert words == pytest.approx(texts)
    n, ceiling = 4, 0.0
    for word in words_of(query):
        having = sum(word in words_of(text) for text in TEXTS.values())
        ceiling += 2.2 * math.log(1 + (n - having + 0.5) / (having + 0.5))
    for exhaustive in (False, True):
        got = index.search(query, mode="hybrid", exhaustive=exhaustive)
        assert {hit.id: hit.score for hit in got} == pytest.approx(
            {name: late[name] + WORDS_WEIGHT * words.get(name, 0.0) / ceiling for name in TEXTS}, abs=1e-6
        )


def test_what_only_words_find_reaches_the_top(tmp_path, rng, monkeypatch):
    """A document far down the late ranking is a candidate by its words, and scored exactly by both."""
    from latebolt.index.search import query as searching

    monkeypatch.setattr(searching, "DEPTH", 3)
    index = Index.create(tmp_path / "v", None, bits=16, dim=64)
    query = rng.unit(1, 64)
    other = rng.unit(1, 64)
    other -= (other @ query.T) * query
    other /= np.linalg.norm(other)
    cosines = [0.5 if i else 0.45 for i in range(50)]
    matrices = [query * cosine + other * (1 - cosine**2) ** 0.5 for cosine in cosines]
    texts = ["nothing of note"] * 50
    texts[0] = "xylophone"
    index.add_vectors([f"{i:02}" for i in range(50)], TokenVectors.from_matrices(matrices), texts)
    request = searching.Request(k=1, mode="hybrid")
    [hits] = index._find_all([(query, "xylophone")], request)
    assert ids(hits) == ["00"] and 0.449 < hits[0].score < 0.45 + WORDS_WEIGHT


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_filters_and_deletions_come_before_the_cut(tmp_path, encoder, mode):
    index = Index.create(tmp_path / "j", encoder)
    texts = ["archive archive archive"] * 5 + ["one archive among many other words"]
    index.add(texts, metadata=[{"n": i} for i in range(6)])
    assert ids(index.search("archive", k=1, where="n = 5", mode=mode)) == ["5"]
    index.delete(["0", "1", "2", "3", "4"])
    assert ids(index.search("archive", k=1, mode=mode)) == ["5"]
    assert index.search("archive", where="n = 1", mode=mode) == []


@pytest.mark.parametrize("query", ['foo* OR bar NEAR/2 -x "', "'; DROP TABLE texts; --", "^a : {b} +c", "*"])
@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_syntax_is_data(index, query, mode):
    before = index.search("zip", mode="bm25")
    index.search(query, mode=mode)
    assert index.search("zip", mode="bm25") == before and check_index(index.path) == []
    assert index.search("ZIP -zip", mode="bm25")[0].id == "zip"  # no operator takes it out


def test_bm25_needs_no_model(tmp_path):
    index = Index.create(tmp_path / "i", None, dim=8)
    add_texts(index, {"a": "one word", "b": None, "c": "東京の人口"})
    assert ids(index.search("word", mode="bm25")) == ["a"]
    assert ids(index.search("東京", mode="bm25")) == ids(index.search("人", mode="bm25")) == ["c"]
    assert index.search("word", mode="bm25")[0].text == "one word"
    with pytest.raises(InvalidInput, match="without a model"):
        index.search("word", mode="hybrid")


def without_words(index: Index) -> Index:
    """The same index as version 1 of the texts left it."""
    manifest = index._store.manifest
    segments = []
    for segment in manifest.segments:
        path = index.path / layout.SEGMENTS / segment.name / layout.TEXTS
        database = sqlite3.connect(path)
        database.executescript("DROP TABLE postings; DROP TABLE word_blocks; PRAGMA user_version = 1; VACUUM")
        database.close()
        record = {**segment.files, layout.TEXTS: files.seal(path)}
        segments.append(msgspec.structs.replace(segment, files=record))
    new = msgspec.structs.replace(manifest, segments=tuple(segments), generation=manifest.generation + 1)
    files.publish(index.path / layout.MANIFEST, layout.encode_manifest(new))
    return Index.open(index.path)


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_an_index_of_the_first_version_is_read_and_gets_words_by_compacting(index, mode):
    expected, late = index.search("zip archive", mode=mode), index.search("zip archive")
    old = without_words(index)
    assert check_index(old.path) == []
    assert old.search("zip archive") == late
    with pytest.raises(IndexUnusable, match="Compact the index"):
        old.search("zip archive", mode=mode)
    old.compact()
    assert old.search("zip archive", mode=mode) == expected and check_index(old.path) == []
    generation = old.info()["generation"]
    old.compact()
    assert old.info()["generation"] == generation  # nothing left to do


def test_lengths_that_do_not_fit_are_damage(index):
    committed = index._store.snapshot().manifest
    [segment] = committed.segments
    path = index.path / layout.SEGMENTS / segment.name / layout.TEXTS
    database = sqlite3.connect(path)
    database.execute("UPDATE word_blocks SET lengths = x'00000000'")
    database.commit()
    database.close()
    record = {**segment.files, layout.TEXTS: files.seal(path)}
    changed = msgspec.structs.replace(segment, files=record)
    manifest = msgspec.structs.replace(committed, segments=(changed,))
    files.publish(index.path / layout.MANIFEST, layout.encode_manifest(manifest))
    assert [problem.field for problem in check_index(index.path)] == ["word_blocks (documents)"]


def written_by_the_old_rule(index: Index, texts: dict[str, str | None], monkeypatch) -> Index:
    """The index with a segment as version 2 of the texts wrote it."""
    with monkeypatch.context() as patch:
        patch.setattr(postings, "words_of", old_words_of)
        patch.setattr(layout, "TEXTS_VERSION", 2)
        add_texts(index, texts)
    return Index.open(index.path)


def test_an_index_with_words_by_the_old_rule_is_searched_by_it_until_it_is_compacted(tmp_path, monkeypatch):
    index = Index.create(tmp_path / "i", None, dim=8)
    old = {
        "ar": "مَرحبا بك",
        "shy": "photo\u00adsynthesis in plants",
        "plain": "photosynthesis",
        "café": "Café",
    }
    index = written_by_the_old_rule(index, old, monkeypatch)
    assert check_index(index.path) == []
    assert ids(index.search("photosynthesis", mode="bm25")) == ["plain"]
    assert ids(index.search("photo\u00adsynthesis", mode="bm25")) == ["shy"], "as it was found before"
    assert ids(index.search("مَرحبا", mode="bm25")) == ["ar"]
    assert ids(index.search("cafe", mode="bm25")) == ["café"]
    add_texts(index, {"new": "photo\u00adsynthesis", "other": "cafe in plants"})
    assert sorted(ids(index.search("photo\u00adsynthesis", mode="bm25"))) == ["new", "shy"]
    assert sorted(ids(index.search("photosynthesis", mode="bm25"))) == ["new", "plain"]
    assert set(ids(index.search("cafe plants", mode="bm25"))) == {"café", "other", "shy"}
    index.compact()
    generation = index.info()["generation"]
    texts = {entry.id: entry.text for entry in index.documents()}
    for query in ("photosynthesis", "مرحبا", "cafe plants"):
        expected = reference(texts, query)
        found = {hit.id: hit.score for hit in index.search(query, mode="bm25")}
        assert found == pytest.approx(expected) and found
    index.compact()
    assert index.info()["generation"] == generation


def test_a_word_that_both_rules_give_is_as_rare_as_in_the_whole_index(tmp_path, monkeypatch):
    texts = {str(n): f"word{n % 3} and{' rare' if n == 5 else ''} more {n}" for n in range(12)}
    first, second = dict(list(texts.items())[:6]), dict(list(texts.items())[6:])
    index = written_by_the_old_rule(Index.create(tmp_path / "i", None, dim=8), first, monkeypatch)
    add_texts(index, second)
    for query in ("word1 rare", "and", "more and nothing"):
        found = {hit.id: hit.score for hit in index.search(query, k=99, mode="bm25")}
        assert found == pytest.approx(reference(texts, query))


@pytest.mark.parametrize("block", [1, 3, 1 << 16])
def test_scores_do_not_depend_on_the_blocks_they_are_added_up_in(tmp_path, monkeypatch, block):
    monkeypatch.setattr(bm25, "_BLOCK_ROWS", block)
    monkeypatch.setattr(postings, "BLOCK_ROWS", 4)
    texts = {str(n): " ".join(f"w{(n * k) % 5}" for k in range(1 + n % 4)) for n in range(20)} | {"x": None}
    index = Index.create(tmp_path / "i", None, dim=8)
    add_texts(index, texts, [{"n": n} for n in range(21)])
    for query in ("w0", "w1 w2 w1", "w3 w4 nothing"):
        expected = reference(texts, query)
        assert {h.id: h.score for h in index.search(query, k=99, mode="bm25")} == pytest.approx(expected)
        some = {h.id: h.score for h in index.search(query, k=99, mode="bm25", where="n > 7 and n != 12")}
        assert some == pytest.approx({i: s for i, s in expected.items() if 7 < int(i) != 12})
        index.delete(["3", "4"])
        assert not {"3", "4"} & set(ids(index.search(query, k=99, mode="bm25")))
        add_texts(index, {i: texts[i] for i in "34"}, [{"n": 3}, {"n": 4}])


def test_bm25_takes_no_memory_for_documents_without_the_words(tmp_path):
    index = Index.create(tmp_path / "i", None, dim=8)
    add_texts(index, {str(n): "filler" if n % 1000 else "rare filler" for n in range(200_000)})
    index.search("rare", mode="bm25")
    tracemalloc.start()
    index.search("rare", mode="bm25")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000, "the old copies took 5 MB here"
