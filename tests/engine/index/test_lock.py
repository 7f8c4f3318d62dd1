"""One writer at a time, and who may wait."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from store_samples import add, content, expected, make_store

from latebolt.errors import IndexLocked
from latebolt.index.storage import Store


def test_a_second_writer_is_refused_and_named_the_first(tmp_path: Path) -> None:
    store = make_store(tmp_path / "i")
    with store.writer() as writer:
        for other in (store, Store.open(tmp_path / "i")):
            with pytest.raises(IndexLocked, match=r"another writer .*finished or stop it"), other.writer():
                pass
        add(writer, ["a"])
        writer.commit()
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
