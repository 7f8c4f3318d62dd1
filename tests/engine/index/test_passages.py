"""Long documents: where they are cut, and an index that finds documents by their passages."""

from __future__ import annotations

import contextlib
import errno
import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_faults import GROWING, fault_at
from store_samples import COLUMNS, documents, make_store, tokens_of
from word_corpora import add_passages

from latebolt import Index, TokenVectors
from latebolt.errors import InvalidInput, LateboltError
from latebolt.index.documents.passages import (
    Cutting,
    check_cutting,
    cut_parts,
    cut_text,
    cut_tokens,
    kept_cutting,
)
from latebolt.index.format import files, layout
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.ingest import sources, train
from latebolt.index.search import planning, rank, stages
from latebolt.index.search.grouping import best_of_each, rows_of_documents
from latebolt.index.search.planning import Effort
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

# Where texts are cut


@st.composite
def cuttings(draw: st.DrawFn) -> Cutting:
    tokens = draw(st.integers(1, 12))
    return Cutting(tokens, draw(st.integers(0, tokens - 1)))


@given(st.lists(st.booleans(), max_size=80), cuttings())
def test_passages_hold_every_token_within_the_limit(begins, cutting):
    passages = cut_tokens(begins, cutting)
    assert passages[0].start == 0 and passages[-1].stop == len(begins)
    assert all(len(passage) <= cutting.tokens for passage in passages)
    for one, after in itertools.pairwise(passages):
        shared = one.stop - after.start
        assert one.start < after.start and 0 <= shared <= cutting.overlap  # no gap, and always further
        # Of what was asked no more is missing than the rest of a word.
        assert not any(begins[one.stop - cutting.overlap : after.start])
        # Nothing that would have fitted was left out, and the last passage is needed.
        assert after.stop > one.stop
        assert len(one) == cutting.tokens or not any(begins[one.stop + 1 : one.start + cutting.tokens + 1])


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(8, 12), st.integers(0, 4))
def test_words_that_fit_are_never_split(words, tokens, overlap):
    begins = [i == 0 for length in words for i in range(length)]
    for passage in cut_tokens(begins, Cutting(tokens, overlap)):
        assert all(end == len(begins) or begins[end] for end in (passage.start, passage.stop))


@given(st.lists(st.booleans(), max_size=80), cuttings(), st.randoms(use_true_random=False))
def test_passages_end_at_sentences_where_one_fits(begins, cutting, random):
    sentences = [begin and random.random() < 0.3 for begin in begins]
    passages = cut_tokens(begins, cutting, sentences)
    assert passages[0].start == 0 and passages[-1].stop == len(begins)
    for one, after in itertools.pairwise(passages):
        ends = range(one.start + cutting.overlap + 1, one.start + cutting.tokens + 1)
        fitting = [i for i in ends if sentences[i]]
        assert one.start < after.start and 0 <= one.stop - after.start <= cutting.overlap
        assert len(one) <= cutting.tokens
        if fitting:
            assert one.stop == fitting[-1] and sentences[after.start]


@given(st.integers(0, 60), cuttings())
def test_with_words_of_one_token_strides_and_overlaps_are_exact(n, cutting):
    passages = cut_tokens([True] * n, cutting)
    stride = cutting.tokens - cutting.overlap
    assert [p.start for p in passages] == [i * stride for i in range(len(passages))]
    assert all(len(p) == cutting.tokens for p in passages[:-1])
    assert len(passages) == 1 or len(passages[-1]) > cutting.overlap


def test_a_word_longer_than_a_passage_is_cut_inside():
    assert cut_tokens([True, *[False] * 9], Cutting(4, 1)) == [range(4), range(3, 7), range(6, 10)]


def test_characters_of_passages():
    text = "one two three four"
    spans = [(0, 3), (4, 7), (8, 13), (14, 18)]
    cut = cut_text(spans, [True] * 4, Cutting(2, 1))
    assert [text[a:b] for a, b in cut] == ["one two", "two three", "three four"]
    assert cut_text(spans, [True] * 4, Cutting(4, 1)) == []  # nothing to cut


@given(st.text(max_size=60), st.integers(1, 8))
def test_any_text_is_cut_into_texts_of_its_own_words(encoder, text, tokens):
    [found] = encoder.text_tokens([text])
    cutting = Cutting(tokens, tokens // 2)
    cut = cut_text(found.spans, found.begins, cutting)
    assert (cut == []) == (len(found.spans) <= tokens)
    for start, stop in cut:
        assert 0 <= start <= stop <= len(text)
    for span in found.spans if cut else ():
        assert any(start <= span[0] and span[1] <= stop for start, stop in cut)


def test_what_may_be_asked_for():
    assert check_cutting(None, None, 500) is None and kept_cutting({"next_id": 3}) is None
    assert check_cutting(100, None, 500) == Cutting(100, 25) and check_cutting(500, None, 500).overlap == 64
    cutting = check_cutting(10, 9, 10)
    assert cutting is not None and kept_cutting(cutting.settings()) == cutting


@pytest.mark.parametrize(
    ("tokens", "overlap", "message"),
    [
        (511, None, r"passage_tokens should be an int in 1\.\.510"),
        (0, None, "passage_tokens"),
        (True, None, "passage_tokens"),
        ("10", None, "passage_tokens"),
        (10, 10, r"passage_overlap should be an int in 0\.\.9"),
        (10, -1, "passage_overlap"),
        (10, 1.0, "passage_overlap"),
        (None, 5, "needs passage_tokens"),
    ],
)
def test_what_may_not_be_asked_for(tmp_path, encoder, tokens, overlap, message):
    with pytest.raises(InvalidInput, match=message):
        Index.create(tmp_path / "i", encoder, passage_tokens=tokens, passage_overlap=overlap)
    assert not (tmp_path / "i").exists()


def test_vectors_have_no_tokens_to_count(tmp_path):
    with pytest.raises(InvalidInput, match="needs an encoder"):
        Index.create(tmp_path / "i", None, dim=64, passage_tokens=10)


# How passages are grouped


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=30))
def test_the_first_of_the_best_stands_for_a_document(entries):
    documents = np.array([document for document, _ in entries], np.int64)
    scores = np.array([score for _, score in entries], np.float32)
    best: dict[int, int] = {}
    for i, (document, score) in enumerate(entries):
        if document not in best or entries[best[document]][1] < score:
            best[document] = i
    assert best_of_each(scores, documents).tolist() == sorted(best.values())


@given(st.lists(st.integers(1, 4), min_size=1, max_size=10), st.data())
def test_all_rows_of_documents(lengths, data):
    passages = np.concatenate([np.arange(n, dtype=np.uint32) for n in lengths])
    documents = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.array(data.draw(st.lists(st.integers(0, len(passages) - 1))), np.int64)
    want = np.flatnonzero(np.isin(documents, documents[rows]))
    assert rows_of_documents(passages, rows).tolist() == want.tolist()


@given(st.integers(1, 300), st.integers(1, 6), st.integers(0, 1000))
def test_refining_counts_documents(n, k, seed):
    """One document has the best passages by far: rounds go on until k documents are found."""
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(n).astype(np.float32)
    documents = np.where(rng.random(n) < 0.7, 0, rng.integers(0, 20, n))
    exact[documents == 0] += 10
    rows, scores, _ = stages.refine(
        exact, lambda rows: exact[rows], Effort(max(4, k), max(4, k), k, k, max(n, 6)), documents
    )
    got = scores[stages.top_documents(scores, documents[rows], k)][:k]
    best = [exact[documents == document].max() for document in np.unique(documents)]
    np.testing.assert_array_equal(got, np.sort(best)[::-1][:k])


# An index with them

FILLER = "The committee met on a Tuesday and discussed the minutes of the previous meeting at length. "
ANSWER = "A volcano erupted in Iceland and closed the airports."
LONG = FILLER * 40 + ANSWER + " " + FILLER * 12  # the answer begins beyond the model's 512 tokens
TEXTS = {"long": LONG, "cat": "a kitten sleeps on the sofa", "dog": "the dog barks at night"}


def ids(hits) -> list:
    return [hit.id for hit in hits]


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    index = Index.create(tmp_path / "i", encoder, passage_tokens=48, passage_overlap=12)
    index.add(list(TEXTS.values()), ids=list(TEXTS), metadata=[{"n": i} for i in range(3)])
    return index


def test_an_answer_beyond_the_models_length_is_found_only_in_passages(tmp_path, encoder, index):
    whole = Index.create(tmp_path / "w", encoder)
    whole.add([*TEXTS.values(), "Norway has mountains"], ids=[*TEXTS, "norway"])
    index.add(["Norway has mountains"], ids=["norway"])
    assert ids(whole.search("volcano eruption in Iceland", k=1)) == ["norway"]
    [hit] = index.search("volcano eruption in Iceland", k=1)
    assert hit.id == "long" and ANSWER in hit.text and len(hit.text) < 400  # the passage
    assert hit.metadata == {"n": 0}
    assert max(encoder.count_tokens([hit.text])) <= 50


@pytest.mark.parametrize("mode", ["late", "bm25", "hybrid"])
@pytest.mark.parametrize("exhaustive", [False, True])
def test_hits_are_documents(index, mode, exhaustive):
    hits = index.search("the kitten at a volcano meeting", k=3, mode=mode, exhaustive=exhaustive)
    assert sorted(ids(hits)) == ["cat", "dog", "long"] and len(index) == 3
    assert ids(index.search("committee", where="n > 0", mode="late")) in (["cat", "dog"], ["dog", "cat"])
    [[one], [two]] = index.search_many(["kitten", "volcano"], k=1, mode=mode)
    assert (one.id, two.id) == ("cat", "long") and ANSWER in two.text


def test_the_best_sum_decides_a_hybrid_search(tmp_path, encoder, rng):
    """One passage is the best by meaning, another by words; a third is the best by both together."""
    query = "volcano eruption"
    [near] = encoder.encode_queries([query])
    close = near + 0.2 * rng.unit(*near.shape)
    close /= np.linalg.norm(close, axis=1, keepdims=True)
    vectors = TokenVectors.from_matrices([near, rng.unit(*near.shape), close])
    texts = ["mountain", "volcano volcano eruption eruption", "a volcano, an eruption and the rest"]
    index = Index.create(tmp_path / "i", encoder)
    add_passages(index, vectors, ["d"] * 3, [0, 1, 2], texts)
    best = {mode: index.search(query, k=1, mode=mode)[0].text for mode in ("late", "bm25", "hybrid")}
    assert list(best.values()) == texts


def test_what_is_said_of_it(index):
    info = Index.open(index.path).info()
    assert (info["documents"], info["passage_tokens"], info["passage_overlap"]) == (3, 48, 12)
    assert info["passages"] > 20 and info["deleted"] == 0
    assert check_index(index.path) == [] and read_manifest(index.path).format_version == 3
    found = index.search("volcano in Iceland", k=1, explain=True)
    assert ("volcano", "volcano") in [match[:2] for match in found.alignments[0]]


def test_replacing_and_deleting_take_all_passages(index):
    index.add(["short now"], ids=["long"])
    assert len(index) == 3 and index.info()["passages"] == 3
    assert ANSWER not in " ".join(hit.text for hit in index.search("volcano", k=50))
    index.add([FILLER * 20], ids=["long"])
    passages = index.info()["passages"]
    index.add([FILLER * 10 + ANSWER], ids=["long"])
    assert len(index) == 3 and 3 < index.info()["passages"] < passages
    assert index.info()["deleted"] == 1  # documents; what was replaced whole has gone with its segment
    assert index.delete(["long", "cat", "nothing"]) == 2
    assert len(index) == 1 and index.info()["passages"] == 1 and ids(index.search("volcano")) == ["dog"]
    index.compact()
    assert index.info()["deleted"] == 0 and check_index(index.path) == []
    assert read_manifest(index.path).format_version == 1  # what is left needs no more


def test_an_id_that_comes_again_takes_all_passages_of_the_one_before(index):
    with pytest.raises(InvalidInput, match=r"ids\[2\] is 'x', and so is ids\[0\]"):
        index.add([FILLER * 20, "in between", LONG, FILLER * 9], ids=["x", "y", "x", "z"])
    assert index.add([FILLER * 20, "in between"], ids=["x", "y"]) and index.add(
        [LONG, FILLER * 9], ids=["x", "z"]
    )
    assert len(index) == 6
    [hit] = index.search("volcano in Iceland", k=1, where={"id": "x"})
    assert ANSWER in hit.text
    passages = index.info()["passages"]
    index.compact()
    assert index.info()["passages"] == passages and len(index) == 6


def test_compaction_and_growing_up_keep_passages_together(index, monkeypatch):
    before = {mode: index.search("volcano in Iceland", mode=mode) for mode in ("late", "bm25", "hybrid")}
    index.add(["the moon"], ids=["moon"])
    index.delete(["moon"])
    index.compact()
    assert {mode: index.search("volcano in Iceland", mode=mode) for mode in before} == before
    monkeypatch.setattr(train, "TRAIN_TOKENS", 500)
    index.add([LONG.replace("volcano", "glacier")], ids=["glacier"])  # the codec is learnt
    assert index.info()["centroids"] and len(index) == 4 and check_index(index.path) == []
    hits = index.search("volcano in Iceland", k=4)
    assert sorted(ids(hits)) == ["cat", "dog", "glacier", "long"] and hits[0].id == "long"
    index.delete(["long"])
    assert len(index) == 3 and "volcano" not in index.search("volcano in Iceland", k=1)[0].text


def test_streams_and_made_ids_count_documents(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 2)
    monkeypatch.setattr(sources, "CUT_DOCUMENTS", 1)
    index = Index.create(tmp_path / "i", encoder, passage_tokens=40)
    assert index.add(FILLER * n for n in (1, 9, 0, 7, 5)) == ["0", "1", "2", "3", "4"]
    assert len(index) == 5 and index.info()["passages"] > 8
    assert len({*ids(index.search("committee", k=9))}) == 5
    with pytest.raises(InvalidInput, match=r"texts\[3\]"):
        index.add(iter([LONG, LONG, LONG, None]))
    assert len(Index.open(index.path)) == 5 and check_index(index.path) == []


def test_given_vectors_are_one_row_a_document(index, encoder):
    index.add_vectors(["v"], encoder.encode_documents([LONG]), texts=[LONG])
    assert index.search("committee", where={"id": "v"})[0].text == LONG


@pytest.mark.parametrize("lists", [False, True])
def test_large_segments_agree_with_exhaustive_search(tmp_path, rng, monkeypatch, pruned, lists):
    """Passages by the thousand, with and without inverted lists, many of few documents among the best."""
    monkeypatch.setattr(rank, "TOKENS_AN_ENTRY", 0.1)
    for name, value in (("LISTS", 64), ("LEAST_LISTS", 8), ("LISTED_PER_HIT", 1)):
        monkeypatch.setattr(planning, name, value)
    if lists:
        monkeypatch.setattr("latebolt.index.store.inverted_lists.LEAST_TOKENS", 0)
    index = Index.create(tmp_path / "i", None, dim=64)
    n, length = 2000, 8
    centres = rng.unit(200, 64)
    values = centres[rng.integers(0, 200, n * length)] + 0.3 * rng.unit(n * length, 64)
    values[: 300 * length] = centres[np.tile(np.arange(length), 300)]
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    vectors = TokenVectors(values, np.arange(0, n * length + 1, length))
    # 20 documents of 100 passages; those of the first three are alike and the best.
    add_passages(index, vectors, [f"{i // 100:02}" for i in range(n)], [i % 100 for i in range(n)])
    [segment] = index._store.snapshot().segments
    assert len(index) == 20 and (segment.lists is not None) == lists
    assert layout.PASSAGES in segment.record.files
    query = centres[:length]
    fast, all_ = index.search_vectors(query, k=8), index.search_vectors(query, k=8, exhaustive=True)
    assert len({hit.id for hit in fast}) == len(fast) == 8
    assert [(hit.id, hit.score) for hit in fast] == [(hit.id, hit.score) for hit in all_]
    some = index.search_vectors(query, k=20, where={"id": {">=": "10"}})
    assert sorted(ids(some)) == [f"{i}" for i in range(10, 20)]


# Storage


def write(path: Path, texts: list[str], passages: list[int]) -> None:
    """One commit of the document "d" in so many passages, a token each."""
    with Store.open(path).writer() as writer:
        draft = writer.new_segment(COLUMNS)
        draft.append(
            documents(["d"] * len(texts), texts), [1] * len(texts), tokens_of("d", len(texts)), passages
        )
        writer.commit()


def living(path: Path) -> list[str | None]:
    segments = Store.open(path).snapshot().segments
    return [text for s in segments for _, text, _, _ in s.documents(np.flatnonzero(s.alive))]


def test_bytes_of_passages(tmp_path):
    make_store(tmp_path / "i")
    write(tmp_path / "i", ["x", "a", "b"], [0, 0, 1])  # "x" is replaced at once
    data = (tmp_path / "i" / "segments" / "1" / "passages.npy").read_bytes()
    assert data[128:] == bytes.fromhex("00000000 00000000 01000000") and b"<u4" in data[:128]
    assert living(tmp_path / "i") == ["a", "b"] and Store.open(tmp_path / "i").snapshot().n_documents == 1
    write(tmp_path / "i", ["c"], [0])
    assert [path.name for path in (tmp_path / "i" / "segments").iterdir()] == ["2"]
    assert not list((tmp_path / "i" / "segments" / "2").glob("passages*"))


def test_a_full_disk_leaves_all_passages_or_none():
    def full() -> None:
        raise OSError(errno.ENOSPC, "full")

    old, new, outcomes = ["a", "b", "c"], ["e", "f"], set()
    for n in itertools.count():
        with quick_folder() as folder:
            make_store(folder / "i")
            write(folder / "i", old, [0, 1, 2])
            with fault_at(n, full, GROWING) as count, contextlib.suppress(LateboltError, OSError):
                write(folder / "i", new, [0, 1])
            found = living(folder / "i")
            assert found in (old, new) and check_index(folder / "i") == []
            outcomes.add(tuple(found))
            if count.n <= n:
                break
    assert outcomes == {tuple(old), tuple(new)}


@pytest.mark.parametrize(
    ("numbers", "field"),
    [([1, 2, 3], "passages[0]"), ([0, 2, 3], "passages[1]"), ([0, 1, 1], "passages[2]"), ([0, 1, 0], None)],
)
def test_passages_that_do_not_follow_each_other_are_found(tmp_path, numbers, field):
    """What digests cannot vouch for: the file is the one that was written, and says nonsense."""
    path = tmp_path / "i"
    make_store(path)
    write(path, ["a", "b", "c"], [0, 1, 2])
    manifest = read_manifest(path)
    [segment] = manifest.segments
    file = path / "segments" / "1" / layout.PASSAGES
    file.unlink()
    record = files.write_array(file, np.array(numbers, np.uint32))
    segment = msgspec.structs.replace(segment, files={**segment.files, layout.PASSAGES: record})
    manifest = msgspec.structs.replace(manifest, segments=(segment,))
    files.publish(path / "manifest.json", layout.encode_manifest(manifest))
    assert [problem.field for problem in check_index(path)] == ([field] if field else [])


def test_passages_of_two_documents_that_should_be_one_are_found(tmp_path):
    path = tmp_path / "i"
    make_store(path)
    with Store.open(path).writer() as writer:
        draft = writer.new_segment(COLUMNS)
        draft.append(documents(["d", "d", "e"], ["a", "b", "c"]), [1] * 3, tokens_of("d", 3), [0, 1, 2])
        writer.commit()
    [problem] = check_index(path)
    assert problem.field == "documents.row 2, id" and "'d'" in str(problem) and "'e'" in str(problem)


@given(
    begins=st.lists(st.booleans(), max_size=300),
    tokens=st.integers(1, 20),
    overlap=st.integers(0, 19),
    sizes=st.lists(st.integers(1, 40), min_size=1),
)
def test_tokens_that_come_in_parts_are_cut_alike(begins, tokens, overlap, sizes):
    cutting = Cutting(tokens, min(overlap, tokens - 1))
    spans = [(2 * i, 2 * i + 1) for i in range(len(begins))]
    parts, start = [], 0
    for size in itertools.cycle(sizes):
        if start >= len(begins):
            break
        parts.append((spans[start : start + size], begins[start : start + size]))
        start += size
    assert list(cut_parts(parts, cutting)) == cut_text(spans, begins, cutting)


@given(
    st.lists(st.booleans(), min_size=1, max_size=200),
    st.integers(2, 30),
    st.integers(0, 20),
    st.integers(1, 40),
    st.data(),
)
def test_breaks_are_where_passages_end_if_one_fits(
    begins: list[bool], tokens: int, overlap: int, part: int, data: st.DataObject
) -> None:
    cutting = Cutting(tokens, min(overlap, tokens - 1))
    spans = [(3 * i, 3 * i + 2) for i in range(len(begins))]
    breaks = sorted(data.draw(st.sets(st.integers(0, 3 * len(begins)), max_size=20)))
    parts = [(spans[i : i + part], begins[i : i + part]) for i in range(0, len(begins), part)]
    firsts = [any(3 * i - 3 < each <= 3 * i for each in breaks) for i in range(len(begins))]
    expected = cut_text(spans, begins, cutting, firsts if breaks else None)
    assert list(cut_parts(parts, cutting, breaks)) == expected
    if breaks:
        for start, stop in expected[:-1]:
            first, end = start // 3, (stop + 1) // 3
            reachable = range(first + cutting.tokens, first + cutting.overlap, -1)
            wanted = next((i for i in reachable if firsts[i]), None)
            assert wanted is None or end == wanted
