"""What kernels and NumPy index by is proved in range before its first use, once for each state of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latebolt import Index, TokenVectors
from latebolt.errors import IndexCorrupt
from latebolt.index.format import layout, mmap_array, proof
from latebolt.index.ingest import train
from latebolt.index.store import inverted_lists
from latebolt.index.store.segment import Segment

N, TOKENS, DIM = 60, 8, 64


@pytest.fixture
def path(tmp_path: Path, rng, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of 2 bits with lists."""
    monkeypatch.setattr(train, "TRAIN_TOKENS", 64)
    monkeypatch.setattr(inverted_lists, "LEAST_TOKENS", 1)
    index = Index.create(tmp_path / "index", None, bits=2, dim=DIM)
    vectors = TokenVectors(rng.unit(N * TOKENS, DIM), np.arange(0, N * TOKENS + 1, TOKENS))
    index.add_vectors([str(i) for i in range(N)], vectors)
    return tmp_path / "index"


@pytest.fixture
def query(rng) -> np.ndarray:
    return rng.unit(4, DIM)


def change(path: Path, name: str, do: Callable[[np.ndarray], None]) -> Path:
    """Change numbers of a file in place; size, header and inode stay."""
    [file] = path.rglob(name)
    data = bytearray(file.read_bytes())
    array = np.load(file)
    do(array)
    data[layout.NPY_HEADER_BYTES :] = array.tobytes()
    file.write_bytes(data)
    return file


def put(place: int, value: int) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(place, value)


OUT_OF_RANGE = [
    # (file, change, field, noticed by opening)
    ("cell.npy", put(3, 65535), "cell[3]", False),
    ("cell.npy", put(-1, 65535), f"cell[{N * TOKENS - 1}]", False),
    ("offsets.npy", put(5, 1 << 40), "offsets[6]", True),
    ("offsets.npy", put(5, -1), "offsets[5]", True),
    ("offsets.npy", put(0, 1), "first and last", True),
    ("list_offsets.npy", put(1, 1 << 40), "list_offsets[2]", True),
    ("list_offsets.npy", put(-1, 1 << 40), "first and last", True),
    ("list_starts.npy", put(1, 1 << 40), "list_starts[2]", True),
    ("list_starts.npy", put(-1, 1 << 40), "first and last", True),
]


@pytest.mark.parametrize(("name", "do", "field", "at_once"), OUT_OF_RANGE)
@pytest.mark.parametrize("exhaustive", (False, True))
def test_numbers_out_of_range_are_no_answer(path, query, name, do, field, at_once, exhaustive):
    file = change(path, name, do)
    with pytest.raises(IndexCorrupt) as caught:
        index = Index.open(path)
        assert not at_once
        index.search_vectors(query, 3, exhaustive=exhaustive)
    assert (caught.value.path, caught.value.field) == (file, field)


@pytest.mark.parametrize("n", range(2, 9))
def test_numbers_are_compared_across_the_blocks_they_are_read_in(monkeypatch, n):
    monkeypatch.setattr(proof, "_BLOCK", 3)
    for check, sound, place, value in (
        (lambda a: proof.check_offsets(Path("offsets.npy"), a, 80), 10 * np.arange(9), n - 1, 10 * n + 5),
        (lambda a: proof.check_passages(Path("passages.npy"), a), np.arange(9, dtype=np.uint32), n, 9),
        (lambda a: proof._check_cells(Path("cell.npy"), a, 9), np.zeros(9, np.uint16), n, 9),
    ):
        check(sound)
        sound[place] = value
        with pytest.raises(IndexCorrupt) as caught:
            check(sound)
        assert caught.value.field.endswith(f"[{n}]")


def test_a_walk_and_a_copy_prove_the_cells_too(path):
    file = change(path, "cell.npy", put(3, 65535))
    for use in (
        lambda index: [block.token_vectors() for block in index.iter_documents()],
        lambda index: (index.delete(["7"]), index.compact()),
    ):
        with pytest.raises(IndexCorrupt) as caught:
            use(Index.open(path))
        assert caught.value.path == file


@pytest.mark.parametrize(
    ("name", "do", "got"),
    [
        ("centroids.npy", lambda a: a.__setitem__((0, 0), np.nan), "finite"),
        ("factors.npy", lambda a: a.__setitem__((0, 0), 1e30), "finite"),
        ("spread.npy", lambda a: a.__setitem__(0, 0), "above 0"),
        ("levels.npy", lambda a: a.__setitem__(0, 200), "up to 127"),
    ],
)
def test_a_codec_that_none_has_written_is_not_used(path, query, name, do, got):
    file = change(path, name, do)
    with pytest.raises(IndexCorrupt, match=got) as caught:
        Index.open(path).search_vectors(query, 3)
    assert caught.value.path == file


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read for a proof."""
    seen: list[str] = []
    for name in ("check_offsets", "_check_cells"):
        real = getattr(proof, name)
        monkeypatch.setattr(
            proof, name, lambda path, *rest, real=real: (seen.append(path.name), real(path, *rest))
        )
    monkeypatch.setattr(proof, "_proved", set())
    monkeypatch.setattr(mmap_array, "_SETTLED_NS", -1 << 62)
    return seen


def test_nothing_is_proved_twice_until_the_file_changes(path, query, proofs):
    for _ in range(3):
        index = Index.open(path)
        for _ in range(2):
            index.search_vectors(query, 3)
    assert sorted(proofs) == ["cell.npy", "list_offsets.npy", "list_starts.npy", "offsets.npy"]
    file = change(path, "cell.npy", put(3, 65535))
    os.utime(file, ns=(0, 0))  # a time that was set back tells nobody
    with pytest.raises(IndexCorrupt):
        Index.open(path).search_vectors(query, 3)
    assert proofs.count("cell.npy") == 2 and proofs.count("offsets.npy") == 1


def test_an_index_opens_without_reading_its_cells(path, query, proofs):
    index = Index.open(path)
    assert "cell.npy" not in proofs
    index.search_vectors(query, 3)
    assert "cell.npy" in proofs


def test_a_file_that_has_only_just_changed_is_not_remembered(path, query, proofs, monkeypatch):
    monkeypatch.setattr(mmap_array, "_SETTLED_NS", 1 << 62)
    Index.open(path).search_vectors(query, 3)
    Index.open(path).search_vectors(query, 3)
    assert proofs.count("cell.npy") == 2


@pytest.mark.parametrize("bits", (8, 16))
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_scores_that_are_no_numbers_name_the_file(tmp_path, rng, query, bits, value):
    index = Index.create(tmp_path / "index", None, bits=bits, dim=DIM)
    index.add_vectors(["a", "b"], TokenVectors(rng.unit(4, DIM), np.array([0, 2, 4])))
    name = {8: "scale.npy", 16: "values.npy"}[bits]
    file = change(tmp_path / "index", name, lambda array: array.fill(value))
    with pytest.raises(IndexCorrupt, match="finite") as caught:
        Index.open(tmp_path / "index").search_vectors(query, 3)
    assert caught.value.path == file


def test_a_thread_that_is_overtaken_by_another_proves_what_it_looked_at(
    path: Path, query: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    """The first searches of a commit may be two at once: of what one has looked at, the other may be done."""
    index = Index.open(path)
    [segment] = index._store.snapshot().segments
    looks = [segment._unproved]
    assert looks[0] is not None

    def overtaken(self: Segment) -> object:
        return looks.pop() if looks else None

    monkeypatch.setattr(Segment, "_unproved", property(overtaken, lambda *_: None), raising=False)
    assert len(segment.column("cell")) == N * TOKENS and not looks
    assert len(index.search_vectors(query, k=3)) == 3
