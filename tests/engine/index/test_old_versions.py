"""Real indexes of each version of the format, written by the code of their time, and what it found in them.

Beside each folder of `old_versions` from 2 on is what its writer said of it: documents, vectors of a query,
hits of an exhaustive search. 2 has lists by centroid, 3 has passages, 4 has a document that was not read to
its end, 5 has lists with centroids of their own; all were learnt from few tokens and have deleted documents.
1 is of the store alone: `test_layout`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_samples import tree

from latebolt import Index
from latebolt.index.format import layout
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.search import planning
from latebolt.index.store.backup import back_up
from latebolt.index.store.check import check_index

FOLDER = Path(__file__).parent / "old_versions"
VERSIONS = [2, 3, 4, 5]


def test_there_is_one_of_each_version_that_was_ever_written():
    there = sorted(int(each.name) for each in FOLDER.iterdir() if each.is_dir())
    assert there == list(layout.FORMAT_VERSIONS)
    for version in layout.FORMAT_VERSIONS:
        assert read_manifest(FOLDER / str(version)).format_version == version


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    version = request.param
    said = json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    return shutil.copytree(FOLDER / str(version), tmp_path / "i"), said


def hits(index: Index, said: dict[str, Any], **settings: Any) -> list[tuple[str, float]]:
    found = index.search_vectors(np.array(said["query"], np.float32), 10, **settings)
    return [(hit.id, round(hit.score, 2)) for hit in found]


def documents(index: Index) -> dict[str, list[Any]]:
    return {each.id: [each.text, each.metadata] for each in index.documents()}


def test_it_is_read_as_its_writer_read_it(old: tuple[Path, dict[str, Any]]):
    path, said = old
    before = tree(path)
    assert check_index(path) == []
    with Index.open(path) as index:
        assert documents(index) == said["documents"]
        scores = dict(said["hits"])
        found = index.search_vectors(np.array(said["query"], np.float32), 10, exhaustive=True)
        assert [hit.id for hit in found] == [id for id, _ in said["hits"]]
        assert [hit.score for hit in found] == pytest.approx([scores[hit.id] for hit in found], abs=0.02)
        where = 'year >= 2010 and tag = "sea"'
        assert [id for id, _ in hits(index, said, where=where, exhaustive=True)] == said["filtered"]
        assert index.info()["documents"] == len(said["documents"]) == len(index)
    assert tree(path) == before, "reading writes nothing"


def test_it_grows_and_is_compacted(old: tuple[Path, dict[str, Any]]):
    path, said = old
    with Index.open(path) as index:
        before = hits(index, said, exhaustive=True)
        vectors = np.eye(64, dtype=np.float32)[:5]
        index.add_vectors(["new"], [vectors], texts=["seven swans"], metadata=[{"year": 2020}])
        index.update_metadata(["id 1"], set={"seen": True})
        index.compact()
        assert index.search_vectors(vectors, 1)[0].id == "new"
        assert [hit.id for hit in index.search("swans", 3, mode="bm25")] == ["new"]
        assert [each for each in hits(index, said, exhaustive=True) if each[0] != "new"][:9] == before[:9]
        expected = {**said["documents"], "new": ["seven swans", {"year": 2020}]}
        expected["id 1"] = [expected["id 1"][0], {**expected["id 1"][1], "seen": True}]
        assert documents(index) == expected
    assert check_index(path) == []


def test_it_is_backed_up(old: tuple[Path, dict[str, Any]], tmp_path: Path):
    path, said = old
    for link in (True, False):
        back_up(path, tmp_path / f"copy {link}", link)
        assert tree(tmp_path / f"copy {link}") == tree(path)
        with Index.open(tmp_path / f"copy {link}") as copy:
            assert documents(copy) == said["documents"]


def test_lists_of_centroids_are_searched_and_compaction_makes_those_of_today(tmp_path: Path, monkeypatch):
    path = shutil.copytree(FOLDER / "2", tmp_path / "i")
    said = json.loads((FOLDER / "2.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("latebolt.index.store.inverted_lists.LEAST_TOKENS", 1)
    monkeypatch.setattr("latebolt.index.search.planning.COSTS", planning.Costs(budget=0, ratio=0))
    monkeypatch.setattr("latebolt.index.search.rank.TOKENS_AN_ENTRY", 0)
    monkeypatch.setattr("latebolt.index.search.planning.OLD_LISTS", 4)
    with Index.open(path) as index:
        assert not all(segment.lists_are_current for segment in index._store.snapshot().segments)
        expected = hits(index, said, exhaustive=True)
        assert hits(index, said) == expected
        index.compact()
        [segment] = index._store.snapshot().segments
        assert segment.lists is not None and segment.lists_are_current
        assert hits(index, said) == expected == hits(index, said, exhaustive=True)
        generation = index.info()["generation"]
        index.compact()
        assert index.info()["generation"] == generation, "nothing is left to do"
    assert read_manifest(path).format_version == 5
