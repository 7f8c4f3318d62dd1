"""Documents read in windows: each as if it stood alone, all of a document's vectors one behind the other."""

from __future__ import annotations

import copy
import itertools
import random
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt import Encoder, Index
from latebolt.contract import MOST_IN_WINDOWS
from latebolt.encoder.encoder import _joined
from latebolt.encoder.reading import windows
from latebolt.errors import InvalidInput
from latebolt.index.ingest.sources import fitting


@pytest.fixture(scope="module")
def multilingual():
    return Encoder.load("multilingual", threads=1)


WORDS = ("Hund", "beißt", "Mann,", "и", "собака", "很快地跑过去了。", "犬が走る。", "كلب", "naïve", "x1")


def windowed(encoder: Encoder, window: int | None, **rules) -> Encoder:
    """The same model whose documents are read in windows."""
    text = copy.copy(encoder._text)
    document = msgspec.structs.replace(encoder.contract.document, window=window, **rules)
    text.contract = msgspec.structs.replace(encoder.contract, document=document)
    text._repeated = text._repeated_ids(document)
    return replace(encoder, _text=text)


def texts(seed: int, *lengths: int) -> list[str]:
    """Texts of so many words in many scripts."""
    random_ = random.Random(seed)
    return [" ".join(random_.choices(WORDS, k=length)) for length in lengths]


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 20))
def test_windows_hold_every_token_once_and_end_before_words_where_they_can(begins, most):
    found = windows(begins, most)
    assert [i for part in found for i in part] == list(range(len(begins)))
    assert all(1 <= len(part) <= most for part in found) or not begins
    for part, following in itertools.pairwise(found):
        full = part.start + most
        assert begins[following.start] or not any(begins[i] for i in range(part.start + 1, full + 1))
        # No word more would have fitted.
        assert not any(begins[i] for i in range(following.start + 1, full + 1))


@given(st.integers(0, 2**32), st.integers(3, 40))
@settings(max_examples=40, deadline=None)
def test_a_window_is_a_document_of_its_tokens(multilingual, seed, window):
    """Marked and prompted as that is; what is read is the whole text, and its places in it are true."""
    [text] = texts(seed, 60)
    whole, parted = windowed(multilingual, None), windowed(multilingual, window)
    [all_at_once], [tokens] = whole.tokenize([text], "document"), parted.tokenize([text], "document")
    prefix, suffix = multilingual.contract.frame.prefix, multilingual.contract.frame.suffix
    head = [*prefix, *parted._text._repeated]
    own = []
    for each in tokens.windows():
        ids = each.ids.tolist()
        assert ids[: len(head)] == head and ids[len(ids) - len(suffix) :] == list(suffix)
        own.append(ids[len(head) : len(ids) - len(suffix)])
        assert 1 <= len(own[-1]) <= window and not each.cuts
        dropped = [id in multilingual.contract.document.skiplist for id in ids]
        assert (each.keep is None and not any(dropped)) or each.keep.tolist() == [not d for d in dropped]
    assert [i for part in own for i in part] == all_at_once.ids[len(head) : -len(suffix)].tolist()
    assert len(tokens.windows()) > 1 and tokens.n_kept == len(parted.spans(text, "document"))
    spans = [span for span in parted.spans(text, "document") if span != (0, 0)]
    assert spans == [span for span in whole.spans(text, "document") if span != (0, 0)]


def test_vectors_of_windows_are_joined_whatever_they_come_with(multilingual):
    """Alone, in bulk, in chunks and by a runner; a text of one window is what it was before."""
    parted = windowed(multilingual, 20)
    found = texts(3, 5, 90, 1, 45, 19, 30, 64, 0, 33, 8)
    expected = []
    for tokens in parted.tokenize(found, "document"):
        expected.append(np.concatenate([parted.vectors_of(each) for each in tokens.windows()]))
    together = parted.encode_documents(found)
    for vectors, each in zip(together, expected, strict=True):
        np.testing.assert_array_equal(vectors, each)
    alone = [parted.encode_documents([text])[0] for text in found]
    chunked = [vectors for part in parted.iter_documents(found, chunk=3) for vectors in part]
    ran = parted.run_by(lambda tokens, kind: parted.vectors_of_many(tokens)).encode_documents(found)
    for ways in zip(together, alone, chunked, ran, strict=True):
        for vectors in ways[1:]:
            np.testing.assert_array_equal(vectors, ways[0])
    short = windowed(multilingual, None).encode_documents(found[2:3])
    np.testing.assert_array_equal(short[0], together[2])
    assert together.truncated is None


def test_columns_of_windows_are_joined_too(multilingual):
    """What GPUs make of vectors where they lie comes as columns by names, a row a token."""
    tokens = windowed(multilingual, 20).tokenize(texts(4, 5, 60, 1), "document")
    parts = [window for each in tokens for window in each.windows()]
    columns = [{"code": part.ids[:, None], "norm": part.ids} for part in parts]
    for each, found in zip(tokens, _joined(tokens, columns), strict=True):
        assert found.keys() == {"code", "norm"} and found["norm"].tolist() == each.ids.tolist()
        assert found["code"].shape == (len(each.ids), 1)
    assert [len(each.cuts) for each in tokens][::2] == [0, 0] and tokens[1].cuts


def test_a_long_document_is_read_to_its_end(multilingual):
    [text] = texts(5, 900)
    at_once = windowed(multilingual, None, max_tokens=512)
    assert at_once.encode_documents([text]).n_truncated == 1
    assert multilingual.encode_documents([text]).n_truncated == 0
    assert len(multilingual.encode_documents([text])[0]) > 900
    assert multilingual.spans(text, "document")[-2][1] >= len(text) - len(WORDS[5])


def test_what_is_longer_than_the_limit_is_told(multilingual, caplog):
    short = multilingual.with_lengths(document=300)
    with caplog.at_level("WARNING", "latebolt"):
        vectors = short.encode_documents(texts(6, 600, 4))
    assert vectors.truncated.tolist() == [True, False]
    [record] = [each for each in caplog.records if each.name == "latebolt"]
    assert "longer than the 300 tokens" in record.getMessage()
    assert f"with_lengths(document=...) of the encoder reads up to {MOST_IN_WINDOWS}" in record.getMessage()
    with pytest.raises(InvalidInput, match=f"max_length should be in 3..{MOST_IN_WINDOWS}"):
        multilingual.encode_documents(["a"], max_length=MOST_IN_WINDOWS + 1)


def test_late_chunking_reads_at_once(multilingual):
    """As far as the model's positions go, however documents are read else."""
    [text] = texts(7, 150)
    at_once = windowed(multilingual, None, max_tokens=512)
    part = [[(0, 40), (40, len(text))]]
    for mine, other in zip(
        multilingual.encode_parts([text], part), at_once.encode_parts([text], part), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    assert multilingual.document_room == at_once.document_room < 512
    [long] = texts(8, 900)
    vectors = multilingual.encode_parts([long], [[(0, 40), (40, len(long))]])
    assert vectors.truncated.tolist() == [False, True]


def test_long_documents_are_encoded_few_at_a_time(multilingual, tmp_path, monkeypatch):
    """What memory holds of vectors is bounded by tokens, not by documents; nothing is left out for it."""
    assert list(fitting([512] * 10, 4)) == [4, 4, 2]
    assert list(fitting([8192, 10, 10, 8192, 8192, 2000, 40], 4)) == [1, 2, 1, 1, 2]
    monkeypatch.setattr("latebolt.index.ingest.addition.CHUNK_DOCUMENTS", 4)
    together = []
    encode = Encoder.encode_documents

    def counted(self, some, *args, **kwargs):
        together.append(len(some))
        return encode(self, some, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode_documents", counted)
    index = Index.create(tmp_path / "index", multilingual, bits=16)
    index.add(texts(10, 300, 300, 300, 300, 4, 4, 4, 4, 4))
    assert len(index) == 9 and max(together) == 4 and 1 in together and sum(together) == 9


def test_a_window_and_its_prompt_fit_the_model(multilingual):
    parted = windowed(multilingual, 510)
    tokens = parted.tokenize(texts(9, 900), "document")
    assert max(len(each.ids) for text in tokens for each in text.windows()) <= 512
    assert len(parted.encode_documents(texts(9, 900))[0]) > 900
