"""`Index.adopt`: documents encoded elsewhere come in once, whole, or not at all."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from store_faults import GROWING, fault_at
from store_samples import content, unnamed_files

from latebolt import Index, TokenVectors
from latebolt.errors import (
    IndexCorrupt,
    IndexLocked,
    IndexNotFound,
    InvalidInput,
    LateboltError,
    ModelMismatch,
    StorageFull,
)
from latebolt.index.format.layout import ModelRecord
from latebolt.index.ingest.parts import listing, write_listing
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

DIM = 32


def vectors(rng, n: int, tokens: int = 30) -> TokenVectors:
    return TokenVectors(rng.unit(n * tokens, DIM), np.arange(n + 1) * tokens)


def names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


@pytest.fixture
def index(tmp_path, rng) -> Index:
    """An index with centroids and ten documents x0 ... x9 of 1,000 tokens."""
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    index.add_vectors(names("x", 10), vectors(rng, 10, 1000), texts=names("old text ", 10))
    assert index.info()["centroids"]
    return index


def filled(index: Index, path: Path, ids: list[str], given: TokenVectors, **more) -> Index:
    part = index.new_part(path)
    part.add_vectors(ids, given, **more)
    return part


def state(path: Path) -> dict:
    return content(Store.open(path).snapshot())


def test_parts_become_what_adding_would_have_made(index, tmp_path, rng):
    twin = tmp_path / "twin"
    shutil.copytree(index.path, twin)
    a, b = vectors(rng, 40), vectors(rng, 30)
    texts, metadata = names("text ", 40), [{"n": i} for i in range(40)]
    parts = [
        filled(index, tmp_path / "a", names("a", 40), a, texts=texts, metadata=metadata).path,
        filled(index, tmp_path / "b", [*names("b", 29), "x3"], b).path,
    ]
    assert index.adopt(parts) == 70
    added = Index.open(twin)
    added.add_vectors(names("a", 40), a, texts=texts, metadata=metadata)
    added.add_vectors([*names("b", 29), "x3"], b)
    assert state(index.path) == state(twin) and len(index) == 79
    query = rng.unit(8, DIM)
    assert [(h.id, h.score) for h in index.search_vectors(query, k=20)] == [
        (h.id, h.score) for h in added.search_vectors(query, k=20)
    ]
    assert [h.id for h in index.search_vectors(query, where="n = 7")] == ["a7"]
    assert [h.id for h in index.search("text 7", mode="bm25", k=1)] == ["a7"]
    assert check_index(index.path) == []


def test_adopting_again_adds_nothing(index, tmp_path, rng):
    part = filled(index, tmp_path / "a", names("a", 40), vectors(rng, 40)).path
    index.adopt(part)
    before, size = state(index.path), index.info()
    assert index.adopt([part]) == 40
    assert state(index.path) == before
    after = index.info()
    assert [after[k] for k in ("documents", "tokens", "segments", "deleted")] == [
        size[k] for k in ("documents", "tokens", "segments", "deleted")
    ]


def test_what_a_part_deleted_deletes_nothing_here(index, tmp_path, rng):
    part = filled(index, tmp_path / "a", ["x1", "new"], vectors(rng, 2))
    part.delete(["x1"])
    before = state(index.path)
    assert index.adopt(part.path) == 1
    after = state(index.path)
    assert after.pop("new") and after == before


def test_a_part_of_text_is_cut_as_the_index_cuts(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder, passage_tokens=20)
    part = index.new_part(tmp_path / "p")
    long = "a cat sleeps on the sofa all day long. " * 8 + "The moon is bright tonight."
    part.add([long, "a dog barks"], ids=["cat", "dog"])
    assert index.adopt(part.path) == 2
    info = index.info()
    assert (info["documents"], info["passages"]) == (2, part.info()["passages"]) and info["passages"] > 3
    assert index.search("bright moon", k=1)[0].id == "cat"
    other = Index.create(tmp_path / "o", encoder, passage_tokens=30)
    with pytest.raises(InvalidInput, match="passage cutting"):
        other.adopt(part.path)


def test_parts_of_a_young_index_teach_it(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    parts = []
    for name in "abc":
        part = filled(index, tmp_path / name, names(name, 10), vectors(rng, 10, 1000))
        assert part.info()["centroids"] is None, "a part never learns"
        parts.append(part.path)
    index.adopt(parts[0])
    assert index.info()["centroids"] and len(index) == 10
    index.adopt(parts[1:])
    # Parts made before there were centroids: their vectors are turned into codes, or wait as unlike ones do.
    assert len(index) == 30 and check_index(index.path) == []
    exact = Index.create(tmp_path / "f", None, bits=16, dim=DIM)
    for part in parts:
        for segment in Store.open(part).snapshot().segments:
            for block in segment.blocks():
                given = TokenVectors(
                    block.columns["values"].astype(np.float32).reshape(-1, DIM),
                    np.concatenate([[0], np.cumsum(block.lengths)]),
                )
                exact.add_vectors(block.ids, given)
    query = rng.unit(8, DIM)
    ours, theirs = (
        {h.id: h.score for h in i.search_vectors(query, k=30, exhaustive=True)} for i in (index, exact)
    )
    assert ours.keys() == theirs.keys()
    assert np.corrcoef([ours[k] for k in theirs], list(theirs.values()))[0, 1] > 0.8


def test_few_vectors_without_centroids_wait(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    index.adopt(filled(index, tmp_path / "a", names("a", 3), vectors(rng, 3)).path)
    assert index.info()["centroids"] is None and len(index) == 3


def near_one_place(rng, n: int, tokens: int) -> TokenVectors:
    values = rng.unit(DIM)[None] + 0.15 * rng.unit(n * tokens, DIM)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return TokenVectors(values.astype(np.float32), np.arange(n + 1) * tokens)


def test_documents_unlike_the_index_get_centroids_on_adoption(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    index.add_vectors(names("x", 10), near_one_place(rng, 10, 1000))
    n = index.info()["centroids"]
    part = filled(index, tmp_path / "p", names("p", 40), vectors(rng, 40, 500))
    assert [s.codec for s in Store.open(part.path).snapshot().segments] == [None]
    index.adopt(part.path)
    assert index.info()["centroids"] > n
    assert all(segment.codec for segment in Store.open(index.path).snapshot().segments)


def test_a_part_of_centroids_that_the_index_extended_since(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    like, unlike = near_one_place(rng, 10, 1000), vectors(rng, 40, 500)
    index.add_vectors(names("x", 10), like)
    part = filled(index, tmp_path / "p", names("p", 10), like)
    n = index.info()["centroids"]
    index.add_vectors(names("u", 40), unlike)
    assert index.info()["centroids"] > n
    assert index.adopt(part.path) == 10
    assert len({segment.codec for segment in Store.open(index.path).snapshot().segments}) == 1
    codes = state(part.path)
    assert all(state(index.path)[id] == document for id, document in codes.items())


def test_a_part_of_centroids_that_another_index_extended(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    like = near_one_place(rng, 10, 1000)
    index.add_vectors(names("x", 10), like)
    other = Index.open(shutil.copytree(index.path, tmp_path / "other"))
    other.add_vectors(names("u", 40), vectors(rng, 40, 500))
    part = filled(other, tmp_path / "p", names("p", 10), like)
    with pytest.raises(InvalidInput, match="centroids that"):
        index.adopt(part.path)
    assert len(index) == 10


@pytest.mark.parametrize("bits", [8, 16])
def test_stores_without_centroids(tmp_path, rng, bits):
    index = Index.create(tmp_path / "i", None, bits=bits, dim=DIM)
    assert index.adopt(filled(index, tmp_path / "a", names("a", 9), vectors(rng, 9, 1000)).path) == 9
    assert index.info()["centroids"] is None and check_index(index.path) == []
    query = rng.unit(4, DIM)
    part = Index.open(tmp_path / "a")
    assert index.search_vectors(query) == part.search_vectors(query)


def test_an_id_in_two_parts(index, tmp_path, rng):
    parts = [
        filled(index, tmp_path / "a", ["a", "same"], vectors(rng, 2)).path,
        filled(index, tmp_path / "b", ["same", "b"], vectors(rng, 2)).path,
    ]
    before = state(index.path)
    with pytest.raises(InvalidInput, match=r"b: has the id 'same', and so has .*a\. Give every document"):
        index.adopt(parts)
    assert state(index.path) == before and not unnamed_files(index.path)
    # One segment a codec: the id may as well stand in two of them.
    young = Index.create(tmp_path / "y", None, bits=2, dim=DIM)
    other = filled(young, tmp_path / "c", ["same"], vectors(rng, 1)).path
    with pytest.raises(InvalidInput, match="'same'"):
        index.adopt([parts[0], other])
    assert state(index.path) == before


def test_parts_that_do_not_fit(index, tmp_path, rng):
    before = state(index.path)
    cases = {
        "dim 16, and": {"dim": 16, "bits": 2},
        "bits 4, and": {"dim": DIM, "bits": 4},
    }
    for message, made in cases.items():
        other = Index.create(tmp_path / message, None, **made)
        with pytest.raises(InvalidInput, match=message):
            index.adopt(other.path)
    foreign = Index.create(tmp_path / "foreign", None, bits=2, dim=DIM)
    foreign.add_vectors(names("f", 10), vectors(rng, 10, 1000))
    with pytest.raises(
        InvalidInput, match=r"centroids that .* does not have\. Make parts with Index\.new_part"
    ):
        index.adopt(foreign.path)
    with pytest.raises(InvalidInput, match="cannot adopt itself"):
        index.adopt(index.path)
    with pytest.raises(IndexNotFound, match="neither an index nor the parts"):
        index.adopt(tmp_path)
    assert state(index.path) == before


def test_a_part_of_another_model(tmp_path, rng):
    model = ModelRecord("a-model", "0" * 32, "int8", DIM)
    Store.create(tmp_path / "i", dim=DIM, bits=2, model=model)
    Store.create(tmp_path / "p", dim=DIM, bits=2, model=ModelRecord("b-model", "1" * 32, "int8", DIM))
    index = Index.open(tmp_path / "i")
    with pytest.raises(
        ModelMismatch, match=r'p: was made with model "b-model" .*and .* with model "a-model"'
    ):
        index.adopt(tmp_path / "p")
    Store.create(tmp_path / "q", dim=DIM, bits=2)
    with pytest.raises(ModelMismatch, match="with no model"):
        index.adopt(tmp_path / "q")


def test_any_changed_byte_of_a_part_is_refused(index, tmp_path, rng):
    part = filled(index, tmp_path / "a", names("a", 20), vectors(rng, 20)).path
    before = state(index.path)
    for file in sorted(p for p in part.rglob("*") if p.is_file() and p.name != "write.lock"):
        good = file.read_bytes()
        for at in {0, len(good) // 2, len(good) - 1}:
            bad = bytearray(good)
            bad[at] ^= 1
            file.write_bytes(bad)
            with pytest.raises(IndexCorrupt):
                index.adopt(part)
        file.write_bytes(good[:-1])
        with pytest.raises(IndexCorrupt):
            index.adopt(part)
        file.write_bytes(good)
    assert state(index.path) == before
    (part / "manifest.json").unlink()  # a writer that did not come to its end
    with pytest.raises(IndexNotFound):
        index.adopt(part)


def test_the_error_of_damage_can_be_sent_by_a_worker():
    error = IndexCorrupt("a/file", "size", "3 bytes", "2 bytes", "Restore it.")
    sent = pickle.loads(pickle.dumps(error))
    assert type(sent) is IndexCorrupt and str(sent) == str(error) and sent.field == "size"


def test_one_writer_at_a_time(index, tmp_path, rng):
    part = filled(index, tmp_path / "a", ["a"], vectors(rng, 1)).path
    with index._store.writer(), pytest.raises(IndexLocked):
        Index.open(index.path).adopt(part)


def test_many_small_parts_are_few_segments(index, tmp_path, rng):
    before = index.info()["segments"]
    parts = [filled(index, tmp_path / f"p{i}", [f"p{i}"], vectors(rng, 1)).path for i in range(25)]
    index.adopt(parts)
    # One a codec: tokens as few and as random as these may look unlike the index's.
    assert index.info()["segments"] <= before + 2 and len(index) == 35


def test_a_list_of_parts_says_which_count(index, tmp_path, rng):
    folder = tmp_path / "job"
    folder.mkdir()
    wanted, stale = f"part-{'a' * 32}", f"part-{'b' * 32}"
    for name in (wanted, stale):
        filled(index, folder / name, [name], vectors(rng, 1))
    with pytest.raises(IndexNotFound, match="A job that was stopped finishes when it is run again"):
        index.adopt(folder)
    model = ModelRecord("m", "f", "int8", DIM)
    write_listing(folder, listing("index", model, 1, 30, [wanted]))
    assert index.adopt(folder) == 1 and stale not in state(index.path)
    write_listing(folder, listing("parquet", model, 1, 30, [f"{wanted}.parquet"]))
    with pytest.raises(InvalidInput, match="read_parts"):
        index.adopt(folder)
    for name in ("../part", "part-1", f"part-{'a' * 32}/.."):
        text = (folder / "parts.json").read_text().replace(f"{wanted}.parquet", name)
        (folder / "parts.json").write_text(text)
        with pytest.raises(IndexCorrupt, match=r"parts\.json: content"):
            index.adopt(folder)
        write_listing(folder, listing("parquet", model, 1, 30, [f"{wanted}.parquet"]))


DAMAGED_LISTS = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"\xff" + path.read_bytes()),
    lambda path: path.write_text("[" * 100_000),
    lambda path: (path.unlink(), path.mkdir()),
]


@pytest.mark.parametrize("damage", DAMAGED_LISTS)
def test_a_damaged_list_of_parts_is_named(tmp_path, index, damage):
    write_listing(tmp_path, listing("index", ModelRecord("m", "f", "int8", DIM), 0, 0, []))
    damage(tmp_path / "parts.json")
    with pytest.raises(IndexCorrupt) as caught:
        index.adopt(tmp_path)
    assert caught.value.path == tmp_path / "parts.json"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a __del__
@pytest.mark.parametrize("cause", ["full", "interrupt"])
def test_an_adoption_cut_short_anywhere_leaves_the_last_commit(rng, cause):
    def fail() -> None:
        if cause == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise KeyboardInterrupt

    with quick_folder() as folder:
        index = Index.create(folder / "template", None, bits=2, dim=DIM)
        index.add_vectors(names("x", 10), vectors(rng, 10, 1000))
        part = filled(index, folder / "p", ["x1", "new"], vectors(rng, 2)).path
        old, place, outcomes = state(index.path), folder / "i", []
        new = {**old, **state(part)}
        fault = partial(fault_at, operations=GROWING) if cause == "full" else fault_at
        n = 0
        while True:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(index.path, place)
            error = None
            with fault(n, fail) as count:
                try:
                    Index.open(place).adopt(part)
                except (LateboltError, OSError, KeyboardInterrupt) as caught:
                    error = type(caught)
            if count.n <= n:
                break
            found = state(place)
            assert found in (old, new) and check_index(place) == []
            assert error is not None or found == new
            outcomes.append((error, found == new))
            n += 7 if cause == "interrupt" else 3
        assert len(outcomes) > 15 and {done for _, done in outcomes} == {False, True}
        if cause == "full":
            assert StorageFull in {kind for kind, _ in outcomes}
        assert Index.open(place).adopt(part) == 2 and state(place) == new
