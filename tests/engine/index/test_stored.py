"""What an index gives back of its documents: all of them, in order, with vectors near those that went in."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt import Index, TokenVectors
from latebolt.errors import InvalidInput


def vectors_of(rng, lengths, dim=32) -> TokenVectors:
    return TokenVectors.from_matrices([rng.unit(n, dim) for n in lengths], dim)


def read(index: Index, **options) -> dict:
    """id -> (text, metadata, matrix), each id once."""
    found: dict = {}
    for block in index.iter_documents(**options):
        each = zip(block.ids, block.texts, block.metadata, block.token_vectors(), strict=True)
        for id_, text, metadata, matrix in each:
            assert id_ not in found
            found[id_] = (text, metadata, matrix)
    return found


@pytest.mark.parametrize(("bits", "least"), [(16, 0.9999), (8, 0.999), (4, 0.98), (2, 0.90), (1, 0.75)])
def test_every_document_comes_back_with_vectors_near_its_own(tmp_path, rng, bits, least):
    lengths = rng.integers(1, 60, size=400)
    given = vectors_of(rng, lengths)
    ids = [f"d{i}" for i in range(400)]
    index = Index.create(tmp_path / "i", None, bits=bits, dim=32)
    index.add_vectors(
        ids[:300],
        given[:300],
        [f"text {i}" for i in range(300)],
        [{"n": i} if i % 2 else None for i in range(300)],
    )
    index.add_vectors(ids[300:], given[300:])
    found = read(index, max_tokens=500)
    assert list(found) == ids
    for i, (text, metadata, matrix) in enumerate(found.values()):
        assert text == (f"text {i}" if i < 300 else None)
        assert metadata == ({"n": i} if i % 2 and i < 300 else None)
        assert matrix.shape == given[i].shape and matrix.dtype == np.float32
    stored = np.concatenate([matrix for *_, matrix in found.values()])
    norms = np.linalg.norm(stored, axis=1)
    cosine = (stored * given.values).sum(axis=1) / norms
    assert cosine.mean() > least and abs(norms - 1).max() < 0.1


def test_scores_of_what_comes_back_are_the_scores_of_the_search(tmp_path, rng):
    """What is decoded is what was scored, but for the query, which the kernels round."""
    given = vectors_of(rng, rng.integers(20, 60, size=300))
    index = Index.create(tmp_path / "i", None, bits=2, dim=32)
    index.add_vectors([str(i) for i in range(300)], given)
    query = rng.unit(8, 32)
    hits = {hit.id: hit.score for hit in index.search_vectors(query, k=300, exhaustive=True)}
    for id_, (_, _, matrix) in read(index).items():
        assert hits[id_] == pytest.approx((query @ matrix.T).max(axis=1).sum(), abs=0.05)


def test_rows_are_decoded_in_the_order_asked_for(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=16, dim=32)
    index.add_vectors(list("abcd"), vectors_of(rng, [3, 0, 5, 2]))
    [block] = index.iter_documents()
    whole, some = block.token_vectors(), block.token_vectors([2, 1, 0])
    assert len(block) == 4 and some.lengths.tolist() == [5, 0, 3]
    np.testing.assert_array_equal(some[0], whole[2])
    np.testing.assert_array_equal(some[2], whole[0])
    assert len(block.token_vectors([])) == 0


def test_deleted_and_replaced_documents_do_not_come_back(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=16, dim=32)
    index.add_vectors(list("abc"), vectors_of(rng, [3, 4, 5]), ["one", "two", "three"])
    index.add_vectors(["b"], vectors_of(rng, [7]), ["new"])
    index.delete(["c"])
    found = read(index)
    assert {id_: (text, len(matrix)) for id_, (text, _, matrix) in found.items()} == {
        "a": ("one", 3),
        "b": ("new", 7),
    }


def test_changes_meanwhile_do_not_show(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=16, dim=32)
    index.add_vectors(list("abc"), vectors_of(rng, [3, 4, 5]))
    blocks = index.iter_documents(max_tokens=1)
    first = next(blocks)
    index.delete(["b"])
    index.add_vectors(["d"], vectors_of(rng, [2]))
    index.compact()
    assert first.ids + [id_ for block in blocks for id_ in block.ids] == ["a", "b", "c"]


def test_passages_of_a_cut_document_are_neighbours(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder, passage_tokens=8, passage_overlap=2)
    index.add(
        ["one two three four five six seven eight nine ten eleven twelve", "short"], ids=["long", "short"]
    )
    rows = [row for b in index.iter_documents(1) for row in zip(b.ids, b.passages, b.texts, strict=True)]
    assert [row[:2] for row in rows] == [("long", 0), ("long", 1), ("short", 0)]
    assert rows[1][2].endswith("twelve")


def test_an_empty_index_has_no_block(tmp_path):
    index = Index.create(tmp_path / "i", None, dim=32)
    assert list(index.iter_documents()) == []
    for wrong in (0, True, 1.5):
        with pytest.raises(InvalidInput, match="max_tokens"):
            index.iter_documents(wrong)
