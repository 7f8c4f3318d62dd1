"""One row a way to damage an index: who notices, which file and which field are named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from store_samples import INFO, add, content, documents, make_store

from latebolt.errors import IndexCorrupt, IndexNotFound
from latebolt.index.format import files, layout
from latebolt.index.format.layout import Column
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.store import inverted_lists
from latebolt.index.store.check import _check_bytes, check_index, named_files
from latebolt.index.store.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "template"
    with make_store(path).writer() as writer:
        writer.set_codec({"centroids": np.ones((2, 2), np.float32)}, INFO)
        add(writer, ["a", "b", "c", "d"])
        writer.delete(["b"])
        writer.commit()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "i")


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def at(position: int) -> Callable[[Path], None]:
    return lambda file: flip(file, position)


def swap_database(file: Path) -> None:
    """A sound database of the same size that is not ours."""
    size = file.stat().st_size
    file.unlink()
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE t (x)")
    while file.stat().st_size < size:
        database.execute("INSERT INTO t VALUES (zeroblob(2000))")
        database.commit()
    database.close()


DAMAGE = [
    # (file, damage, field, noticed when opening)
    ("codecs/1/centroids.npy", Path.unlink, "existence", True),
    ("codecs/1/centroids.npy", cut, "size", True),
    ("codecs/1/centroids.npy", at(0), "header", True),
    ("codecs/1/centroids.npy", at(-1), "digest", False),
    ("segments/2/offsets.npy", Path.unlink, "existence", True),
    ("segments/2/offsets.npy", grow, "size", True),
    ("segments/2/offsets.npy", at(20), "header", True),
    ("segments/2/offsets.npy", at(128), "first and last", True),
    ("segments/2/offsets.npy", at(-8), "first and last", True),
    ("segments/2/offsets.npy", at(136), "digest", False),
    ("segments/2/codes.npy", Path.unlink, "existence", True),
    ("segments/2/codes.npy", empty, "size", True),
    ("segments/2/codes.npy", at(127), "header", True),
    ("segments/2/codes.npy", at(130), "digest", False),
    ("segments/2/norm.npy", at(-1), "digest", False),
    ("segments/2/deleted-1.npy", Path.unlink, "existence", True),
    ("segments/2/deleted-1.npy", at(128), "deleted rows", True),
    ("segments/2/texts.sqlite", Path.unlink, "existence", True),
    ("segments/2/texts.sqlite", cut, "size", True),
    ("segments/2/texts.sqlite", at(0), "content", True),
    ("segments/2/texts.sqlite", at(70), "application_id", True),
    ("segments/2/texts.sqlite", swap_database, "application_id", True),
    ("segments/2/texts.sqlite", at(-1), "digest", False),
    ("manifest.json", Path.unlink, None, True),
    ("manifest.json", empty, "content", True),
    ("manifest.json", at(20), "digest", True),
    ("manifest.json", at(-5), "", True),
]


@pytest.mark.parametrize(("name", "damage", "field", "at_once"), DAMAGE)
def test_damage_is_noticed(
    path: Path, name: str, damage: Callable[[Path], None], field: str | None, at_once: bool
) -> None:
    damage(path / name)
    if field is None:
        for opening in (Store.open, check_index):
            with pytest.raises(IndexNotFound):
                opening(path)
        return
    problems = check_index(path)
    assert {problem.path for problem in problems} == {path / name}
    if at_once:
        with pytest.raises(IndexCorrupt) as caught:
            Store.open(path)
        assert caught.value.path == path / name and field in caught.value.field
        assert problems[0].field in (field, "size", "digest", "content")
    else:
        Store.open(path)
        assert problems[0].field == field
    assert str(problems[0]).startswith(str(path / name)) and " should be " in str(problems[0])
    assert "Restore" in str(problems[0])


def test_any_changed_byte_of_any_file_is_found(path: Path) -> None:
    manifest = read_manifest(path)
    for file, record, fix in named_files(path, manifest):
        data = file.read_bytes()
        # All bytes of small files; of the database, whose pages are mostly empty, a spread over all pages.
        for position in range(0, len(data), 1 if len(data) < 1000 else 101):
            flip(file, position)
            with pytest.raises(IndexCorrupt):
                _check_bytes(file, record, fix)
            flip(file, position)
        _check_bytes(file, record, fix)
    assert check_index(path) == []


def test_all_damage_is_listed_in_one_go(path: Path) -> None:
    for name in ("codecs/1/centroids.npy", "segments/2/codes.npy", "segments/2/texts.sqlite"):
        flip(path / name, -1)
    (path / "segments/2/offsets.npy").unlink()
    assert len(check_index(path)) == 4


def test_contents_that_digests_cannot_vouch_for(path: Path) -> None:
    """What only a faulty writer could produce: digests are right and the contents contradict each other."""
    store = Store.open(path)
    folder = path / "segments" / "2"
    record = store.manifest.segments[0]

    def rewrite(name: str, array: np.ndarray) -> None:
        (folder / name).unlink()
        changed = {**record.files, name: files.write_array(folder / name, array)}
        segment = msgspec.structs.replace(record, files=changed)
        manifest = msgspec.structs.replace(store.manifest, segments=(segment,))
        files.publish(path / "manifest.json", layout.encode_manifest(manifest))

    offsets = np.array(store.snapshot().segments[0].offsets)
    bad = offsets.copy()
    bad[2] = bad[1] - 1
    rewrite("offsets.npy", bad)
    assert [problem.field for problem in check_index(path)] == ["offsets[2]"]
    rewrite("offsets.npy", offsets)
    assert check_index(path) == []

    database = sqlite3.connect(folder / "texts.sqlite")
    database.execute("DELETE FROM documents WHERE row = 3")
    database.commit()
    database.close()
    changed = {**record.files, "texts.sqlite": files.seal(folder / "texts.sqlite")}
    segment = msgspec.structs.replace(record, files=changed)
    manifest = msgspec.structs.replace(store.manifest, segments=(segment,))
    files.publish(path / "manifest.json", layout.encode_manifest(manifest))
    assert [problem.field for problem in check_index(path)] == ["documents (count, first, last)"]
    with pytest.raises(IndexCorrupt, match=r"texts\.sqlite: documents\.row 3"):
        content(Store.open(path).snapshot())


LIST_FAULTS = [
    # (file, change, field)
    ("list_offsets.npy", lambda ends: ends.__setitem__(1, 9), "list_offsets[2]"),
    ("lists.npy", lambda rows: rows.__setitem__(-1, 4), "lists[4]"),
    ("lists.npy", lambda rows: rows.__setitem__(slice(0, 2), rows[1::-1].copy()), "lists[1]"),
]


@pytest.mark.parametrize(("name", "change", "field"), LIST_FAULTS)
def test_lists_that_digests_cannot_vouch_for(tmp_path: Path, monkeypatch, name, change, field) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(inverted_lists, "LEAST_TOKENS", 1)
    with make_store(tmp_path / "i").writer() as writer:
        draft = writer.new_segment((Column("cell", "<u2"),))
        draft.append(documents(["a", "b", "c"]), [2, 1, 2], {"cell": np.array([0, 1, 0, 1, 0], np.uint16)})
        draft.finish()
        writer.commit()
    store = Store.open(tmp_path / "i")
    assert check_index(tmp_path / "i") == []
    [record] = store.manifest.segments
    path = tmp_path / "i" / "segments" / record.name / name
    array = np.load(path)
    assert {"lists.npy": [0, 1, 2, 0, 2], "list_offsets.npy": [0, 3, 5]}[name] == array.tolist()
    change(array)
    path.unlink()
    changed = {**record.files, name: files.write_array(path, array)}
    segment = msgspec.structs.replace(record, files=changed)
    manifest = msgspec.structs.replace(store.manifest, segments=(segment,))
    files.publish(tmp_path / "i" / "manifest.json", layout.encode_manifest(manifest))
    assert [problem.field for problem in check_index(tmp_path / "i")] == [field]


def test_a_damaged_page_met_by_a_reader_is_no_plain_sqlite_error(path: Path) -> None:
    file = path / "segments" / "2" / "texts.sqlite"
    data = bytearray(file.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    file.write_bytes(data)
    with pytest.raises(IndexCorrupt, match=r"texts\.sqlite: content"):
        content(Store.open(path).snapshot())


def test_progress_covers_every_byte(path: Path) -> None:
    seen: dict[Path, int] = {}
    assert check_index(path, seen.__setitem__) == []
    assert sum(seen.values()) == Store.open(path).snapshot().n_bytes
