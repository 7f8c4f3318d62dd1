"""Commits, replacement, deletion, merging and snapshots of the store."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_samples import (
    COLUMNS,
    INFO,
    add,
    append,
    content,
    documents,
    expected,
    make_store,
    tree,
    unnamed_files,
)

from latebolt.errors import IndexExists, IndexNotFound, IndexUnusable, InvalidInput
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Column, ModelRecord, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on the way?#%" / "index"


@pytest.fixture
def store(path: Path) -> Store:
    store = make_store(path)
    with store.writer() as writer:
        writer.set_codec({"centroids": np.arange(6, dtype=np.float32).reshape(2, 3)}, INFO)
        add(writer, ["a", "b", "c", "d"])
        writer.commit()
    return store


def test_a_new_store_is_empty_and_keeps_what_it_was_created_with(path: Path) -> None:
    model = ModelRecord("org/name", "f00d", "int8", 64)
    Store.create(path, dim=64, bits=4, model=model, settings={"n": 1})
    snapshot = Store.open(path).snapshot()
    assert (snapshot.n_documents, snapshot.segments, snapshot.codec, snapshot.generation) == (0, (), None, 0)
    assert (snapshot.model, snapshot.dim, snapshot.bits, snapshot.settings) == (model, 64, 4, {"n": 1})
    assert check_index(path) == []


def test_creating_where_something_is_refuses(path: Path, store: Store, tmp_path: Path) -> None:
    before = tree(path)
    with pytest.raises(IndexExists, match="an index already"):
        make_store(path)
    assert tree(path) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(IndexExists, match=r"notes\.txt"):
        make_store(tmp_path / "other")
    with pytest.raises(IndexExists, match="is a file"):
        make_store(tmp_path / "other" / "notes.txt")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_an_empty_folder_may_become_an_index(tmp_path: Path) -> None:
    make_store(tmp_path)
    assert Store.open(tmp_path).snapshot().n_documents == 0


@pytest.mark.parametrize("name", ["", "nothing", "file/below"])
def test_opening_nothing_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexNotFound, match=r"manifest\.json"):
        Store.open(tmp_path / name)


def test_a_writer_on_no_index_leaves_nothing_behind(store: Store, path: Path) -> None:
    shutil.rmtree(path)
    with pytest.raises(IndexNotFound), store.writer():
        pass
    assert not path.exists()


def test_what_is_committed_is_read_back(store: Store, path: Path) -> None:
    snapshot = Store.open(path).snapshot()
    assert content(snapshot) == expected(dict.fromkeys("abcd", 0))
    [segment] = snapshot.segments
    assert segment.ids() == list("abcd") and segment.ids([3, 0, 3]) == ["d", "a", "d"]
    assert segment.columns == COLUMNS and segment.codec == snapshot.codec.name
    assert snapshot.codec.info == INFO
    np.testing.assert_array_equal(
        snapshot.codec.arrays["centroids"], np.arange(6, dtype=np.float32).reshape(2, 3)
    )
    for array in (
        segment.offsets,
        segment.column("codes"),
        segment.alive,
        snapshot.codec.arrays["centroids"],
    ):
        assert not array.flags.writeable
    assert snapshot.n_bytes == sum(len(data) for name, data in tree(path).items() if name != "manifest.json")


def test_large_columns_are_mapped_and_streamed(path: Path) -> None:
    store = make_store(path)
    rng = np.random.default_rng(7)
    blocks = [rng.integers(0, 256, (50_000, 3)).astype(np.uint8) for _ in range(3)]
    with store.writer() as writer:
        draft = writer.new_segment((Column("codes", "u1", 3),))
        for i, block in enumerate(blocks):
            draft.append(documents([f"{i}-{j}" for j in range(50)]), np.full(50, 1000), {"codes": block})
        writer.commit()
    [segment] = store.snapshot().segments
    np.testing.assert_array_equal(segment.column("codes"), np.concatenate(blocks))
    np.testing.assert_array_equal(segment.offsets, np.arange(151) * 1000)
    assert np.load(path / "segments" / segment.name / "codes.npy", mmap_mode="r").shape == (150_000, 3)
    assert sum(len(block.ids) for block in segment.blocks(2500)) == 150
    assert max(block.lengths.sum() for block in segment.blocks(2500)) <= 2500


def test_an_existing_id_is_replaced_in_the_same_commit(store: Store) -> None:
    with store.writer() as writer:
        add(writer, ["c", "e", "a"], version=1)
        writer.commit()
    assert content(store.snapshot()) == expected({"b": 0, "d": 0, "c": 1, "e": 1, "a": 1})


def test_of_an_id_repeated_the_last_one_counts(path: Path) -> None:
    store = make_store(path)
    with store.writer() as writer:
        draft = writer.new_segment(COLUMNS)
        append(draft, ["a", "b"], version=0)
        append(draft, ["b", "c"], version=1)
        append(draft, ["b"], version=2)
        draft.finish()
        add(writer, ["c"], version=3)
        writer.commit()
    assert content(store.snapshot()) == expected({"a": 0, "b": 2, "c": 3})
    with store.writer() as writer:
        draft = writer.new_segment((Column("x", "f4"),))
        draft.append(
            documents(["q"] * 4, ["1", "2", "3", "4"]), [1] * 4, {"x": np.arange(4, dtype=np.float32)}
        )
        writer.commit()
    segment = store.snapshot().segments[-1]
    assert segment.alive.tolist() == [False, False, False, True]
    assert segment.documents([3]) == [("q", "4", None, {})]


def test_delete_counts_what_there_was(store: Store) -> None:
    with store.writer() as writer:
        assert writer.delete(["a", "nobody", "a", "c", "\ud800", ""]) == 2
        assert writer.delete(["a"]) == 0
        with pytest.raises(InvalidInput, match=r"ids\[1\]"):
            writer.delete(["b", 3])  # type: ignore[list-item]
        writer.commit()
    assert content(store.snapshot()) == expected({"b": 0, "d": 0})
    [segment] = store.snapshot().segments
    assert segment.rows_of(["a", "d", "b"]).tolist() == [1, 3]
    assert (segment.n_deleted, segment.n_documents) == (2, 4)


def test_deleting_all_documents_removes_the_segment_and_its_files(store: Store, path: Path) -> None:
    with store.writer() as writer:
        assert writer.delete(list("abcd")) == 4
        writer.commit()
    assert store.snapshot().segments == ()
    assert not list((path / "segments").iterdir())
    assert content(store.snapshot()) == {}


def test_a_deleted_id_may_come_back(store: Store) -> None:
    for version in (1, 2):
        with store.writer() as writer:
            writer.delete(["a"])
            add(writer, ["a"], version)
            writer.commit()
    assert content(store.snapshot()) == expected({"a": 2, "b": 0, "c": 0, "d": 0})


def test_leaving_without_commit_changes_nothing(store: Store, path: Path) -> None:
    before = tree(path)
    with store.writer() as writer:
        writer.set_codec({"x": np.zeros(3)}, {})
        add(writer, ["a", "z"], version=1)
        append(writer.new_segment(COLUMNS), ["y"])
        writer.delete(["b"])
    assert tree(path) == before
    with pytest.raises(RuntimeError, match="mine"), store.writer() as writer:
        add(writer, ["a", "z"], version=1)
        raise RuntimeError("mine")
    assert tree(path) == before


def test_nothing_to_commit_keeps_the_generation(store: Store, path: Path) -> None:
    before = tree(path)
    with store.writer() as writer:
        generation = writer.commit()
        writer.new_segment(COLUMNS).finish()
        writer.delete(["nobody"])
    assert generation == store.snapshot().generation == 1
    assert tree(path) == before


def test_several_commits_in_one_writer(store: Store) -> None:
    with store.writer() as writer:
        add(writer, ["a"], version=1)
        assert writer.commit() == 2
        assert content(store.snapshot()) == expected({"a": 1, "b": 0, "c": 0, "d": 0})
        add(writer, ["a"], version=2)
        writer.delete(["b"])
        assert writer.commit() == 3
        add(writer, ["c"], version=9)
    assert content(store.snapshot()) == expected({"a": 2, "c": 0, "d": 0})


def test_a_failed_writer_cannot_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.writer() as writer:
        add(writer, ["x"])
        with monkeypatch.context() as patch, pytest.raises(IndexUnusable, match="cannot be written"):
            patch.setattr(os, "fsync", _refuse)
            add(writer, ["y"])
        with pytest.raises(IndexUnusable, match="earlier write failed"):
            writer.commit()
    assert content(store.snapshot()) == expected(dict.fromkeys("abcd", 0))


def _refuse(handle: int) -> None:
    raise PermissionError(13, "Permission denied")


def test_wrong_input_fails_nothing(store: Store) -> None:
    with store.writer() as writer:
        draft = writer.new_segment(COLUMNS)
        append(draft, ["x"])
        with pytest.raises(InvalidInput, match="columns should be"):
            draft.append(documents(["y"]), [0], {})
        append(draft, ["y"])
        writer.commit()
    assert content(store.snapshot()) == expected(dict.fromkeys("abcdxy", 0))


@pytest.mark.parametrize(
    ("lengths", "codes", "match"),
    [
        ([2], np.zeros((2, 3), np.uint8), r"'codes'.*\(2, 2\).*\(2, 3\)"),
        ([2], np.zeros((3, 2), np.uint8), r"\(2, 2\).*\(3, 2\)"),
        ([2], np.zeros((2, 2), np.int8), r"\|u1.*\|i1"),
        ([2, 1], np.zeros((2, 2), np.uint8), "lengths should be 1 integers"),
        ([2.0], np.zeros((2, 2), np.uint8), "lengths should be 1 integers"),
        ([-1], np.zeros((0, 2), np.uint8), r"lengths\[0\]"),
    ],
)
def test_columns_that_do_not_fit(store: Store, lengths: list[int], codes: np.ndarray, match: str) -> None:
    with store.writer() as writer:
        draft = writer.new_segment((Column("codes", "u1", 2),))
        with pytest.raises(InvalidInput, match=match):
            draft.append(documents(["x"]), lengths, {"codes": codes})


def test_a_codec_lives_as_long_as_a_segment_needs_it(store: Store, path: Path) -> None:
    with store.writer() as writer:
        old, new = writer.codec, writer.set_codec({"centroids": np.ones((3, 3), np.float16)}, {"v": 2})
        add(writer, ["e"])
        writer.commit()
    snapshot = store.snapshot()
    assert [segment.codec for segment in snapshot.segments] == [old, new]
    assert set(snapshot.codecs) == {old, new} and snapshot.codec.info == {"v": 2}
    with store.writer() as writer, pytest.raises(InvalidInput, match="another codec"):
        writer.merge([segment.name for segment in writer.segments])
    with store.writer() as writer:
        writer.drop_segments([writer.segments[0].name])
        writer.commit()
    assert set(store.snapshot().codecs) == {new}
    assert [folder.name for folder in (path / "codecs").iterdir()] == [new]


def test_a_codec_may_adopt_the_segments_of_the_last(store: Store) -> None:
    with store.writer() as writer:
        name = writer.set_codec({"centroids": np.ones((3, 3), np.float32)}, {}, adopt=True)
        writer.commit()
    snapshot = store.snapshot()
    assert [segment.codec for segment in snapshot.segments] == [name] and set(snapshot.codecs) == {name}
    assert content(snapshot) == expected(dict.fromkeys("abcd", 0))


def test_merge_keeps_live_documents_in_order(store: Store, path: Path) -> None:
    with store.writer() as writer:
        add(writer, ["e", "b", "f"], version=1)
        writer.delete(["a", "e"])
        writer.commit()
    with store.writer() as writer:
        writer.delete(["d"])
        name = writer.merge([segment.name for segment in writer.segments], block_tokens=1)
        add(writer, ["f"], version=2)
        writer.commit()
    segments = store.snapshot().segments
    assert segments[0].name == name and segments[0].ids() == ["c", "b", "f"]
    assert segments[0].alive.tolist() == [True, True, False]
    assert content(store.snapshot()) == expected({"c": 0, "b": 1, "f": 2})
    assert (
        segments[0].select("n >= 0").tolist()
        == store.snapshot().segments[0].select({"n": {"exists": True}}).tolist()
    )
    assert not unnamed_files(path) and check_index(path) == []


def test_merging_what_is_all_deleted_leaves_nothing(store: Store) -> None:
    with store.writer() as writer:
        writer.delete(list("abcd"))
        assert writer.merge([segment.name for segment in writer.segments]) is None
        assert writer.merge([]) is None
        writer.commit()
    assert store.snapshot().segments == ()


def test_many_small_additions_stay_few_segments(path: Path) -> None:
    store = make_store(path)
    for i in range(45):
        with store.writer() as writer:
            add(writer, [f"d{i}", "same"], version=i)
            writer.tidy()
            writer.commit()
    assert len(store.snapshot().segments) <= 10
    assert content(store.snapshot()) == expected({"same": 44, **{f"d{i}": i for i in range(45)}})


def test_documents_without_texts_tokens_or_metadata(path: Path) -> None:
    store = make_store(path)
    with store.writer() as writer:
        draft = writer.new_segment(())
        draft.append(documents(["a", "b"], None, [{}, None]), [0, 0], {})
        draft.append(documents([]), [], {})
        writer.commit()
    [segment] = store.snapshot().segments
    assert segment.documents([1, 0]) == [("b", None, None, {}), ("a", None, {}, {})]
    assert segment.n_tokens == 0 and segment.offsets.tolist() == [0, 0, 0]


def test_a_snapshot_outlives_what_the_writer_does(store: Store, path: Path) -> None:
    old = Store.open(path).snapshot()
    before = content(old)
    with store.writer() as writer:
        add(writer, ["a", "q"], version=1)
        writer.merge([segment.name for segment in writer.segments])
        writer.commit()
    assert not (path / "segments" / old.segments[0].name).exists()
    assert content(old) == before
    assert old.segments[0].select("n >= 0").sum() == sum(1 for value in before.values() if value[1])


def test_a_snapshot_is_the_same_object_until_a_commit(store: Store) -> None:
    first = store.snapshot()
    assert store.snapshot() is first
    with store.writer() as writer:
        writer.delete(["a"])
        assert store.snapshot() is first
        writer.commit()
    second = store.snapshot()
    assert second is not first and second.generation == first.generation + 1
    assert second.codecs["1"] is first.codecs["1"]
    assert first.segments[0].alive.all()


def test_readers_see_whole_commits_while_a_writer_works(store: Store, path: Path) -> None:
    """Each commit replaces all documents by one version; a reader must never see two versions."""
    stop, seen, errors = threading.Event(), set(), []

    def read() -> None:
        try:
            while not stop.is_set():
                found = content(Store.open(path).snapshot())
                versions = {value[0].split()[1] for value in found.values() if value[0]}
                assert len(versions) == 1, versions
                seen.update(versions)
        except BaseException as error:  # noqa: BLE001 (handed to the test's thread)
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for version in range(1, 40):
        with store.writer() as writer:
            add(writer, list("abcd"), version)
            if version % 3 == 0:
                writer.merge([segment.name for segment in writer.segments])
            writer.commit()
    stop.set()
    for reader in readers:
        reader.join()
    assert not errors, errors
    assert seen


def test_an_index_can_be_copied_and_moved(store: Store, path: Path, tmp_path: Path) -> None:
    wanted = expected(dict.fromkeys("abcd", 0))
    store.snapshot()
    shutil.copytree(path, tmp_path / "copy")
    path.rename(tmp_path / "moved")
    for place in (tmp_path / "copy", tmp_path / "moved"):
        assert content(Store.open(place).snapshot()) == wanted
        assert check_index(place) == []
    with Store.open(tmp_path / "copy").writer() as writer:
        writer.delete(["a"])
        writer.commit()
    assert content(Store.open(tmp_path / "moved").snapshot()) == wanted
    assert str(tmp_path).encode() not in b"".join(tree(tmp_path / "moved").values())


def test_another_index_at_the_same_path_is_noticed(store: Store, path: Path) -> None:
    store.snapshot()
    shutil.rmtree(path)
    other = make_store(path)
    with other.writer() as writer:
        writer.set_codec({"centroids": np.ones(3)}, {"other": True})
        add(writer, ["z"], version=5)
        writer.commit()
    assert content(store.snapshot()) == expected({"z": 5})
    assert store.snapshot().codec.info == {"other": True}


def test_reading_changes_no_file(store: Store, path: Path) -> None:
    def state() -> dict[str, tuple[int, int, int]]:
        return {
            str(p): (p.stat().st_mtime_ns, p.stat().st_size, p.stat().st_ino) for p in sorted(path.rglob("*"))
        }

    before = state()
    for file in path.rglob("*"):
        file.chmod(0o555 if file.is_dir() else 0o444)
    path.chmod(0o555)
    snapshot = Store.open(path).snapshot()
    content(snapshot)
    snapshot.segments[0].select('n >= 0 and tags = "a"')
    check_index(path)
    assert state() == before
    for file in (path, *path.rglob("*")):
        file.chmod(0o755)


def test_threads_share_a_snapshot(store: Store) -> None:
    snapshot, errors = store.snapshot(), []
    wanted = content(snapshot)

    def read() -> None:
        try:
            for _ in range(30):
                assert content(store.snapshot()) == wanted
                assert snapshot.segments[0].select("n >= 0 or not exists(n)").all()
        except BaseException as error:  # noqa: BLE001 (handed to the test's thread)
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_reads_on(store: Store, in_child: Callable[..., bool]) -> None:
    snapshot = store.snapshot()
    wanted = content(snapshot)
    assert in_child(lambda: content(snapshot) == wanted and content(store.snapshot()) == wanted)
    assert content(snapshot) == wanted


def test_model_and_settings_can_be_replaced(store: Store) -> None:
    model = ModelRecord("elsewhere", "f", "fp32", 8)
    with store.writer() as writer:
        writer.set_model(model)
        writer.set_settings({"k": [1, 2.5, None]})
        with pytest.raises(InvalidInput, match="settings"):
            writer.set_settings({"k": object()})
        writer.commit()
    assert store.snapshot().model == model and store.snapshot().settings == {"k": [1, 2.5, None]}


def test_a_users_own_file_is_left_alone(store: Store, path: Path) -> None:
    mine = [path / "README", path / "segments" / "notes.txt", path / "segments" / "mine" / "x.npy"]
    mine[2].parent.mkdir()
    for file in mine:
        file.write_text("mine")
    with store.writer() as writer:
        writer.delete(["a"])
        writer.commit()
    assert all(file.read_text() == "mine" for file in mine)
