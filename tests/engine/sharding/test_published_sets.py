"""A set in an object store is searched as the one in a folder, and follows what is published later."""

from __future__ import annotations

from pathlib import Path

import pytest
from shard_corpora import POOL

from latebolt import Index
from latebolt.errors import IndexCorrupt, IndexNotFound
from latebolt.objects.shard_sets import publish_set
from latebolt.sharding import ShardedIndex, split

pytest.importorskip("fsspec")


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, str]:
    index = Index.create(tmp_path / "i", None, dim=8)
    index.add_vectors([f"d{i}" for i in range(20)], [POOL[[i % 5]] for i in range(20)], ["word"] * 20)
    split(tmp_path / "i", tmp_path / "s", 2)
    uri = f"file://{tmp_path}/store/s"
    publish_set(tmp_path / "s", uri)
    return tmp_path / "s", uri


def test_the_same_answers_here_and_there(published, tmp_path):
    folder, uri = published
    with (
        ShardedIndex.open(folder) as here,
        ShardedIndex.open(uri, cache=tmp_path / "cache", refresh=None) as there,
    ):
        assert there.search("word", 30, mode="bm25") == here.search("word", 30, mode="bm25")
        assert there.search_vectors(POOL[:2], 7) == here.search_vectors(POOL[:2], 7)
        here.delete(["d1", "d2"])
        publish_set(folder, uri)
    with ShardedIndex.open(uri, cache=tmp_path / "cache") as there:
        assert len(there) == 18


def test_what_is_not_there_or_damaged_is_told(published, tmp_path):
    _, uri = published
    with pytest.raises(IndexNotFound, match="no shard set here"):
        ShardedIndex.open(uri + "x", cache=tmp_path / "cache")
    path = tmp_path / "store" / "s" / "shards.json"
    path.write_bytes(path.read_bytes().replace(b"2", b"3"))
    with pytest.raises(IndexCorrupt, match=r"shards\.json"):
        ShardedIndex.open(uri, cache=tmp_path / "cache")
