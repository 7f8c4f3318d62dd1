"""One writer at a time, and who may wait."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from store_samples import add, content, expected, make_store

from latebolt import Encoder, Index, TokenVectors
from latebolt.errors import IndexLocked, IndexNotFound, InvalidInput, LateboltError
from latebolt.index.format.lock import writer_lock
from latebolt.index.store.store import Store

WRITE = """
    import sys, time
    from latebolt.index.store.store import Store
    with Store.open(sys.argv[1]).writer():
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def another_process(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """One that holds the index for so long."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(WRITE), str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def test_another_process_is_named_and_waited_for_on_request(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    with another_process(tmp_path / "i", 60) as child:
        for timeout in (0.0, 0.1):
            message = rf"another writer \(process {child.pid}\) .*finished or stop it"
            with pytest.raises(IndexLocked, match=message), store.writer(timeout):
                pass
    with another_process(tmp_path / "i", 0.3), store.writer(timeout=60) as writer:
        add(writer, ["a"])
        writer.commit()
    assert content(store.snapshot()) == expected({"a": 0})


def test_a_thread_that_writes_already_is_told_and_not_left_to_wait_for_itself(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    (tmp_path / "link").symlink_to(tmp_path / "i")
    with store.writer() as writer:
        for other in (store, Store.open(tmp_path / "i"), Store.open(tmp_path / "link")):
            with pytest.raises(IndexLocked, match=r"this thread is changing .*after"), other.writer():
                pass
        add(writer, ["a"])
        writer.commit()
    with store.writer() as writer:
        add(writer, ["b"])
        writer.commit()
    assert content(store.snapshot()) == expected({"a": 0, "b": 0})


def test_threads_take_turns_in_the_order_they_came(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    order: list[int] = []

    def write(number: int) -> None:
        with Store.open(tmp_path / "i").writer() as writer:
            order.append(number)
            add(writer, [str(number)])
            writer.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    with store.writer():
        for thread in threads:
            thread.start()
            time.sleep(0.03)
    for thread in threads:
        thread.join()
    assert order == list(range(8))
    assert content(store.snapshot()) == expected({str(number): 0 for number in range(8)})


def test_a_turn_ends_with_its_holder(tmp_path: Path) -> None:
    """Ctrl-C may come where nothing catches it any more: then the turn goes with the frame that held it."""
    store = make_store(tmp_path / "i")
    held = store.writer()
    held.__enter__()
    got: list[str] = []

    def write() -> None:
        with store.writer():
            got.append("turn")

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.1)
    assert not got
    del held
    gc.collect()
    thread.join(10)
    assert got == ["turn"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_wait_for_threads_it_has_not(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    with store.writer():
        child = os.fork()
        if child == 0:
            try:
                with store.writer():
                    os._exit(1)
            except IndexLocked:
                os._exit(7)
            os._exit(2)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    with store.writer() as writer:
        writer.delete(["a"])
        writer.commit()


def test_a_second_writer_may_wait(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    held, order = threading.Event(), []

    def hold() -> None:
        with store.writer() as writer:
            held.set()
            time.sleep(0.2)
            add(writer, ["a"])
            writer.commit()
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with Store.open(tmp_path / "i").writer(timeout=30) as writer:
        order.append("second")
        assert [segment.ids() for segment in writer.segments] == [["a"]], (
            "it sees what was committed meanwhile"
        )
        add(writer, ["b"])
        writer.commit()
    thread.join()
    assert order == ["first", "second"]
    assert content(store.snapshot()) == expected({"a": 0, "b": 0})


def test_an_old_lock_file_means_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    (tmp_path / "i" / "write.lock").write_text("999999999\n")
    with store.writer() as writer:
        add(writer, ["a"])
        writer.commit()
    (tmp_path / "i" / "write.lock").unlink()
    with store.writer() as writer:
        add(writer, ["b"])
        writer.commit()
    assert content(store.snapshot()) == expected({"a": 0, "b": 0})


def test_every_change_of_an_index_can_wait(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", None, dim=8)
    vectors = TokenVectors.from_matrices([np.eye(8, dtype=np.float32)])
    part = index.new_part(tmp_path / "part")
    part.add_vectors(["p"], vectors)
    changes = (
        lambda **wait: index.add_vectors(["a"], vectors, **wait),
        lambda **wait: index.adopt(tmp_path / "part", **wait),
        lambda **wait: index.delete(["a"], **wait),
        lambda **wait: index.compact(**wait),
    )
    with another_process(tmp_path / "i", 60):
        for change in changes:
            for wait in ({}, {"timeout": None}, {"timeout": 0}, {"timeout": np.float32(0.01)}):
                with pytest.raises(IndexLocked):
                    change(**wait)
    for change in changes:
        with another_process(tmp_path / "i", 0.2):
            change(timeout=math.inf)
    assert len(index) == 1
    for bad in (-1, math.nan, True, "5", [1]):
        with pytest.raises(InvalidInput, match="timeout should be"):
            index.compact(timeout=bad)


def test_threads_that_add_to_one_index_take_turns(tmp_path: Path, encoder: Encoder) -> None:
    index = Index.create(tmp_path / "i", encoder)

    def change(number: int) -> None:
        index.add([f"note {number} " * 50], ids=[str(number)])
        if number % 3 == 0:
            index.delete([str(number)])
        if number % 5 == 0:
            index.compact()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(20)))
    assert {entry.id for entry in index.documents()} == {str(n) for n in range(20) if n % 3}


def test_a_folder_that_has_gone_is_not_made_anew(tmp_path: Path) -> None:
    """Not by the lock either, whose library makes what is missing above its file."""
    store = make_store(tmp_path / "deep" / "i")
    with store.writer() as writer:
        add(writer, ["a"])
        writer.commit()
    (tmp_path / "deep").rename(tmp_path / "moved")
    with pytest.raises(IndexNotFound, match="there is no such folder"), writer_lock(tmp_path / "deep" / "i"):
        pass
    with pytest.raises(IndexNotFound), store.writer():
        pass
    assert not (tmp_path / "deep").exists()


def test_a_folder_that_goes_under_a_writer_is_not_made_anew(tmp_path: Path) -> None:
    store = make_store(tmp_path / "deep" / "i")
    with pytest.raises(LateboltError), store.writer() as writer:
        (tmp_path / "deep").rename(tmp_path / "moved")
        add(writer, ["a"])
        writer.commit()
    assert not (tmp_path / "deep").exists()
    with pytest.raises(LateboltError), Store.open(tmp_path / "moved" / "i").writer() as writer:
        (tmp_path / "moved").rename(tmp_path / "again")
        writer.set_codec({"x": np.zeros(2, np.float32)}, {})
        writer.commit()
    assert not (tmp_path / "moved").exists()
