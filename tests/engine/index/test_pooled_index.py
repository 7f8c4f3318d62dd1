"""An index that pools tokens: however a text is added, its vectors are those of the encoder's pooling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latebolt import Encoder, Index, TokenVectors
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.encoder.pooling import Pooling
from latebolt.errors import InvalidInput
from latebolt.index.documents.checked import check_documents
from latebolt.index.documents.pooled import kept_pooling, pooling_settings
from latebolt.index.ingest import sources
from latebolt.index.reencode import reencode
from latebolt.index.store.check import check_index
from latebolt.progress import progress_bar
from latebolt.sharding import ShardedIndex, join, split

WORDS = ["river", "bread", "committee", "volcano", "ledger", "train", "kitten", "minutes", "glacier", "1997"]
POOLINGS = [(2, None), (1, 12), (3, 9)]


def prose(n_words: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, n_words))


TEXTS = {"long": prose(60, 1), "short": "kittens", "middle": prose(15, 2), "other": prose(33, 3)}


def new_index(path: Path, encoder: Encoder, factor: int = 2, most: int | None = None, **settings) -> Index:
    return Index.create(path, encoder, 16, pool_factor=factor, max_vectors=most, **settings)


def stored(index: Index) -> dict[str, np.ndarray]:
    return {
        id: matrix
        for block in index.iter_documents()
        for id, matrix in zip(block.ids, block.token_vectors(), strict=True)
    }


def pooled(encoder: Encoder, text: str, factor: int, most: int | None) -> np.ndarray:
    """What 16 bits a dimension keep of a text's vectors."""
    [matrix] = encoder.encode_documents([text], pool_factor=factor, max_vectors=most)
    return matrix.astype(np.float16).astype(np.float32)


def check(index: Index, encoder: Encoder, factor: int, most: int | None, texts=TEXTS) -> None:
    found = stored(index)
    assert found.keys() == texts.keys()
    for id, text in texts.items():
        np.testing.assert_array_equal(found[id], pooled(encoder, text, factor, most), err_msg=id)
    info = index.info()
    assert (info["pool_factor"], info["max_vectors"]) == (factor, most)


@pytest.mark.parametrize(("factor", "most"), POOLINGS)
def test_every_way_to_add_pools_alike(tmp_path, encoder, factor, most):
    ids, texts = list(TEXTS), list(TEXTS.values())
    ways = {
        name: new_index(tmp_path / name, encoder, factor, most) for name in ("add", "one", "sync", "long")
    }
    ways["add"].add(texts, ids=ids)
    for id, text in TEXTS.items():
        ways["one"].add(iter([text]), ids=iter([id]))
    ways["sync"].sync(TEXTS.items())
    work = ways["long"].long_addition(check_documents(4, texts=texts, ids=ids, metadata=None), "a")
    while work.encode():
        work.commit()
    part = ways["adopt"] = new_index(tmp_path / "adopt", encoder, factor, most)
    with part.new_part(tmp_path / "part") as other:
        other.add(texts, ids=ids)
    assert part.adopt(tmp_path / "part") == 4
    for index in ways.values():
        check(index, encoder, factor, most)
        index.compact()
        assert check_index(index.path) == []
        check(Index.open(index.path, encoder), encoder, factor, most)  # by what is on disk


def test_the_encoders_pooling_is_the_same_in_any_company(encoder):
    texts = [prose(n, n) for n in (1, 5, 40, 90, 12, 33, 61, 7, 20)]  # enough for several threads
    for factor, most in [*POOLINGS, (1, encoder.least_vectors), (1, None)]:
        together = encoder.encode_documents(texts, pool_factor=factor, max_vectors=most)
        later = encoder.pooled(encoder.encode_documents(texts), factor, most)
        chunks = list(encoder.iter_documents(texts, 4, factor, max_vectors=most))
        for i, text in enumerate(texts):
            [alone] = encoder.encode_documents([text], pool_factor=factor, max_vectors=most)
            for other in (together[i], later[i], chunks[i // 4][i % 4]):
                np.testing.assert_array_equal(other, alone)
            assert most is None or len(alone) <= most


def test_passages_are_pooled_each_by_itself(tmp_path, encoder):
    text = prose(150)
    for late in (False, True):
        index = new_index(tmp_path / f"{late}", encoder, 2, 14, passage_tokens=40, late_chunking=late)
        whole = Index.create(tmp_path / f"whole-{late}", encoder, 16, passage_tokens=40, late_chunking=late)
        for each in (index, whole):
            each.add([text], ids=["a"])
        some, all_of = (
            [matrix for block in each.iter_documents() for matrix in block.token_vectors()]
            for each in (index, whole)
        )
        assert len(some) == len(all_of) == index.info()["passages"] > 3
        exact = encoder.pooled(TokenVectors.from_matrices(all_of), 2, 14)
        for one, other in zip(some, exact, strict=True):
            assert len(one) == len(other) <= 14
            np.testing.assert_allclose((one * other).sum(1), 1, atol=0.02)  # all_of was rounded before


def test_vectors_are_kept_as_they_are_given(tmp_path, encoder):
    index = new_index(tmp_path / "i", encoder, 4, 5)
    vectors = encoder.encode_documents([TEXTS["long"]])
    index.add_vectors(["a"], vectors, [TEXTS["long"]])
    assert len(stored(index)["a"]) == len(vectors[0]) > 5
    index.sync([("a", TEXTS["long"])])  # which encodes again what was given
    np.testing.assert_array_equal(stored(index)["a"], pooled(encoder, TEXTS["long"], 4, 5))


@pytest.mark.parametrize(("factor", "most"), POOLINGS)
def test_shards_have_the_pooling_of_what_they_were_split_from(tmp_path, encoder, factor, most):
    index = new_index(tmp_path / "i", encoder, factor, most)
    index.add([TEXTS["short"]], ids=["short"])
    split(tmp_path / "i", tmp_path / "set", 3)
    with ShardedIndex.open(tmp_path / "set", encoder) as shards:
        rest = {id: text for id, text in TEXTS.items() if id != "short"}
        shards.add(list(rest.values()), ids=list(rest))
        info = shards.info()
        assert (info["pool_factor"], info["max_vectors"]) == (factor, most)
        [found] = shards.search(TEXTS["long"], k=1, explain=True).hits
        assert found.id == "long"
    join(tmp_path / "set", tmp_path / "joined")
    check(Index.open(tmp_path / "joined", encoder), encoder, factor, most)


def test_a_copy_of_another_pooling(tmp_path, encoder):
    index = new_index(tmp_path / "i", encoder, 2)
    index.add(list(TEXTS.values()), ids=list(TEXTS))
    made = reencode(index, tmp_path / "copy", encoder, 16, pool_factor=1, max_vectors=7)
    check(made.index, encoder, 1, 7)


def test_indexes_of_different_pooling_are_not_mixed(tmp_path, encoder):
    one, other = new_index(tmp_path / "2", encoder, 2), new_index(tmp_path / "3", encoder, 1, 30)
    plain = Index.create(tmp_path / "1", encoder, 16)
    for index in (one, other, plain):
        index.add([prose(9)], ids=["a"])
    with pytest.raises(InvalidInput, match=r"token pooling by 2, and .* has to at most 30 vectors a text"):
        other.adopt(one.path)
    with pytest.raises(InvalidInput, match=r"has token pooling none, and .* has by 2"):
        one.adopt(plain.path)
    for index in (one, other, plain):
        assert index.info()["generation"] == 1


def test_who_opens_may_ask_for_the_pooling_there_is(tmp_path, encoder):
    path = tmp_path / "i"
    Index.open_or_create(path, encoder, 16, pool_factor=2, max_vectors=20).close()
    for asked in ({}, {"pool_factor": 2}, {"max_vectors": 20}):
        Index.open_or_create(path, encoder, **asked).close()
    with pytest.raises(InvalidInput, match="has pool_factor 2; pool_factor=1 fits only a new index"):
        Index.open_or_create(path, encoder, pool_factor=1)
    with pytest.raises(InvalidInput, match="has max_vectors 20; max_vectors=21 fits only a new index"):
        Index.open_or_create(path, encoder, max_vectors=21)


def test_what_does_not_fit_leaves_nothing_behind(tmp_path, encoder):
    for wrong in ({"pool_factor": 0}, {"max_vectors": encoder.least_vectors - 1}, {"pool_factor": 10**30}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            Index.create(tmp_path / "i", encoder, **wrong)
    with pytest.raises(InvalidInput, match="need an encoder"):
        Index.create(tmp_path / "i", None, dim=64, max_vectors=9)
    assert not (tmp_path / "i").exists()


def test_settings_of_an_index_without_pooling_are_those_of_before():
    assert pooling_settings(Pooling()) == {} and kept_pooling({}) == Pooling()
    for pooling in (Pooling(2), Pooling(1, 9), Pooling(3, 9)):
        assert kept_pooling(pooling_settings(pooling)) == pooling
    for strange in ({"pool_factor": "2"}, {"pool_factor": 0}, {"max_vectors": -1}, {"max_vectors": [9]}):
        with pytest.raises(InvalidInput, match=next(iter(strange))):
            kept_pooling(strange)


@pytest.mark.parametrize(("factor", "most"), POOLINGS)
@pytest.mark.parametrize("bits", [2, 16])
def test_matches_and_highlights_of_pooled_texts_are_those_of_the_text(tmp_path, encoder, factor, most, bits):
    path = tmp_path / "i"
    index = Index.create(path, encoder, bits, pool_factor=factor, max_vectors=most)
    text = f"{prose(20)} The dog barks at night. {prose(20, 4)}"
    index.add([text, "kittens"], ids=["a", "b"])
    for opened in (index, Index.open(path, encoder.with_lengths(document=30))):
        found = opened.search("a barking dog", k=2, explain=True)
        assert found.hits[0].id == "a"
        words = {match.query_word: match.document_word for match in found.alignments[0]}
        assert words["dog"] == "dog" and words["barking"] == "barks"


def test_an_encoder_that_reads_less_does_not_take_clusters_for_tokens(tmp_path, encoder):
    """The text has as many tokens for it as pooling has left vectors, which stand for others."""
    n = 20
    text = f"{prose(12)} {prose(12, 5)} The dog barks at night."
    index = new_index(tmp_path / "i", encoder, 1, n)
    index.add([text], ids=["a"])
    assert len(stored(index)["a"]) == n
    less = encoder.with_lengths(document=n)
    [matches] = Index.open(index.path, less).search("a dog", k=1, explain=True).tokens
    [alone] = less.encode_documents([text])
    best = (less.encode_queries(["a dog"])[0] @ alone.T).max(axis=1)
    np.testing.assert_allclose([m.similarity for m in matches], best, atol=1e-5)


def test_vectors_that_are_pooled_do_not_become_codes_on_the_device(encoder, monkeypatch):
    class OnDevice:
        shares_runs = codes_on_device = True
        dim, encode_documents = encoder.dim, staticmethod(encoder.encode_documents)

        def code_documents(self, texts, code):
            raise AssertionError("coded where they lie")

    monkeypatch.setattr(sources, "KERNELS", object())  # as if codes were made elsewhere
    texts = list(TEXTS.values())
    codec = ResidualCodec.train(encoder.encode_documents(texts).values, 2, 100)
    batch = sources.one_batch(len(texts), list(TEXTS), texts, None)

    def coded(pooling):
        source = sources.EncodedTexts(OnDevice(), batch, progress_bar(None, "", "", False), pooling)
        return source.coded(range(len(texts)), codec)

    with pytest.raises(AssertionError, match="where they lie"):
        coded(Pooling())
    expected = encoder.encode_documents(texts, pool_factor=2, max_vectors=9)
    found = coded(Pooling(2, 9))
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    for name, column in codec.encode(expected.values).items():
        np.testing.assert_array_equal(found.columns[name], column)
