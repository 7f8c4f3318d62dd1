"""Split, rebalance and join: the same documents and codes, nothing half done, nothing damaged passed on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_corpora import IDS, build, documents

from latebolt import Index, TokenVectors
from latebolt.errors import IndexCorrupt, IndexExists, IndexNewer, IndexNotFound, InvalidInput, StorageFull
from latebolt.index.format import layout
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from latebolt.sharding import ShardedIndex, check_set, join, split
from latebolt.sharding.placement import shard_of, shards_of
from latebolt.sharding.set_file import read_set, shard_folder
from quick_folders import quick_folder

DIM = 32


def rows(path: Path) -> dict[str, list[Any]]:
    """Everything that an index keeps of each live document, by its id: rows with all that is stored of them,
    and the bytes of their codes."""
    found: dict[str, list[Any]] = {}
    store = Store.open(path)
    for segment in store.snapshot().segments:
        for block in segment.blocks():
            ends = np.cumsum(block.lengths)
            for i, document in enumerate(block.documents):
                tokens = slice(int(ends[i] - block.lengths[i]), int(ends[i]))
                codes = {name: column[tokens].tobytes() for name, column in block.columns.items()}
                codec = store.manifest.codecs[segment.codec].files if segment.codec else None
                row = (document._replace(row=0), block.passages[i], block.truncated[i], codes, codec)
                found.setdefault(document.id, []).append(row)
    store.close()
    return found


def rows_of_set(path: Path) -> dict[str, list[Any]]:
    """The same of a set, of which each document is in its shard."""
    found: dict[str, list[Any]] = {}
    n = read_set(path).shards
    for number in range(n):
        some = rows(shard_folder(path, number))
        assert set(shards_of(some, n).tolist()) <= {number}
        found |= some
    return found


@pytest.fixture
def index(tmp_path: Path, rng) -> Index:
    """With centroids, in two segments, with passages, texts and deleted documents."""
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    for start in (0, 40):
        matrices = [rng.unit(300, DIM) for _ in range(40)]
        index.add_vectors(
            [f"d{start + i}" for i in range(40)],
            TokenVectors.from_matrices(matrices, truncated=[i % 7 == 0 for i in range(40)]),
            [f"text {i}" for i in range(40)],
            [{"n": start + i} for i in range(40)],
        )
    index.delete(["d3", "d50"])
    assert index.info()["centroids"]
    return index


@settings(max_examples=25)
@given(
    st.lists(documents(IDS), min_size=1, max_size=3),
    st.lists(IDS, max_size=8),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_what_is_kept_of_a_document_stays_the_same(lots, deleted, n, m):
    with quick_folder() as folder:
        with build(folder / "i", lots, deleted):
            want = rows(folder / "i")
        split(folder / "i", folder / "s", n)
        assert rows_of_set(folder / "s") == want and check_set(folder / "s") == []
        split(folder / "s", folder / "t", m)
        assert rows_of_set(folder / "t") == want and check_set(folder / "t") == []
        join(folder / "t", folder / "j")
        assert rows(folder / "j") == want and check_index(folder / "j") == []


def test_codes_and_centroids_are_the_same_bytes(index, tmp_path):
    want = rows(tmp_path / "i")
    made = split(tmp_path / "i", tmp_path / "s", 3)
    assert rows_of_set(tmp_path / "s") == want
    assert (made.documents, made.linked) == (78, 0)
    infos = [Index.open(tmp_path / "s" / f"shard-{i}").info() for i in range(3)]
    assert sum(each["truncated"] for each in infos) == index.info()["truncated"] > 0
    assert made.tokens == sum(each["tokens"] for each in infos) == 78 * 300  # none of deleted documents
    joined = join(tmp_path / "s", tmp_path / "j")
    assert rows(tmp_path / "j") == want and joined.linked > 0
    assert len(read_manifest(tmp_path / "j").codecs) == 1


def test_a_split_set_goes_on_learning_and_joins_again(index, tmp_path, rng):
    """Shards that have appended centroids of their own keep their codecs side by side."""
    split(tmp_path / "i", tmp_path / "s", 2)
    with ShardedIndex.open(tmp_path / "s") as sharded:
        # Unlike all before: enough that each shard learns centroids for them.
        other = rng.unit(1, DIM) + 0.05 * rng.unit(30_000, DIM)
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        ids = [f"n{i}" for i in range(60)]
        sharded.add_vectors(ids, TokenVectors(other.astype(np.float32), np.arange(61) * 500))
        codecs = [read_manifest(tmp_path / "s" / f"shard-{i}").codecs for i in range(2)]
        assert codecs[0] != codecs[1]
        join(tmp_path / "s", tmp_path / "j")
        with Index.open(tmp_path / "j") as joined:
            assert len(read_manifest(tmp_path / "j").codecs) == 2
            query = rng.unit(6, DIM)
            assert list(sharded.search_vectors(query, 20)) == joined.search_vectors(query, 20)
            joined.add_vectors(["z"], [rng.unit(50, DIM)])
            joined.compact()
    assert rows(tmp_path / "j").keys() == rows_of_set(tmp_path / "s").keys() | {"z"}


def test_what_waits_for_a_codec_waits_on_in_shards(tmp_path, rng):
    """Float16 vectors of an index that is too small for centroids, of which shards learn theirs later."""
    index = Index.create(tmp_path / "i", None, bits=2, dim=DIM)
    index.add_vectors([f"d{i}" for i in range(20)], [rng.unit(100, DIM) for _ in range(20)])
    assert index.info()["centroids"] is None
    split(tmp_path / "i", tmp_path / "s", 2)
    with ShardedIndex.open(tmp_path / "s") as sharded:
        sharded.add_vectors([f"n{i}" for i in range(80)], [rng.unit(300, DIM) for _ in range(80)])
        assert all(each["centroids"] for each in sharded.info()["shards"])
        assert len(sharded) == 100
    assert check_set(tmp_path / "s") == []


def test_a_segment_that_goes_whole_to_one_place_is_shared(index, tmp_path):
    split(tmp_path / "i", tmp_path / "s", 4)
    four = rows_of_set(tmp_path / "s")
    made = split(tmp_path / "s", tmp_path / "t", 2)
    n_files = sum(
        len(segment.files)
        for i in range(2)
        for segment in read_manifest(tmp_path / "t" / f"shard-{i}").segments
    )
    assert made.linked == n_files > 0 and rows_of_set(tmp_path / "t") == four
    # What happens to the one does not show in the other, deletions in the shared segments included.
    with ShardedIndex.open(tmp_path / "t") as two:
        for i in range(5):
            two.delete([f"d{i}"])
    assert rows_of_set(tmp_path / "s") == four and check_set(tmp_path / "s") == []
    assert rows_of_set(tmp_path / "t").keys() == four.keys() - {f"d{i}" for i in range(5)}
    shutil.rmtree(tmp_path / "s")
    assert check_set(tmp_path / "t") == []


def test_deleted_rows_of_a_shared_segment_stay_deleted(index, tmp_path):
    """The file of deleted rows gets a name of the new index's own, which no later commit of it writes."""
    split(tmp_path / "i", tmp_path / "s", 2)
    with ShardedIndex.open(tmp_path / "s") as sharded:
        for i in range(10, 16):
            sharded.delete([f"d{i}"])
    join(tmp_path / "s", tmp_path / "j")
    made = read_manifest(tmp_path / "j")
    names = {each.deleted for each in made.segments} - {None}
    assert names == {layout.deleted_file(made.generation)}
    with Index.open(tmp_path / "j") as joined:
        for i in range(16, 26):
            joined.delete([f"d{i}"])
            assert check_index(tmp_path / "j") == []
        assert len(joined) == 78 - 16
        joined.compact()
        assert len(joined) == 62 and joined.info()["deleted"] == 0


def test_the_set_names_what_it_is(index, tmp_path):
    split(tmp_path / "i", tmp_path / "s", 3)
    described = read_set(tmp_path / "s")
    assert (described.shards, described.hash, described.format_version) == (3, "blake2b-8", 1)
    assert sorted(each.name for each in (tmp_path / "s").iterdir()) == [
        "shard-0",
        "shard-1",
        "shard-2",
        "shards.json",
    ]
    with pytest.raises(IndexNotFound, match="is a shard set"):
        Index.open(tmp_path / "s")
    with pytest.raises(IndexNotFound, match=r"no shards\.json"):
        ShardedIndex.open(tmp_path / "i")


def test_placement_is_fixed():
    """Sets on disk depend on it."""
    assert [shard_of(id, 7) for id in ("", "a", "doc-1", "\u00e9", "\U0001f600")] == [
        3,
        5,
        1,
        4,
        3,
    ]  # by b2sum
    assert shards_of(["a", "doc-1"], 7).tolist() == [5, 1]
    counts = np.bincount(shards_of(map(str, range(7000)), 7))
    assert counts.min() > 900


class TestDamage:
    def test_a_damaged_segment_is_not_copied(self, index, tmp_path):
        segment = index._store.snapshot().segments[0]
        path = segment.folder / "codes.npy"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)
        with pytest.raises(IndexCorrupt, match="digest"):
            split(tmp_path / "i", tmp_path / "s", 3)
        assert [each.name for each in tmp_path.iterdir()] == ["i"]

    @pytest.mark.parametrize("flip", [0, 20, 60, -3])
    def test_a_damaged_description_is_told(self, index, tmp_path, flip):
        split(tmp_path / "i", tmp_path / "s", 2)
        path = tmp_path / "s" / "shards.json"
        content = bytearray(path.read_bytes())
        content[flip] ^= 4
        path.write_bytes(content)
        with pytest.raises(IndexCorrupt, match=r"shards\.json"):
            ShardedIndex.open(tmp_path / "s")
        assert len(check_set(tmp_path / "s")) == 1

    def test_a_newer_version_is_told_as_such(self, tmp_path):
        (tmp_path / "shards.json").write_text('{"format": "latebolt-shards", "format_version": 2}')
        with pytest.raises(IndexNewer):
            ShardedIndex.open(tmp_path)

    def test_shards_in_each_others_place_are_noticed(self, index, tmp_path):
        split(tmp_path / "i", tmp_path / "s", 2)
        (tmp_path / "s" / "shard-0").rename(tmp_path / "x")
        (tmp_path / "s" / "shard-1").rename(tmp_path / "s" / "shard-0")
        (tmp_path / "x").rename(tmp_path / "s" / "shard-1")
        with pytest.raises(IndexCorrupt, match="shard 0 of 2, got shard 1 of 2"):
            ShardedIndex.open(tmp_path / "s")
        with pytest.raises(IndexCorrupt):
            join(tmp_path / "s", tmp_path / "j")
        assert len(check_set(tmp_path / "s")) == 2

    def test_a_document_that_was_added_past_the_set_is_found(self, index, tmp_path, rng):
        split(tmp_path / "i", tmp_path / "s", 2)
        wrong = next(f"x{i}" for i in range(99) if shard_of(f"x{i}", 2) == 1)
        with Index.open(tmp_path / "s" / "shard-0") as shard:
            shard.add_vectors([wrong], [rng.unit(9, DIM)])
        [problem] = check_set(tmp_path / "s")
        assert "1 of its documents belong to other shards" in problem.message
        for make in (
            lambda: join(tmp_path / "s", tmp_path / "j"),
            lambda: split(tmp_path / "s", tmp_path / "j", 3),
        ):
            with pytest.raises(InvalidInput, match=f"belongs to shard 1, '{wrong}'"):
                make()

    def test_a_shard_that_is_gone_is_named(self, index, tmp_path):
        split(tmp_path / "i", tmp_path / "s", 2)
        shutil.rmtree(tmp_path / "s" / "shard-1")
        with pytest.raises(IndexNotFound, match="shard-1"):
            ShardedIndex.open(tmp_path / "s")
        assert ["shard-1" in each.message for each in check_set(tmp_path / "s")] == [True]


class TestWholeOrNothing:
    @pytest.mark.parametrize("n", [0, -1, 5000, 2.5, True, "3"])
    def test_no_such_number(self, index, tmp_path, n):
        with pytest.raises(InvalidInput, match="shards should be"):
            split(tmp_path / "i", tmp_path / "s", n)

    def test_what_is_there_stays(self, index, tmp_path):
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "mine").write_text("x")
        with pytest.raises(IndexExists):
            split(tmp_path / "i", tmp_path / "s", 2)
        assert (tmp_path / "s" / "mine").read_text() == "x"
        with pytest.raises(InvalidInput, match="lies in the folder"):
            split(tmp_path / "i", tmp_path / "i" / "s", 2)
        with pytest.raises(IndexNotFound):
            split(tmp_path / "gone", tmp_path / "t", 2)
        with pytest.raises(IndexNotFound, match=r"no shards\.json"):
            join(tmp_path / "i", tmp_path / "t")
        assert not (tmp_path / "t").exists()

    @pytest.mark.parametrize("make", ["split", "join"])
    def test_a_full_disk_leaves_nothing(self, index, tmp_path, make, monkeypatch):
        split(tmp_path / "i", tmp_path / "s", 2)
        before = sorted(each.name for each in tmp_path.iterdir())
        real, calls = os.fsync, [0]
        for fails in (1, 4, 9, 13):
            calls[0] = 0

            def fsync(descriptor: int, fails: int = fails) -> None:
                calls[0] += 1
                if calls[0] == fails:
                    raise OSError(28, "No space left on device")
                real(descriptor)

            monkeypatch.setattr(os, "fsync", fsync)
            with pytest.raises(StorageFull):
                if make == "split":
                    split(tmp_path / "i", tmp_path / "o", 3)
                else:
                    join(tmp_path / "s", tmp_path / "o")
            monkeypatch.setattr(os, "fsync", real)
            assert sorted(each.name for each in tmp_path.iterdir()) == before
        assert check_index(tmp_path / "i") == [] and check_set(tmp_path / "s") == []
