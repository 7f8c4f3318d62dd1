"""Whatever ends a writer, and whenever: the index holds the last commit or the new one, and goes on."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_faults import GROWING, fault_at, fault_at_line, state_of
from store_samples import (
    INFO,
    add,
    append,
    content,
    documents,
    expected,
    make_store,
    unnamed_files,
)

from latebolt.errors import IndexInaccessible, LateboltError, StorageFull
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

OLD = expected({"a": 0, "b": 0, "c": 0, "d": 0, "e": 0})
NEW = expected({"a": 1, "c": 0, "e": 0, "f": 1})


def prepare(path: Path) -> None:
    with make_store(path).writer() as writer:
        writer.set_codec({"centroids": np.ones((2, 2), np.float32)}, INFO)
        add(writer, ["a", "b", "c"])
        add(writer, ["d", "e"])
        writer.commit()


def change(path: Path) -> None:
    """One commit that uses everything: codec, segment, replacement, deletion, merge, removal of files."""
    with Store.open(path).writer() as writer:
        writer.set_codec({"centroids": np.ones((3, 2), np.float32)}, INFO, adopt=True)
        append(writer.new_segment(writer.segments[0].columns), ["a", "f"], version=1)
        writer.delete(["b", "d"])
        writer.merge([segment.name for segment in writer.segments])
        writer.commit()


def check_after(path: Path) -> bool:
    """Whether the change is there; fails if it is there in part, or if the index cannot go on."""
    assert check_index(path) == []
    found = content(Store.open(path).snapshot())
    assert found in (OLD, NEW)
    with Store.open(path).writer() as writer:
        assert not unnamed_files(path), "drafts are gone once the next writer begins"
        add(writer, ["z"], version=7)
        writer.commit()
    assert content(Store.open(path).snapshot()) == {**found, **expected({"z": 7})}
    return found == NEW


def check_new(path: Path, met: dict[str, bool]) -> bool:
    """The same; of a state that another fault has left before, only that a writer can begin and clears up."""
    state = state_of(path)
    if state not in met:
        met[state] = check_after(path)
    else:
        with Store.open(path).writer():
            assert not unnamed_files(path)
    return met[state]


def run_with(
    path: Path, fault: Callable[..., Any], n: int, action: Callable[[], None]
) -> tuple[int, type[BaseException] | None]:
    """(operations seen, what came out). The error itself would keep the writer's frames, and so its lock."""
    with fault(n, action) as count:
        try:
            change(path)
        except (LateboltError, OSError, KeyboardInterrupt) as error:
            return count.n, type(error)
    return count.n, None


@pytest.fixture
def template() -> Iterator[Path]:
    with quick_folder() as folder:
        prepare(folder / "template")
        yield folder / "template"


def copies(template: Path) -> Callable[[], Path]:
    def copy() -> Path:
        place = template.parent / "index"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place)
        return place

    return copy


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a __del__
def test_a_full_disk_at_any_operation(template: Path) -> None:
    copy = copies(template)
    n, outcomes = 0, []
    met: dict[str, bool] = {}

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    while True:
        path = copy()
        seen, error = run_with(path, partial(fault_at, operations=GROWING), n, full)
        if seen <= n:
            break
        generation = read_manifest(path).generation
        if error is None:  # it hit the cleaning up, which is done again another time
            assert generation == 2
        elif generation == 1:
            assert not unnamed_files(path), "a failed writer removes its drafts"
        outcomes.append((error, check_new(path, met)))
        n += 1
    assert n > 40
    assert (StorageFull, False) in outcomes and (None, True) in outcomes
    # Opening for reading meets no full disk: refused all the same, it names the file, or the error
    # is the plain one. No other kind comes out.
    assert {kind for kind, _ in outcomes} <= {StorageFull, None, OSError, IndexInaccessible}


def test_the_error_of_a_full_disk_names_file_and_way_out(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        StorageFull, match=r"centroids\.npy: the disk is full .*Free space and add again"
    ) as caught:
        monkeypatch.setattr(os, "fsync", full)
        change(template)
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert not check_after(template)


def test_any_other_refusal_names_the_file(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(IndexInaccessible, match=r"\.npy: cannot be written"):
        patch.setattr(os, "fsync", broken)
        change(template)
    assert not check_after(template)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a __del__
@pytest.mark.parametrize("fault", [fault_at, fault_at_line], ids=["operation", "line"])
def test_ctrl_c_anywhere(template: Path, fault: Callable[..., object]) -> None:
    copy = copies(template)

    def interrupt() -> None:
        raise KeyboardInterrupt

    total, _ = run_with(copy(), fault, 1 << 60, interrupt)
    # Every operation; of the thousands of lines a spread that meets every function.
    step = 1 if fault is fault_at else max(1, total // 250)
    outcomes = []
    met: dict[str, bool] = {}
    for n in range(0, total, step):
        path = copy()
        run_with(path, fault, n, interrupt)
        outcomes.append(check_new(path, met))
    assert outcomes[0] is False and outcomes[-1] is True


CHILD = """
    import gc, os, shutil, signal, sys
    from pathlib import Path
    from store_faults import fault_at
    from test_crash import change

    template, work = Path(sys.argv[1]), Path(sys.argv[2])
    gc.disable()
    gc.freeze()
    n = 0
    while True:
        place = work / str(n)
        shutil.copytree(template, place)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that hangs fails the test
            # SIGKILL: no handler, no buffer flushed, no finally.
            with fault_at(n, lambda: os.kill(os.getpid(), 9)):
                change(place)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            break
        assert status == -9, status
        n += 1
    print(n)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_operation(template: Path) -> None:
    work = template.parent / "work"
    work.mkdir()
    here = Path(__file__).parent
    engine = Path(sys.modules["latebolt"].__file__ or "").parent.parent
    folders = os.pathsep.join(map(str, (here, here.parents[1], engine)))
    environment = {**os.environ, "PYTHONPATH": folders}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(template), str(work)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    n = int(done.stdout)
    assert n > 40
    met: dict[str, bool] = {}
    outcomes = [check_new(work / str(i), met) for i in range(n)]
    assert outcomes == sorted(outcomes), "old until the manifest is replaced, new ever after"
    assert outcomes[0] is False and outcomes[-1] is True


def test_creation_cut_short_can_be_repeated(tmp_path: Path) -> None:
    n = 0

    def interrupt() -> None:
        raise KeyboardInterrupt

    while True:
        path = tmp_path / str(n)
        with fault_at(n, interrupt) as count, contextlib.suppress(KeyboardInterrupt):
            make_store(path)
        if count.n <= n:
            break
        if not (path / "manifest.json").exists():
            make_store(path)
        assert content(Store.open(path).snapshot()) == {}
        n += 1
    assert n > 8


def test_all_files_are_on_disk_before_the_manifest_names_them(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for pulling the plug: nothing may be named before it was synced, folder entries included."""
    synced: set[tuple[int, int]] = set()
    moments: list[set[str]] = []
    sync, replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        sync(handle)
        state = os.fstat(handle)
        synced.add((state.st_dev, state.st_ino))

    def is_synced(path: Path) -> bool:
        state = path.stat()
        return (state.st_dev, state.st_ino) in synced

    before = {p for p in template.rglob("*") if p.is_file()}

    def rename(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        draft = Path(source)
        assert draft.name == "manifest.json.draft" and is_synced(draft)
        new = {p for p in template.rglob("*.[ns][pq]*") if p.is_file()} - before
        named = {p for p in new if str(p.relative_to(template)) not in unnamed_in(draft)}
        missing = {str(p) for p in named if not is_synced(p) or not is_synced(p.parent)}
        missing |= {
            str(p) for p in (template, template / "segments", template / "codecs") if not is_synced(p)
        }
        moments.append(missing)
        synced.discard((template.stat().st_dev, template.stat().st_ino))
        replace(source, target)

    def unnamed_in(draft: Path) -> set[str]:
        shutil.copy(draft, template.parent / "draft")
        from latebolt.index.format.layout import decode_manifest

        manifest = decode_manifest(draft.read_bytes(), draft)
        named = {f"segments/{s.name}/{f}" for s in manifest.segments for f in s.files}
        named |= {f"codecs/{n}/{f}" for n, c in manifest.codecs.items() for f in c.files}
        return {str(p.relative_to(template)) for p in template.rglob("*") if p.is_file()} - named

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    change(template)
    assert moments == [set()]
    assert is_synced(template), "the new name itself is made durable"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> object:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this account may not mount a small file system")
    yield place
    gc.collect()  # stores that only a failed call's frames hold have files there open
    subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_disk(tiny_disk: Path) -> None:
    path = tiny_disk / "index"
    prepare(path)
    versions = 0
    with pytest.raises(StorageFull):
        for versions in range(1000):
            with Store.open(path).writer() as writer:
                draft = writer.new_segment(())
                draft.append(documents([f"x{versions}"], ["word " * 4000]), [0], {})
                writer.commit()
    assert versions > 3
    assert check_index(path) == [] and not unnamed_files(path)
    snapshot = Store.open(path).snapshot()
    assert snapshot.n_documents == 5 + versions
    with Store.open(path).writer() as writer:
        writer.drop_segments([segment.name for segment in writer.segments if not segment.columns])
        writer.commit()
    assert content(Store.open(path).snapshot()) == OLD


def test_killed_by_a_signal_while_it_holds_the_lock(template: Path) -> None:
    code = """
        import sys, time
        from latebolt.index.store.store import Store
        with Store.open(sys.argv[1]).writer() as writer:
            writer.delete(["a"])
            print("locked", flush=True)
            time.sleep(60)
    """
    engine = Path(sys.modules["latebolt"].__file__ or "").parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(template)],
        env={**os.environ, "PYTHONPATH": str(engine)},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "locked\n"
        from latebolt.errors import IndexLocked

        with pytest.raises(IndexLocked, match=rf"process {child.pid}"), Store.open(template).writer():
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not check_after(template)
