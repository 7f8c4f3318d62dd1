"""What people type: NumPy's numbers, lists of arrays, tables, closed indexes, ids as numbers, empty lists."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latebolt import Encoder, Index, TokenVectors, maxsim
from latebolt.errors import IndexUnusable, InvalidInput, LateboltError

TEXTS = ["a cat sleeps on the sofa", "the dog barks at night", "a house stands on the hill"]


class Frame:
    """What a DataFrame of pandas or polars, or a table of Arrow, has in common with them."""

    columns = ("text", "id")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return 2


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Index:
    index = Index.create(tmp_path / "i", encoder)
    index.add(TEXTS, ids=["0", "1", "x"], metadata=[{"year": np.int64(2020 + n)} for n in range(3)])
    return index


@pytest.fixture
def vectors(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "v", None, bits=16, dim=16)


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


def test_numbers_of_numpy(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    expected = ids(index.search("cat", k=2))
    assert ids(index.search("cat", k=np.int64(2))) == expected and len(expected) == 2
    assert [hit.id for hit in encoder.rerank("cat", TEXTS, k=np.uint8(1))] == [0]
    for where in (
        {"year": np.int32(2021)},
        {"year": {"in": [np.float64(2021.0)]}},
        {"year": {"in": np.array([2021, 1999])}},
        {"year": {"in": range(2021, 2022)}},
        {"year": {">": np.float32(2020.5), "<": np.int16(2022)}},
        "year in [2021, 3]",
        "year in (2021, 3)",
        "year not in [2020, 2022]",
    ):
        assert ids(index.search("cat", where=where)) == ["1"], where
    for bad in (0, -1, 2.0, np.float64(2), "2", True, None, np.bool_(True)):
        with pytest.raises(InvalidInput, match="k should be an int"):
            index.search("cat", k=bad)
    other = Index.create(tmp_path / "n", None, bits=np.int64(8), dim=np.int32(16))
    assert Index.open(other.path).info()["bits"] == 8
    assert len(list(index.iter_documents(np.int64(1)))) == 3


def test_numbers_stand_for_ids(index: Index) -> None:
    for where in (
        {"id": 1},
        {"id": 1.0},
        {"id": np.float32(1)},
        {"id": {"in": [1, 7]}},
        "id = 1",
        "id in [1.0]",
    ):
        assert ids(index.search("cat", where=where)) == ["1"], where
    assert sorted(ids(index.search("cat", where={"id": {"!=": 1}}))) == ["0", "x"]
    assert sorted(ids(index.search("cat", where="id not in (1, 0)"))) == ["x"]
    with pytest.raises(InvalidInput, match="ids are strings"):
        index.search("cat", where="id > 0")


def test_lists_of_arrays_are_token_vectors(vectors: Index, rng: Any) -> None:
    matrices = [rng.unit(3, 16), rng.unit(5, 16)]
    joined = TokenVectors.from_matrices(matrices)
    query = rng.unit(4, 16)
    want = maxsim(query, joined)
    for given in (
        matrices,
        tuple(matrices),
        iter(matrices),
        [m.tolist() for m in matrices],
        np.array(matrices, object),
    ):
        np.testing.assert_array_equal(maxsim(query, given), want)
    np.testing.assert_array_equal(maxsim(query, np.stack([matrices[0]] * 2)), want[[0, 0]])
    assert vectors.add_vectors(["a", "b"], matrices) == ["a", "b"]
    assert vectors.add_vectors(None, iter(matrices)) == ["0", "1"] and len(vectors) == 4
    assert ids(vectors.search_vectors(matrices[1].tolist(), k=2)) == ["1", "b"]


@pytest.mark.parametrize(
    ("query", "documents", "message"),
    [
        ("a", [np.ones((1, 16))], r"query should be a matrix .* got one str.*encode_queries"),
        (np.ones((1, 16)), "text", r"documents should be TokenVectors or a list of arrays.*encode_documents"),
        (np.ones((1, 16)), ["text"], r"documents: matrix 0 should be a matrix .* got one str"),
        (np.ones((1, 16)), np.ones((3, 16)), r"one array of shape \(3, 16\).*in a list"),
        (np.ones((1, 16)), {"a": 1}, "got dict"),
        (np.ones((1, 16)), 3, "got int"),
        (np.ones((1, 16)), [np.ones((2, 16)), np.ones(16)], r"matrix 1 should be \[n_tokens, 16\]"),
        (np.ones((1, 16)), [[["x"]]], "matrix of numbers"),
        (np.ones(16), [np.ones((1, 16))], r"query should be \[n_tokens, dim\], got shape \(16,\)"),
        (TokenVectors.from_matrices([np.ones((1, 16))] * 2), [np.ones((1, 16))], r"vectors\[0\]"),
        (np.ones((1, 16)), [np.ones((1, 8))], "16"),
    ],
)
def test_what_is_no_vectors_is_refused_by_name(query: Any, documents: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        maxsim(query, documents)


def test_empty_lists(index: Index, vectors: Index, encoder: Encoder) -> None:
    generation = index.info()["generation"]
    assert index.add([]) == [] and index.add([], ids=[], metadata=[]) == [] and index.add(iter(())) == []
    assert index.get([]) == [] and index.delete([]) == 0 and index.search_many([]) == []
    assert (
        vectors.add_vectors([], []) == [] and vectors.add_vectors(None, TokenVectors.from_matrices([])) == []
    )
    assert index.info()["generation"] == generation
    assert encoder.rerank("cat", []) == [] and len(encoder.encode_documents([])) == 0
    assert maxsim(np.ones((1, 16), np.float32), []).shape == (0,)
    assert vectors.search_vectors(np.ones((1, 16))) == [] and vectors.search_vectors_many([]) == []


@pytest.mark.parametrize("given", ["text", b"text", {"text": ["a"]}, Frame(), 5])
def test_what_would_be_walked_wrongly_is_refused_by_name(index: Index, given: Any) -> None:
    kind = type(given).__name__
    with pytest.raises(InvalidInput, match=rf"texts should be a list.*{kind}"):
        index.add(given)
    with pytest.raises(InvalidInput, match=rf"metadata should be a list.*{kind}"):
        index.add(["a"], metadata=given)
    for call in (index.get, index.delete, lambda ids: index.add(["a"], ids=ids)):
        with pytest.raises(InvalidInput, match=rf"ids should be a list.*{kind}"):
            call(given)
    with pytest.raises(InvalidInput, match=rf"queries should be a list.*{kind}"):
        index.search_many(given)
    assert len(index) == 3


def test_ids_that_are_no_strings_are_named(index: Index) -> None:
    for call in (index.get, index.delete, lambda ids: index.add(["a", "b"], ids=ids)):
        with pytest.raises(InvalidInput, match=r"ids\[1\] should be a .*string, got 1"):
            call(["0", 1])


def test_an_id_twice_in_one_addition_names_both_places(index: Index, vectors: Index) -> None:
    for texts, names in (
        (TEXTS, ["a", "b", "a"]),
        (iter(TEXTS), iter(["a", "b", "a"])),
        (TEXTS, ["\ud800", "b", "\ufffd"]),
    ):
        with pytest.raises(InvalidInput, match=r"ids\[2\] is .*, and so is ids\[0\]"):
            index.add(texts, ids=names)
    with pytest.raises(InvalidInput, match=r"ids\[1\] is 'a', and so is ids\[0\]"):
        vectors.add_vectors(["a", "a"], [np.eye(16)[:1]] * 2)
    assert len(index) == 3 and len(vectors) == 0


def test_halves_of_characters_are_one_rule(index: Index) -> None:
    half, whole = "half \ud83d of it", "half \ufffd of it"
    assert index.add([half], ids=["\udc00"], metadata=[{"k\ud800": "v\udc00"}]) == ["\ufffd"]
    [entry] = index.get(["\udc00"])
    assert (entry.id, entry.text, entry.metadata) == ("\ufffd", whole, {"k\ufffd": "v\ufffd"})
    assert index.search(half, k=4) == index.search(whole, k=4)
    for where in (
        {"k\ud800": "v\udc00"},
        '`k\ud800` = "v\\udc00"',
        {"id": "\ud800"},
        {"id": {"in": ["\ud800"]}},
    ):
        assert ids(index.search("half", where=where)) == ["\ufffd"], where
    assert index.search_many([half], k=1)[0][0].text == whole
    assert index.delete(["\ud800"]) == 1


def test_an_index_pickles_by_its_folder(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    for again in (pickle.loads(pickle.dumps(index)), copy.copy(index), copy.deepcopy(index)):
        assert again is not index and again.path.samefile(index.path)
        assert again.search("cat", k=2) == index.search("cat", k=2)
        again.close()
    lazily = Index.open(index.path, threads=1)
    lazily.search("cat")
    assert len(pickle.dumps(lazily)) < 1000
    assert pickle.loads(pickle.dumps(lazily)).encoder.threads == 1
    assert len(index) == 3, "the first one stays open"
    staged = Index.create(tmp_path / "later", encoder, with_first_add=True)
    with pytest.raises(InvalidInput, match="before its first addition"):
        pickle.dumps(staged)


CALLS: dict[str, Callable[[Index], Any]] = {
    "add": lambda index: index.add(["a"]),
    "add nothing": lambda index: index.add([]),
    "add_vectors": lambda index: index.add_vectors(["a"], [np.eye(128)[:1]]),
    "delete": lambda index: index.delete(["0"]),
    "compact": lambda index: index.compact(),
    "adopt": lambda index: index.adopt(index.path),
    "new_part": lambda index: index.new_part(index.path / "part"),
    "get": lambda index: index.get(["0"]),
    "documents": lambda index: next(index.documents()),
    "iter_documents": lambda index: index.iter_documents(),
    "search": lambda index: index.search("cat"),
    "explain": lambda index: index.search("cat", explain=True),
    "search_many": lambda index: index.search_many(["cat"]),
    "search_vectors": lambda index: index.search_vectors(np.eye(128)[:1]),
    "info": lambda index: index.info(),
    "len": len,
    "dim": lambda index: index.dim,
    "model": lambda index: index.model,
    "pickle": pickle.dumps,
    "with": lambda index: index.__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_closed_index_says_so(index: Index, call: Callable[[Index], Any]) -> None:
    index.close()
    index.close()
    assert "closed" in repr(index) and index.path.is_dir()
    with pytest.raises(IndexUnusable, match=r"was closed. Open it again with Index\.open"):
        call(index)
    assert isinstance(IndexUnusable(""), LateboltError) and len(Index.open(index.path)) == 3


def test_a_name_in_place_of_a_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Encoder\.load\('starter'\)"):
        Index.create(tmp_path / "i", "starter")  # type: ignore[arg-type]
