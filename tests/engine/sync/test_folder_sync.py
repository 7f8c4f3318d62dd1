"""A folder that changes, and the index that follows: what is read, encoded, renamed, kept and forgotten."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from latebolt import Encoder, Index
from latebolt.corpus.files import Skipped, SourceFile, sources_of
from latebolt.index.ingest.sync import SyncCounts
from latebolt.sync import file_records, folder_sync
from latebolt.sync.folder_sync import FolderSync


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were just written count as settled, as those of a person are by the next run."""
    monkeypatch.setattr(file_records, "_RACE_NS", -(10**18))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read."""
    opened: list[str] = []
    plain = folder_sync.documents_of

    def noted(source: SourceFile, *more: Any) -> Any:
        assert source.path is not None
        opened.append(source.path.name)
        return plain(source, *more)

    monkeypatch.setattr(folder_sync, "documents_of", noted)
    return opened


def follow(index: Path, *names: Path, encoder: Encoder, **more: Any) -> tuple[SyncCounts, FolderSync]:
    skipped: list[Skipped] = []
    given = [str(name) for name in names]
    opened = (
        Index.open(index, encoder)
        if (index / "manifest.json").exists()
        else Index.create(index, encoder, 16, passage_tokens=60, with_first_add=True)
    )
    with FolderSync(sources_of(given, skipped), given, skipped, True, "x") as run:
        return run.run(opened, **more), run


def texts(index: Path, encoder: Encoder) -> dict[str, str | None]:
    return {each.id: each.text for each in Index.open(index, encoder).documents()}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)


def test_a_second_run_reads_nothing(tmp_path: Path, encoder: Encoder, read: list[str]) -> None:
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, a="fresh bread", b="a cat", c="rain")
    assert follow(index, notes, encoder=encoder)[0] == SyncCounts(added=3)
    read.clear()
    assert follow(index, notes, encoder=encoder)[0] == SyncCounts(kept=3)
    assert read == []
    os.utime(notes / "a.md")  # touched, as `git checkout` does: the bytes tell
    assert follow(index, notes, encoder=encoder)[0] == SyncCounts(kept=3)
    assert read == []
    write(notes, b="two cats")
    assert follow(index, notes, encoder=encoder)[0] == SyncCounts(changed=1, kept=2)
    assert read == ["b.md"]


def test_same_size_and_time_are_not_trusted_while_they_are_young(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_records, "_RACE_NS", 2_000_000_000)
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, a="fresh bread")
    state = (notes / "a.md").stat()
    follow(index, notes, encoder=encoder)
    write(notes, a="stale bread")
    os.utime(notes / "a.md", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert follow(index, notes, encoder=encoder)[0].changed == 1


def test_gone_files_are_told_and_pruned_only_on_request(tmp_path: Path, encoder: Encoder) -> None:
    notes, other, index = tmp_path / "notes", tmp_path / "other", tmp_path / "index"
    notes.mkdir()
    other.mkdir()
    write(notes, a="fresh bread", b="a cat", c="rain")
    write(other, d="snow")
    follow(index, notes, other, encoder=encoder)
    Index.open(index, encoder).add(["added by hand"], ["hand"])
    (notes / "a.md").unlink()
    (other / "d.md").unlink()
    (notes / "b.md").rename(notes / "b2.md")
    counts, run = follow(index, notes, encoder=encoder)
    assert (counts.added, counts.reused, counts.kept) == (1, 1, 1)
    assert run.missing == [str(notes / "a.md"), str(notes / "b.md")]
    counts, run = follow(index, notes, encoder=encoder, prune=True)
    assert counts.removed == 2 and run.missing == []
    # Neither another folder's documents, though their file has gone, nor those of no file.
    assert sorted(texts(index, encoder)) == sorted(
        [str(notes / "b2.md"), str(notes / "c.md"), str(other / "d.md"), "hand"]
    )


def test_a_moved_folder_keeps_its_vectors_and_leaves_no_double(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, **{f"n{i}": f"note number {i}" for i in range(20)})
    follow(index, notes, encoder=encoder)
    notes.rename(tmp_path / "moved")
    monkeypatch.setattr(Encoder, "encode_documents", None)  # nothing may be encoded
    counts, run = follow(index, tmp_path / "moved", encoder=encoder)
    assert (counts.added, counts.reused, len(run.missing)) == (20, 20, 20)
    counts, _ = follow(index, tmp_path / "moved", encoder=encoder, prune=True)
    assert counts.removed == 20 and len(texts(index, encoder)) == 20


def test_rows_of_a_file_come_and_go_by_id_or_content(tmp_path: Path, encoder: Encoder) -> None:
    index, rows, more = tmp_path / "index", tmp_path / "rows.jsonl", tmp_path / "more.jsonl"

    def fill(path: Path, *given: Any) -> None:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in given))

    fill(rows, "one", "two", "one")
    fill(more, "one")
    assert follow(index, rows, more, encoder=encoder)[0].added == 4
    fill(rows, "one", "three")
    counts, run = follow(index, rows, more, encoder=encoder)
    assert (counts.added, counts.kept, len(run.missing)) == (1, 2, 2)
    fill(rows, "three", "four")  # the rows of the run before are still known as this file's
    assert follow(index, rows, more, encoder=encoder, prune=True)[0] == SyncCounts(added=1, kept=2, removed=3)
    assert sorted(text or "" for text in texts(index, encoder).values()) == ["four", "one", "three"]


def test_what_cannot_be_read_is_not_pruned(tmp_path: Path, encoder: Encoder) -> None:
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, a="fresh bread", b="a cat", c="rain")
    follow(index, notes, encoder=encoder)
    (notes / "a.md").write_bytes(b"\xff\xfe broken")
    write(notes, b="")  # emptied by its owner: that is known
    counts, run = follow(index, notes, encoder=encoder, prune=True)
    assert (counts.kept, counts.removed) == (1, 1) and len(run.skipped) == 2
    assert sorted(texts(index, encoder)) == [str(notes / "a.md"), str(notes / "c.md")]
    assert follow(index, notes, encoder=encoder, prune=True)[0].removed == 0


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"made": 1}', b"\xff", b'{"made":"x","files":{"a":{}}}', b"[" * 9999]
)
def test_damaged_records_mean_that_files_are_read(
    tmp_path: Path, encoder: Encoder, damage: bytes, read: list[str]
) -> None:
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, a="fresh bread")
    follow(index, notes, encoder=encoder)
    (index / "files.json").write_bytes(damage)
    read.clear()
    assert follow(index, notes, encoder=encoder)[0] == SyncCounts(kept=1)
    assert read == ["a.md"]


def test_records_of_another_index_are_not_believed(tmp_path: Path, encoder: Encoder) -> None:
    """A copied, restored or rolled back folder may hold records that are ahead of its documents."""
    notes, index, old = tmp_path / "notes", tmp_path / "index", tmp_path / "old"
    notes.mkdir()
    write(notes, a="fresh bread", b="a cat")
    follow(index, notes, encoder=encoder)
    shutil.copytree(index, old)
    write(notes, a="stale bread", c="rain")
    follow(index, notes, encoder=encoder)
    shutil.copy(index / "files.json", old / "files.json")
    assert follow(old, notes, encoder=encoder)[0] == SyncCounts(added=1, changed=1, kept=1)
    Index.open(old, encoder).delete([str(notes / "b.md")])
    assert follow(old, notes, encoder=encoder)[0] == SyncCounts(added=1, kept=2)


def test_a_dry_run_writes_nothing(tmp_path: Path, encoder: Encoder) -> None:
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, a="fresh bread")
    assert follow(index, notes, encoder=encoder, dry_run=True)[0] == SyncCounts(added=1)
    assert not index.exists()
    follow(index, notes, encoder=encoder)
    before = {path: path.read_bytes() for path in index.rglob("*") if path.is_file()}
    write(notes, b="a cat", a="stale")
    told: list[Any] = []
    counts, _ = follow(
        index, notes, encoder=encoder, dry_run=True, prune=True, on_change=lambda *each: told.append(each)
    )
    assert counts == SyncCounts(added=1, changed=1)
    assert told == [("changed", str(notes / "a.md")), ("added", str(notes / "b.md"))]
    assert {path: path.read_bytes() for path in index.rglob("*") if path.is_file()} == before


def test_thousands_of_unchanged_files_take_little(tmp_path: Path, encoder: Encoder) -> None:
    """CPU time, which other processes do not lengthen: 2 s for 10,000, here for 2,000 files a fifth."""
    notes, index = tmp_path / "notes", tmp_path / "index"
    notes.mkdir()
    write(notes, **{f"n{i}": f"{i}" for i in range(2000)})
    follow(index, notes, encoder=encoder)
    gc.collect()
    # Else what hundreds of tests have left is looked through, which takes longer than this. It stays set
    # aside, as does what tests/conftest.py sets aside.
    gc.freeze()
    began = time.process_time()
    assert follow(index, notes, encoder=encoder)[0] == SyncCounts(kept=2000)
    assert time.process_time() - began < 0.4


class Folder(RuleBasedStateMachine):
    """Random edits of a folder: after each run with prune the index holds what the folder does."""

    encoder: Encoder
    place: Path

    names = st.sampled_from(["a", "b", "c", "deep/d", "deep/e"])
    contents = st.sampled_from(["fresh bread", "a cat sleeps", "rain in Zürich", "x " * 200])

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(dir=self.place))
        (self.root / "notes" / "deep").mkdir(parents=True)
        (self.root / "notes" / "stays.md").write_text("stays")
        self.followed: dict[str, str] = {}

    def path(self, name: str) -> Path:
        return self.root / "notes" / f"{name}.md"

    @rule(name=names, text=contents)
    def edit(self, name: str, text: str) -> None:
        self.path(name).write_text(text)

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    @rule(name=names, other=names)
    def move(self, name: str, other: str) -> None:
        if self.path(name).exists():
            self.path(name).replace(self.path(other))

    @rule(name=names)
    def touch(self, name: str) -> None:
        if self.path(name).exists():
            os.utime(self.path(name))

    @rule()
    def run(self) -> None:
        follow(self.root / "index", self.root / "notes", encoder=self.encoder, prune=True)
        there = {str(path): path.read_text() for path in (self.root / "notes").rglob("*.md")}
        self.followed = there

    @invariant()
    def it_holds_what_there_was(self) -> None:
        if getattr(self, "followed", None):
            assert texts(self.root / "index", self.encoder) == self.followed


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_it_follows_any_edits(tmp_path: Path, encoder: Encoder) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Folder.encoder, Folder.place = encoder, tmp_path
    run_state_machine_as_test(
        Folder,
        settings=settings(
            max_examples=8, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
