"""Open or create: one call for the index of a folder, whoever was first, and what does not fit is refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from store_samples import make_store

from latebolt import Encoder, Index, TokenVectors
from latebolt.aio import AsyncIndex
from latebolt.errors import IndexCorrupt, IndexExists, IndexLocked, InvalidInput, ModelMismatch
from latebolt.index import index as module
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store


def test_the_second_time_it_is_the_same_index(tmp_path: Path, encoder: Encoder) -> None:
    for n in (0, 2, 2):
        with Index.open_or_create(tmp_path / "i", encoder) as index:
            assert len(index) == n and index.encoder is encoder and index.info()["bits"] == 2
            index.add(["fresh bread", "a cat"], ids=["bread", "cat"])
    assert [hit.id for hit in Index.open(tmp_path / "i").search("kitten", k=1)] == ["cat"]


def test_an_empty_one_is_on_disk_at_once(tmp_path: Path, encoder: Encoder) -> None:
    Index.open_or_create(tmp_path / "new" / "i", encoder, 4, passage_tokens=40, late_chunking=True)
    info = Index.open(tmp_path / "new" / "i").info()
    assert (info["bits"], info["passage_tokens"], info["late_chunking"]) == (4, 40, True)


def test_what_is_there_has_to_be_what_was_asked_for(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "i"
    Index.create(path, encoder, 4, passage_tokens=40, passage_overlap=8)
    for fits in (
        {},
        {"bits": 4},
        {"dim": 128},
        {"passage_tokens": 40},
        {"passage_overlap": 8, "late_chunking": False},
    ):
        Index.open_or_create(path, encoder, **fits)
    for name, value, has in (
        ("bits", 2, "4"),
        ("dim", 64, "128"),
        ("passage_tokens", 41, "40"),
        ("passage_overlap", 9, "8"),
        ("late_chunking", True, "False"),
    ):
        with pytest.raises(InvalidInput, match=rf"i: has {name} {has}; {name}={value} fits only a new index"):
            Index.open_or_create(path, encoder, **{name: value})
    with pytest.raises(ModelMismatch):
        Index.open_or_create(path, encoder.with_dim(64))
    with pytest.raises(InvalidInput, match=r"Encoder\.load\('starter'\)"):
        Index.open_or_create(path, "starter")  # type: ignore[arg-type]


def test_one_of_vectors(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(InvalidInput, match="needs dim"):
        Index.open_or_create(tmp_path / "i", None)
    assert not (tmp_path / "i").exists()
    for _ in range(2):
        index = Index.open_or_create(tmp_path / "i", None, dim=8)
        index.add_vectors(["a"], TokenVectors.from_matrices([np.eye(8, dtype=np.float32)]))
    assert len(index) == 1
    with pytest.raises(InvalidInput, match="has dim 8; dim=128"):
        Index.open_or_create(tmp_path / "i", encoder)


def test_nothing_is_made_over_something_else(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.md").write_text("mine")
    with pytest.raises(IndexExists, match="is a file"):
        Index.open_or_create(tmp_path / "file", encoder)
    with pytest.raises(IndexExists, match=r"notes\.md"):
        Index.open_or_create(tmp_path / "folder", encoder)
    path = tmp_path / "i"
    Index.create(path, encoder)
    (path / "manifest.json").write_text("{}")
    with pytest.raises(IndexCorrupt):
        Index.open_or_create(path, encoder)
    assert (path / "manifest.json").read_text() == "{}"


OPEN = """
    import sys
    from latebolt import Index
    sys.stdin.readline()
    for path in sys.argv[1:]:
        Index.open_or_create(path, None, dim=8).close()
        print("there", flush=True)
"""


def test_two_processes_at_once_have_one_index(tmp_path: Path) -> None:
    """Three processes make the same forty indexes, begun at the same moment."""
    paths = [str(tmp_path / f"{n}") for n in range(40)]
    command = [sys.executable, "-c", textwrap.dedent(OPEN), *paths]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
    for each in running:
        each.stdin.write("\n")
        each.stdin.flush()
    for each in running:
        out, err = each.communicate(timeout=300)
        assert each.returncode == 0 and out.count("there") == len(paths), err
    for path in paths:
        assert check_index(Path(path)) == [] and Index.open(path).info()["generation"] == 0


def test_one_that_another_process_is_making_is_waited_for(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of the other's work: before the lock, and while it holds it."""
    path = tmp_path / "i"
    other = Store.stage(path, dim=encoder.dim, bits=2)
    real = Store.stage

    def late(*arguments: object, **settings: object) -> Store:
        staged = real(*arguments, **settings)  # type: ignore[arg-type]
        other.make()
        return staged

    monkeypatch.setattr(Store, "stage", late)
    assert len(Index.open_or_create(path, encoder, bits=2)) == 0
    monkeypatch.setattr(Store, "stage", real)
    assert Index.open(path).model is None  # it is the other's


def test_one_that_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_child) -> None:
    path = tmp_path / "i"
    monkeypatch.setattr(module, "_MAKING_SECONDS", 0.05)
    with Store.stage(path, dim=8, bits=2).writer():

        def asked() -> bool:
            with pytest.raises(IndexLocked, match="another writer"):
                Index.open_or_create(path, None, dim=8)
            return True

        assert in_child(asked)
    assert not path.exists()  # nothing was written, so nothing is there
    Index.open_or_create(path, None, dim=8)


def test_threads_have_one_index(tmp_path: Path, encoder: Encoder) -> None:
    came: list[object] = []

    def run() -> None:
        try:
            came.append(Index.open_or_create(tmp_path / "i", encoder))
        except Exception as error:  # noqa: BLE001 - looked at below
            came.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(each) for each in came] == [Index] * 8


def test_awaited(tmp_path: Path, encoder: Encoder) -> None:
    async def main() -> None:
        for n in (0, 1):
            async with await AsyncIndex.open_or_create(tmp_path / "i", encoder, passage_tokens=40) as index:
                assert len(index.index) == n and (await index.info())["passage_tokens"] == 40
                await index.add(["fresh bread"], ids=["bread"])
        with pytest.raises(InvalidInput, match="has passage_tokens 40"):
            await AsyncIndex.open_or_create(tmp_path / "i", encoder, passage_tokens=41)

    asyncio.run(main())


def test_a_store_of_another_kind_is_not_touched(tmp_path: Path, encoder: Encoder) -> None:
    make_store(tmp_path / "i")
    with pytest.raises(InvalidInput, match="has dim 8"):
        Index.open_or_create(tmp_path / "i", encoder)
