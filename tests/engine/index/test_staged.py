"""An index that begins with its first commit: whatever ends that, nothing is left that is in anyone's way."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_faults import GROWING, fault_at, fault_at_line, state_of
from store_samples import INFO, add, content, expected, unnamed_files

from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import IndexExists, IndexNotFound, InvalidInput, LateboltError
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

WHOLE = expected({"a": 0, "b": 0})


def begin(path: Path) -> Store:
    store = Store.stage(path, dim=8, bits=2)
    with store.writer() as writer:
        writer.set_codec({"centroids": np.ones((2, 2), np.float32)}, INFO)
        add(writer, ["a", "b"])
        writer.commit()
    return store


def check_after(path: Path) -> bool:
    """Whether the index is there, whole; fails if it is there in part, or if it cannot be begun again."""
    there = (path / "manifest.json").exists()
    if not there:
        begin(path)
    assert check_index(path) == []
    assert content(Store.open(path).snapshot()) == WHOLE
    with Store.open(path).writer():
        assert not unnamed_files(path)
    return there


def outcomes(
    fault: Callable[..., Any], action: Callable[[], None], stride: int = 1
) -> list[tuple[bool, bool]]:
    """Of a fault at every place: (whether the folder was gone, whether the index is there)."""
    found, n = [], 0
    met: dict[str, bool] = {}
    with quick_folder() as folder:
        while True:
            path = folder / "index"
            shutil.rmtree(path, ignore_errors=True)
            with (
                fault(n, action) as count,
                contextlib.suppress(LateboltError, OSError, KeyboardInterrupt),
            ):
                begin(path)
            if count.n <= n:
                return found
            gone, state = not path.exists(), state_of(path)
            if state not in met:
                met[state] = check_after(path)
            elif not met[state]:
                Store.stage(path, dim=8, bits=2).make()  # whoever comes next is in nobody's way
            else:
                with Store.open(path).writer():
                    assert not unnamed_files(path)
            found.append((gone, met[state]))
            n += stride


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a __del__
def test_a_full_disk_at_any_operation_leaves_nothing() -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = outcomes(partial(fault_at, operations=GROWING), full)
    assert len(found) > 20
    assert all(gone or there for gone, there in found), "the folder goes where no index came of it"
    assert (True, False) in found and (False, True) in found


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_at_any_line() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    found = outcomes(fault_at_line, interrupt, stride=5)
    assert (True, False) in found and (False, True) in found


def test_the_end_of_the_process_is_in_nobodys_way(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from store_samples import add
        from latebolt.index.store.store import Store
        with Store.stage(sys.argv[2], dim=8, bits=2).writer() as writer:
            add(writer, ["x"])
            os._exit(0)
    """
    path = tmp_path / "i"
    command = [sys.executable, "-c", textwrap.dedent(script), str(Path(__file__).parent), str(path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert path.exists() and not (path / "manifest.json").exists()
    assert check_after(path) is False


def test_a_folder_that_was_there_stays_and_strangers_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "i"
    path.mkdir()
    with Store.stage(path, dim=8, bits=2).writer() as writer:
        add(writer, ["a"])
    assert path.is_dir() and not any(path.iterdir())
    (path / "notes.md").write_text("mine")
    with pytest.raises(IndexExists, match=r"notes\.md"):
        Store.stage(path, dim=8, bits=2)


def test_the_second_to_stage_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "i"
    first, second = (Store.stage(path, dim=8, bits=2) for _ in range(2))
    with first.writer() as writer:
        add(writer, ["a", "b"])
        writer.commit()
    with pytest.raises(IndexExists), second.writer():
        pass
    with pytest.raises(IndexExists):
        second.make()
    assert content(Store.open(path).snapshot()) == content(first.snapshot()) == WHOLE


def test_threads_that_begin_one_index_take_turns(tmp_path: Path) -> None:
    """Also where the first of them fails and takes the folder away again."""
    index = Index.create(tmp_path / "i", None, dim=8, with_first_add=True)
    vectors = TokenVectors.from_matrices([np.eye(8, dtype=np.float32)])
    came: list[Any] = []

    def run(id: str) -> None:
        try:
            came.append(index.add_vectors([id], vectors))
        except LateboltError as error:
            came.append(error)

    threads = [threading.Thread(target=run, args=("" if i % 3 == 0 else str(i),)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, InvalidInput) for each in came) == 4 and len(came) == 12
    assert len(index) == len(Index.open(tmp_path / "i")) == 8


def test_a_refused_first_addition_leaves_nothing(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "new" / "i"
    index = Index.create(path, encoder, with_first_add=True)
    assert len(index) == 0 and index.search("bread") == [] and list(index.documents()) == []
    assert index.get(["a"]) == [None] and index.delete(["a"]) == 0 and index.info()["documents"] == 0
    index.compact()

    def broken():
        yield "fresh bread"
        raise RuntimeError("the source is gone")

    for texts, metadata, kind in (
        (["bread"], [{"when": object()}], InvalidInput),
        ([3], None, InvalidInput),
        (broken(), None, RuntimeError),
        (iter(["bread"]), iter([{"when": object()}]), InvalidInput),
    ):
        with pytest.raises(kind):
            index.add(texts, metadata=metadata)
        assert not path.exists()
        with pytest.raises(IndexNotFound):
            Index.open(path)
    index.add(["fresh bread"], metadata=[{"when": "2024-01-01"}])
    assert [hit.text for hit in Index.open(path).search("bread")] == ["fresh bread"]
    index.add(["stale bread"])
    assert len(index) == len(Index.open(path)) == 2
    with pytest.raises(IndexExists):
        Index.create(path, encoder, with_first_add=True)


@pytest.mark.parametrize("nothing", [[], iter(())])
def test_an_addition_of_nothing_makes_an_empty_index(tmp_path: Path, encoder: Encoder, nothing: Any) -> None:
    index = Index.create(tmp_path / "i", encoder, with_first_add=True)
    assert index.add(nothing) == []
    assert len(Index.open(tmp_path / "i")) == 0
    index.add(["bread"])
    assert len(Index.open(tmp_path / "i")) == 1
