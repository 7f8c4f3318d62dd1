"""A copy of an index is one of its commits, whole, whatever a writer does meanwhile; or there is none."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_faults import GROWING, fault_at
from store_samples import add, content, expected, make_store, tree

from latebolt import Index
from latebolt.aio import AsyncIndex
from latebolt.drafts import remove_leftovers
from latebolt.errors import (
    IndexCorrupt,
    IndexExists,
    IndexNotFound,
    InvalidInput,
    LateboltError,
    StorageFull,
)
from latebolt.index.format import files
from latebolt.index.store.backup import back_up
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

WRITE = """
    import sys
    from pathlib import Path
    from test_backup import commit
    for generation in range(1, 1 << 20):
        commit(Path(sys.argv[1]), generation)
        print(generation, flush=True)
"""


def commit(path: Path, generation: int) -> None:
    """One that adds, replaces, deletes, and sometimes merges everything, as its number says."""
    with Store.open(path).writer() as writer:
        add(writer, [f"a{generation % 7}", f"b{generation}"], version=generation)
        writer.delete([f"b{generation - 3}"])
        if generation % 4 == 0:
            writer.merge([segment.name for segment in writer.segments])
        assert writer.commit() == generation


def versions(generation: int) -> dict[str, int]:
    """The documents after so many of them."""
    found: dict[str, int] = {}
    for each in range(1, generation + 1):
        found |= {f"a{each % 7}": each, f"b{each}": each}
        found.pop(f"b{each - 3}", None)
    return found


def committed(path: Path, generations: int) -> Path:
    make_store(path)
    for generation in range(1, generations + 1):
        commit(path, generation)
    return path


@contextlib.contextmanager
def a_writer(path: Path) -> Iterator[Callable[[], int]]:
    """A process that commits and commits; gives how often so far."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(WRITE), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), True)
        last = [int(child.stdout.readline())]

        def so_far() -> int:
            assert child.poll() is None, "the writer has ended"
            last[0] = int(child.stdout.readline())  # the pipe holds back a writer that is far ahead
            return last[0]

        try:
            yield so_far
        finally:
            child.kill()


@pytest.mark.parametrize("link", [True, False], ids=["linked", "copied"])
def test_a_copy_is_one_commit_while_another_process_adds_deletes_and_merges(link: bool) -> None:
    seen = set()
    with quick_folder() as folder, a_writer(make_store(folder / "i").path) as so_far:
        while len(seen) < 25:
            before = so_far()
            made = back_up(folder / "i", folder / "copy", link)
            assert made.generation >= before
            assert check_index(folder / "copy") == []
            assert content(Store.open(folder / "copy").snapshot()) == expected(versions(made.generation))
            assert made.linked == (made.files if link else 0)
            seen.add(made.generation)
            shutil.rmtree(folder / "copy")


def test_what_a_commit_removes_while_it_is_copied(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 3)
    taken = []

    def merge_once() -> None:
        taken.append(1)
        if len(taken) == 3:  # the first files are there, others are about to go
            commit(path, 4)

    for link in (True, False):
        taken.clear()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(tmp_path / "i")
            committed(path, 3)
        out = tmp_path / f"copy-{link}"
        assert back_up(path, out, link, merge_once).generation == 4
        assert content(Store.open(out).snapshot()) == expected(versions(4))
        assert check_index(out) == [] and len(taken) > 3
        named = {name for name in tree(out) if name.startswith(("segments", "codecs"))}
        assert named == {name for name in tree(path) if name.startswith(("segments", "codecs"))}


def test_another_index_that_takes_the_place_is_not_mixed_with_the_first(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 3)
    other = committed(tmp_path / "other", 6)
    calls = []

    def replace() -> None:
        calls.append(1)
        if len(calls) == 3:
            path.rename(tmp_path / "old")
            other.rename(path)

    assert back_up(path, tmp_path / "copy", between=replace).generation == 6
    assert content(Store.open(tmp_path / "copy").snapshot()) == expected(versions(6))
    assert check_index(tmp_path / "copy") == []


def test_another_index_with_files_of_the_same_names_and_sizes(tmp_path: Path) -> None:
    for name, version in (("i", 0), ("other", 20)):
        with make_store(tmp_path / name).writer() as writer:
            add(writer, ["a", "b", "c"], version)
            writer.commit()
    sizes = [{name: len(data) for name, data in tree(tmp_path / name).items()} for name in ("i", "other")]
    assert sizes[0].keys() == sizes[1].keys()
    same = [name for name in sizes[0] if sizes[0][name] == sizes[1][name]]
    assert len([name for name in same if name.startswith("segments")]) == 5, "else the size tells"
    calls = []

    def replace() -> None:
        calls.append(1)
        if len(calls) == 3:
            (tmp_path / "i").rename(tmp_path / "old")
            (tmp_path / "other").rename(tmp_path / "i")

    back_up(tmp_path / "i", tmp_path / "copy", between=replace)
    assert content(Store.open(tmp_path / "copy").snapshot()) == expected({"a": 20, "b": 20, "c": 20})
    assert check_index(tmp_path / "copy") == []


def test_nothing_that_happens_to_one_shows_in_the_other(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 3)
    made = back_up(path, tmp_path / "copy")
    assert made.linked == made.files > 0
    for generation in range(4, 12):
        commit(path, generation)
    assert content(Store.open(tmp_path / "copy").snapshot()) == expected(versions(3))
    commit(tmp_path / "copy", 4)
    assert content(Store.open(tmp_path / "copy").snapshot()) == expected(versions(4))
    assert content(Store.open(path).snapshot()) == expected(versions(11))
    assert check_index(path) == check_index(tmp_path / "copy") == []
    shutil.rmtree(path)
    assert content(Store.open(tmp_path / "copy").snapshot()) == expected(versions(4))


def test_where_files_cannot_be_shared_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = committed(tmp_path / "i", 3)
    for number in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", refuse)
        assert back_up(path, tmp_path / str(number)).linked == 0
        assert check_index(tmp_path / str(number)) == []


def test_links_of_files_are_not_shared_but_followed(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 1)
    [file] = path.glob("segments/1/offsets.npy")
    file.rename(tmp_path / "elsewhere.npy")
    file.symlink_to(tmp_path / "elsewhere.npy")
    made = back_up(path, tmp_path / "copy")
    assert made.linked == made.files - 1
    assert not (tmp_path / "copy" / "segments" / "1" / "offsets.npy").is_symlink()


def test_what_others_keep_in_the_folder_comes_along_and_drafts_do_not(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 1)
    (path / "files.json").write_text("{}")
    (path / "manifest.json.draft").write_text("half")
    (path / ".latebolt-draft-1").write_text("half")
    (path / "segments" / "77").mkdir()
    (path / "segments" / "77" / "codes.npy").write_text("half")
    back_up(path, tmp_path / "copy")
    kept = {name for name in tree(path) if "77" not in name and "draft" not in name}
    assert set(tree(tmp_path / "copy")) == kept
    assert (path / "files.json").stat().st_ino != (tmp_path / "copy" / "files.json").stat().st_ino


def test_a_damaged_file_is_named_and_leaves_no_copy(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 1)
    [file] = path.glob("segments/1/codes.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IndexCorrupt, match=r"i/segments/1/codes\.npy: digest"):
        back_up(path, tmp_path / "copy", link=False)
    file.write_bytes(whole[:-1])
    for link in (True, False):
        with pytest.raises(IndexCorrupt, match=r"i/segments/1/codes\.npy: size"):
            back_up(path, tmp_path / "copy", link)
    file.unlink()
    with pytest.raises(IndexCorrupt, match=r"i/segments/1/codes\.npy: existence"):
        back_up(path, tmp_path / "copy")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["i"]


def test_places_that_cannot_be_written_to_or_read_from(tmp_path: Path) -> None:
    path = committed(tmp_path / "i", 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for there in ("full", "file", "i"):
        with pytest.raises(IndexExists, match="there is something already"):
            back_up(path, tmp_path / there)
    assert (tmp_path / "full" / "mine").read_text() == "mine"
    with pytest.raises(InvalidInput, match="folder of the index itself"):
        back_up(path, path / "copy")
    with pytest.raises(IndexNotFound):
        back_up(tmp_path / "none", tmp_path / "copy")
    (tmp_path / "empty").mkdir()
    back_up(path, tmp_path / "empty")
    assert content(Store.open(tmp_path / "empty").snapshot()) == expected(versions(1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a __del__
@pytest.mark.parametrize("link", [True, False], ids=["linked", "copied"])
@pytest.mark.parametrize("what", ["full disk", "Ctrl-C"])
def test_a_copy_is_there_whole_or_not_at_all(link: bool, what: str) -> None:
    def happen() -> None:
        raise KeyboardInterrupt if what == "Ctrl-C" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    outcomes = []
    with quick_folder() as folder:
        path = committed(folder / "i", 5)
        before = tree(path)
        for n in range(1000):
            out = folder / "copies" / "copy"
            with fault_at(n, happen, GROWING | {"link"}) as count:
                try:
                    back_up(path, out, link)
                    outcomes.append(None)
                except (LateboltError, OSError, KeyboardInterrupt) as error:
                    outcomes.append(type(error))
            if out.exists():
                assert content(Store.open(out).snapshot()) == expected(versions(5))
                assert check_index(out) == []
            if (folder / "copies").exists():
                remove_leftovers(folder / "copies")
                assert {each.name for each in (folder / "copies").iterdir()} <= {"copy"}
            shutil.rmtree(folder / "copies", ignore_errors=True)
            assert tree(path) == before
            if count.n <= n:
                break
    assert len(outcomes) > 10 and outcomes[-1] is None
    assert (KeyboardInterrupt if what == "Ctrl-C" else StorageFull) in outcomes


def test_no_file_that_a_manifest_names_is_ever_written_again(tmp_path: Path) -> None:
    """What sharing rests on: a writer that adds, deletes, merges and compacts leaves their bytes alone."""
    path = committed(tmp_path / "i", 1)
    kept: dict[tuple[int, int], bytes] = {}
    copies = []
    for generation in range(2, 14):
        copies.append(back_up(path, tmp_path / f"copy-{generation}"))
        for file in (tmp_path / f"copy-{generation}").rglob("*"):
            if file.suffix in (".npy", ".sqlite"):
                status = file.stat()
                known = kept.setdefault((status.st_dev, status.st_ino), file.read_bytes())
                assert known == file.read_bytes()
        commit(path, generation)
    with Index.open(path) as index:
        index.delete(ids=["a1"])
        index.compact()
    for generation in range(2, 14):
        for file in (tmp_path / f"copy-{generation}").rglob("*.*"):
            if file.suffix in (".npy", ".sqlite"):
                status = file.stat()
                assert kept[status.st_dev, status.st_ino] == file.read_bytes()


def test_of_an_index_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.create(tmp_path / "i", None, dim=8)
    index.add_vectors(["a"], [[[1.0] + [0.0] * 7]], texts=["A"])
    assert index.backup(tmp_path / "copy").generation == 1
    with Index.open(tmp_path / "copy") as copy:
        assert [hit.id for hit in copy.search_vectors([[1.0] + [0.0] * 7])] == ["a"]
    synced: list[Path] = []
    real = files.sync_folder
    monkeypatch.setattr(files, "sync_folder", lambda path: (synced.append(path), real(path)))
    index.backup(tmp_path / "deep" / "copy")
    assert tmp_path / "deep" in synced, "its name is on disk, too"


def test_an_async_index_is_backed_up(tmp_path: Path) -> None:
    async def back_up_and_ask() -> list[str]:
        async with await AsyncIndex.open(committed(tmp_path / "i", 2)) as index:
            assert (await index.backup(tmp_path / "copy")).generation == 2
            assert (await index.backup(tmp_path / "whole", link=False)).linked == 0
        return [str(each) for each in check_index(tmp_path / "copy") + check_index(tmp_path / "whole")]

    assert asyncio.run(back_up_and_ask()) == []
