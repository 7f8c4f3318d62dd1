"""Folders that are followed: what counts as a change, when a burst has ended, the command on real files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latebolt import Encoder, Index
from latebolt.errors import IndexCorrupt, IndexLocked, InvalidInput, StorageFull
from latebolt.index.format.lock import writer_lock
from latebolt.sync import watch
from latebolt.sync.watch import Burst, Done, FolderWatcher, Follower, Interest, follow

DEADLINE = 120.0  # of a machine that others keep busy


def until(
    condition: Callable[[], Any], seconds: float = DEADLINE, what: Callable[[], Any] = lambda: ""
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


# What matters


@pytest.mark.parametrize(
    ("path", "what", "expected"),
    [
        ("/n/a.md", "file", True),
        ("/n/a.md", "gone", True),
        ("/n/deep/er/a.jsonl.gz", "file", True),
        ("/n/deep", "folder", True),
        ("/n/old", "gone", True),  # files were found in it
        ("/n/4913", "gone", False),  # as vim tries whether it may write
        ("/n/a.md~", "file", False),
        ("/n/a.md.tmp", "gone", False),
        ("/n/photo.jpeg", "file", False),
        ("/n/.a.md.swp", "file", False),
        ("/n/.a.md", "file", False),
        ("/n/.git/a.md", "file", False),
        ("/n/.git", "folder", False),
        ("/n/.gitignore", "file", True),
        ("/n/deep/.gitignore", "gone", True),
        ("/n/.git/.gitignore", "file", False),
        ("/n/build/a.md", "file", False),  # left out
        ("/n/i", "folder", False),  # the index
        ("/n/i/a.md", "file", False),
        ("/n/i2/a.md", "file", True),
        ("/n", "folder", False),  # that it comes and goes is looked at
        ("/nn/a.md", "file", False),
        ("/elsewhere/a.md", "file", False),
        ("/.hidden/a.md", "file", True),  # was named
        ("/.hidden/.more/a.md", "file", False),
    ],
)
def test_which_changes_matter(path: str, what: Any, expected: bool) -> None:
    def left_out(root: str, path: str, is_folder: bool) -> bool:
        return path.startswith("/n/build/")

    interest = Interest(["/.hidden", "/n"], ["/n/i"], {"/n/old"}, left_out)
    assert interest.matters(path, what) is expected


def test_gitignore_files_decide_as_in_a_run(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    (tmp_path / ".gitignore").write_text("build/\n*.log.md\n")
    (deep / ".gitignore").write_text("!kept.log.md\n")
    interest = Interest([str(tmp_path)], [], (), watch._left_out)
    found = {
        name: interest.matters(str(tmp_path / name), "file")
        for name in ("build/a.md", "a.md", "x.log.md", "deep/x.log.md", "deep/kept.log.md", "deep/build/a.md")
    }
    assert [name for name, matters in found.items() if matters] == ["a.md", "deep/kept.log.md"]
    assert not interest.matters(str(tmp_path / "build"), "folder")


def test_what_lies_at_a_path(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert [watch.what_is(str(tmp_path / name)) for name in (".", "a", "dangling", "b")] == [
        *("folder", "file", "file", "gone")
    ]


# When


def test_a_burst_ends_with_quiet_or_when_it_lasts_too_long() -> None:
    burst = Burst(quiet=2, longest=5)
    assert not burst.due(100)
    burst.met(10)
    assert not burst.due(11.9) and burst.due(12)
    burst.met(11)
    assert not burst.due(12.9) and burst.due(13)
    for now in (12, 13, 14, 14.9):
        burst.met(now)
        assert not burst.due(now)
    assert burst.due(15)
    burst.taken()
    assert not burst.due(100)


class Script:
    """A watcher, a clock and runs: at each second of `changes` something changes; a run takes some."""

    def __init__(
        self, changes: set[int], last: int, takes: int = 0, pauses: tuple[float | None, ...] = ()
    ) -> None:
        self.now, self._changes, self._last, self._takes = 0, changes, last, takes
        self._pauses, self._looked, self.runs = list(pauses), 0, []

    def changed(self) -> bool:
        self.now += 1
        met = any(each in self._changes for each in range(self._looked, self.now))
        self._looked = self.now
        return met

    def run(self) -> float | None:
        self.runs.append(self.now)
        self.now += self._takes
        return self._pauses.pop(0) if self._pauses else None

    def follow(self) -> list[int]:
        follow(self, self.run, Burst(3, 30), lambda: self.now >= self._last, lambda: self.now)
        return self.runs


def test_one_run_a_burst() -> None:
    assert Script(set(), 100).follow() == [1]  # the first one is not waited for
    assert Script({10, 11, 13, 15, 40}, 100).follow() == [1, 19, 44]
    assert Script(set(range(10, 90)), 100).follow() == [1, 41, 72, 93]  # one that does not end


def test_what_changes_during_a_run_is_the_next_burst() -> None:
    assert Script({3, 10, 12}, 100, takes=20).follow() == [1, 25]
    assert Script({40}, 100, takes=20).follow() == [1, 44]


def test_a_run_that_could_not_be_is_tried_again_unasked() -> None:
    assert Script(set(), 100, pauses=(10, 20)).follow() == [1, 11, 31]
    assert Script({5}, 100, pauses=(60,)).follow() == [1, 9]


# One run after the other, on an index


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def follower(tmp_path: Path, encoder: Encoder, told: list[Any]) -> Follower:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("fresh bread")
    index = Index.create(tmp_path / "index", encoder, 16, passage_tokens=60, with_first_add=True)
    names = [str(tmp_path / "notes")]
    return Follower(index, names, True, "x", True, False, told.append, told.append)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> pytest.MonkeyPatch:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Index, "sync", fail)
    return monkeypatch


def test_a_full_disk_is_told_and_tried_again(follower: Follower, told: list[Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, StorageFull("x: the disk is full."))
        assert follower.run() == watch._FULL  # with the first run, too
    [message] = told
    assert "the disk is full" in message and "Tried again" in message and not (tmp_path / "index").exists()
    assert follower.run() is None and told[1].counts.added == 1


def test_a_lock_is_told_once_and_asked_for_before_files_are(
    follower: Follower, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.run()
    told.clear()

    def locked(*_: Any) -> None:
        raise IndexLocked("x: another writer is changing this index.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "writer_lock", locked)
        patch.setattr(watch, "sources_of", None)
        assert [follower.run() for _ in range(3)] == [watch._LOCKED] * 3
    assert len(told) == 1 and "another writer" in told[0]
    assert follower.run() is None and told.pop().counts.kept == 1
    failing(monkeypatch, IndexLocked("x: another writer is changing this index."))  # it was quicker
    assert follower.run() == watch._LOCKED and len(told) == 2


def test_what_stops_one_run_does_not_stop_the_next(
    follower: Follower, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, InvalidInput("x: rows[3] has the id of rows[1]."))
        with pytest.raises(InvalidInput):  # nobody would see the message of a service's first run
            follower.run()
    follower.run()
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, InvalidInput("x: rows[3] has the id of rows[1]."))
        assert follower.run() is None and "rows[3]" in told[-1]
    assert follower.run() is None and told[-1].counts.kept == 1
    failing(monkeypatch, IndexCorrupt("x", "existence", "a file", "nothing", "Restore it."))
    with pytest.raises(IndexCorrupt):
        follower.run()


def test_a_folder_that_is_missing_or_emptied_loses_nothing(
    follower: Follower, told: list[Any], tmp_path: Path
) -> None:
    notes, other = tmp_path / "notes", tmp_path / "other"
    other.mkdir()
    (other / "b.md").write_text("a cat")
    (other / "c.md").write_text("a dog")
    follower.names = [str(notes), str(other)]
    follower.run()
    (notes / "a.md").unlink()
    (other / "c.md").unlink()
    told.clear()
    follower.run()
    follower.run()
    assert "has no" in told[0] and "documents stay" in told[0]  # once
    assert [each.counts.removed for each in told[1:]] == [1, 0]
    assert len(follower.index) == 2
    other.rename(tmp_path / "away")
    told.clear()
    assert follower.run() is None and len(follower.index) == 2  # nothing is there to be followed
    assert len(told) == 1 and "no such file" in told[0]
    (tmp_path / "away").rename(other)
    follower.run()
    assert told[1].counts.kept == 1 and len(told) == 2


def test_files_that_cannot_be_read_are_told_once(
    follower: Follower, told: list[Done], tmp_path: Path
) -> None:
    broken = tmp_path / "notes" / "b.md"
    broken.write_bytes(b"\xff")
    for _ in range(2):
        follower.run()
    broken.write_text("mended")
    follower.run()
    broken.write_bytes(b"\xff")
    follower.run()
    assert [(len(done.skipped), len(done.told)) for done in told] == [(1, 1), (1, 0), (0, 0), (1, 1)]
    assert told[-1].counts.removed == 0 and len(follower.index) == 2


# What the system tells


def watcher(tmp_path: Path, *names: str, said: list[str], quiet: float = 0.04) -> FolderWatcher:
    given = [str(tmp_path / name) for name in names]
    return FolderWatcher(given, tmp_path / "index", False, lambda: (), quiet, said.append)


def test_a_system_that_refuses_to_watch_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import watchfiles

    said: list[str] = []
    plain, asked = watchfiles.watch, []

    def limited(*paths: str, **more: Any) -> Iterator[Any]:
        asked.append(more["force_polling"])
        if not more["force_polling"]:
            raise OSError("OS file watch limit reached.")
        yield from plain(*paths, **{**more, "poll_delay_ms": 20})

    monkeypatch.setattr(watchfiles, "watch", limited)
    watched = watcher(tmp_path, ".", said=said)
    watched.changed()
    assert asked == [None, True] and len(said) == 1 and "limit reached" in said[0]
    (tmp_path / "a.md").write_text("fresh bread")
    until(watched.changed)
    watched.close()


def test_a_folder_in_the_place_of_another_is_watched_anew(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    watched = watcher(tmp_path, "notes", said=[])
    watched.changed()  # not there yet
    assert not watched.changed()
    for _ in range(3):
        notes.mkdir()
        until(watched.changed)
        until(lambda: not watched.changed())
        (notes / "a.md").write_text("fresh bread")
        until(watched.changed)
        until(lambda: not watched.changed())
        shutil.rmtree(notes)
        until(watched.changed)
        until(lambda: not watched.changed())
    watched.close()


def test_one_that_looks_like_the_one_before_is_watched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was removed and made again between two looks may have the number of the one before."""
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setattr(watch, "state_of", lambda name: (1, 1))
    watched = watcher(tmp_path, "notes", said=[])
    watched.changed()
    shutil.rmtree(notes)
    notes.mkdir()
    until(watched.changed)
    until(lambda: not watched.changed())
    (notes / "a.md").write_text("fresh bread")
    until(watched.changed)
    watched.close()


def test_a_file_that_is_named_is_followed_through_renames(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    watched = watcher(tmp_path, "rows.jsonl", said=[])
    watched.changed()
    assert not watched.changed()
    for text in ("b", "ab"):
        (tmp_path / "new").write_text(f'{{"text": "{text}"}}\n')
        (tmp_path / "new").replace(rows)
        until(watched.changed)
        assert not watched.changed()


# The command


class Watching:
    """`latebolt watch` in a process of its own, and the index that it keeps."""

    def __init__(self, folder: Path, *arguments: str, index: str = "index") -> None:
        self.folder, self.lines, self.notes = folder, [], []
        command = [sys.executable, "-m", "latebolt", "watch", index, *arguments]
        command += ["--debounce", "0.1", "--threads", "1", "--json"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self._index, self._opened = folder / index, None
        for stream, into in ((self.process.stdout, self.lines), (self.process.stderr, self.notes)):
            threading.Thread(target=self._read, args=(stream, into), daemon=True).start()

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        into.extend(line for line in iter(stream.readline, ""))

    @property
    def index(self) -> Index:
        self._opened = self._opened or Index.open(self._index)
        return self._opened

    def holds(self, below: str = "") -> dict[str, str | None]:
        """Texts by id, of what begins so."""
        if not (self._index / "manifest.json").exists():
            return {}
        return {each.id: each.text for each in self.index.documents() if each.id.startswith(below)}

    def becomes(self, expected: dict[str, str], below: str = "") -> None:
        until(lambda: self.ended or self.holds(below) == expected, what=lambda: self.state(below))
        assert not self.ended, self.state(below)
        generation = self.index.info()["generation"]  # which it says of a run once that is on disk
        until(lambda: any(run["generation"] >= generation for run in self.runs()), what=self.state)

    def state(self, below: str = "") -> str:
        return f"{self.holds(below)}\n{''.join(self.lines)}\n{''.join(self.notes)}"

    def says(self, *words: str) -> None:
        until(
            lambda: any(all(word in note for word in words) for note in list(self.notes)),
            what=lambda: "".join(self.notes),
        )

    def runs(self, since: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines[since:]]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def begin(*arguments: str, index: str = "index") -> Watching:
        started.append(Watching(tmp_path, *arguments, index=index))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """One that many tests share, each with a folder of its own in the one watched. The index lies there."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "notes").mkdir()
    (folder / "notes" / "begun.md").write_text("begun")
    running = Watching(folder, "notes", index="notes/my.index")
    running.becomes({"notes/begun.md": "begun"})
    yield running
    assert running.end() == 0, running.state()
    running.says("no longer kept in line")


@pytest.fixture
def place(shared: Watching, request: pytest.FixtureRequest) -> Path:
    """A folder below the watched one, named for the test."""
    made = shared.folder / "notes" / request.node.name.replace("[", "-").replace("]", "")
    made.mkdir()
    return made


def names(place: Path, **files: str) -> dict[str, str]:
    return {f"notes/{place.name}/{name}.md": text for name, text in files.items()}


def test_files_come_change_and_go(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    (place / "a.md").write_text("fresh bread")
    (place / "b.md").write_text("a cat")
    shared.becomes(names(place, a="fresh bread", b="a cat"), below)
    (place / "a.md").write_text("stale bread")
    (place / "b.md").unlink()
    shared.becomes(names(place, a="stale bread"), below)


def save_over(path: Path, text: str) -> None:
    """Most programs that save safely."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def save_as_vim(path: Path, text: str) -> None:
    """The old one becomes the backup, which goes in the end; a file 4913 shows whether it may write."""
    path.with_name("4913").touch()
    path.with_name("4913").unlink()
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)
    path.with_name(path.name + "~").unlink()


def save_as_office(path: Path, text: str) -> None:
    """Written beside it, the old one put away, the new one put in its place."""
    path.with_suffix(".tmp").write_text(text)
    path.rename(path.with_suffix(".bak"))
    path.with_suffix(".tmp").rename(path)
    path.with_suffix(".bak").unlink()


@pytest.mark.parametrize("save", [save_over, save_as_vim, save_as_office])
def test_editors_that_rename_when_they_save(
    shared: Watching, place: Path, save: Callable[[Path, str], None]
) -> None:
    below = f"notes/{place.name}/"
    (place / "a.md").write_text("0")
    shared.becomes(names(place, a="0"), below)
    for text in ("one", "two"):
        save(place / "a.md", text)
        shared.becomes(names(place, a=text), below)


def test_moves_keep_vectors(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    (place / "deep").mkdir()
    for name in "abc":
        (place / "deep" / f"{name}.md").write_text(f"moving {name}")
    texts = {f"{name}.md": f"moving {name}" for name in "abc"}
    shared.becomes({f"{below}deep/{name}": text for name, text in texts.items()}, below)
    since = len(shared.lines)
    (place / "deep").rename(place / "deeper")
    shared.becomes({f"{below}deeper/{name}": text for name, text in texts.items()}, below)
    (place / "deeper" / "a.md").rename(place / "z.md")
    moved = {f"{below}z.md": "moving a", f"{below}deeper/b.md": "moving b", f"{below}deeper/c.md": "moving c"}
    shared.becomes(moved, below)
    until(lambda: sum(run["added"] for run in shared.runs(since)) == 4)
    assert sum(run["reused"] for run in shared.runs(since)) == 4
    (place / "deeper").rename(shared.folder / "elsewhere")  # out of what is watched
    shared.becomes({f"{below}z.md": "moving a"}, below)
    (shared.folder / "elsewhere").rename(place / "back")
    shared.becomes(
        {f"{below}z.md": "moving a", f"{below}back/b.md": "moving b", f"{below}back/c.md": "moving c"}, below
    )


def test_new_folders_are_followed_as_deep_as_they_go(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    deep = place / "one" / "two" / "three"
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("deep")
    shared.becomes({f"{below}one/two/three/a.md": "deep"}, below)
    (deep / "a.md").write_text("deeper")
    shared.becomes({f"{below}one/two/three/a.md": "deeper"}, below)
    shutil.rmtree(place / "one")
    shared.becomes({}, below)


def test_thousands_at_once_are_one_commit_and_searches_go_on(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    (place / "first.md").write_text("the same")
    shared.becomes({f"{below}first.md": "the same"}, below)
    outside = shared.folder / "many"
    outside.mkdir()
    for number in range(2000):
        (outside / f"{number}.md").write_text("the same")
    since = len(shared.lines)
    outside.rename(place / "many")

    def there() -> bool:
        assert shared.index.search("same", k=1, mode="bm25")
        return any(run["added"] for run in shared.runs(since))

    until(there, what=shared.state)
    assert [run["added"] for run in shared.runs(since) if run["added"]] == [2000]
    assert len(shared.holds(below)) == 2001
    shutil.rmtree(place)
    shared.becomes({}, below)


def test_a_file_that_cannot_be_read_keeps_what_it_was(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    (place / "a.md").write_text("readable")
    shared.becomes(names(place, a="readable"), below)
    (place / "a.md").write_bytes(b"\xff broken")
    shared.says(f"{below}a.md is not UTF-8")
    (place / "b.md").write_text("another")
    shared.becomes(names(place, a="readable", b="another"), below)
    (place / "a.md").write_text("mended")
    shared.becomes(names(place, a="mended", b="another"), below)


def test_hidden_and_ignored_files_are_not_followed(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    (place / "a.md").write_text("seen")
    (place / "b.md").write_text("left out later")
    (place / ".hidden.md").write_text("hidden")
    shared.becomes(names(place, a="seen", b="left out later"), below)
    (place / ".gitignore").write_text("b.md\n")
    shared.becomes(names(place, a="seen"), below)
    (place / "b.md").write_text("not seen")
    (place / "c.md").write_text("seen, too")
    shared.becomes(names(place, a="seen", c="seen, too"), below)
    (place / ".gitignore").unlink()
    shared.becomes(names(place, a="seen", b="not seen", c="seen, too"), below)


def test_another_writer_is_waited_for_and_told_once(shared: Watching, place: Path) -> None:
    below = f"notes/{place.name}/"
    since = len(shared.notes)
    with writer_lock(shared.folder / "notes" / "my.index", DEADLINE):
        (place / "a.md").write_text("patient")
        until(lambda: len(shared.notes) > since)
    shared.becomes(names(place, a="patient"), below)
    told = shared.notes[since:]
    assert len(told) == 1 and f"another writer (process {os.getpid()})" in told[0]


def test_its_own_writes_are_no_changes(shared: Watching, place: Path) -> None:
    """The index lies in the folder that is watched: otherwise each run would ask for one more."""
    expected: dict[str, str] = {}
    runs: list[int] = []

    def come_to_rest() -> None:
        seen = [len(shared.lines), time.monotonic()]

        def rests() -> bool:
            if len(shared.lines) != seen[0]:
                seen[:] = len(shared.lines), time.monotonic()
            return time.monotonic() - seen[1] > 1

        until(rests)

    come_to_rest()
    # A machine that stops to think may make two bursts of one change, but not each time.
    while 1 not in runs and len(runs) < 4:
        (shared.folder / "outside.md").write_text("quiet")
        since = len(shared.lines)
        (shared.folder / "outside.md").rename(place / f"n{len(runs)}.md")
        expected |= names(place, **{f"n{len(runs)}": "quiet"})
        shared.becomes(expected, f"notes/{place.name}/")
        come_to_rest()
        runs.append(len(shared.lines) - since)
    assert 1 in runs


def test_a_folder_that_disappears_keeps_its_documents(start: Callable[..., Watching], tmp_path: Path) -> None:
    for name, text in (("notes", "fresh bread"), ("other", "a cat")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text(text)
    running = start("notes", "other")
    running.becomes({"notes/a.md": "fresh bread", "other/a.md": "a cat"})
    (tmp_path / "notes").rename(tmp_path / "away")
    running.says("notes", "its documents stay".capitalize())
    (tmp_path / "other" / "a.md").write_text("two cats")
    running.becomes({"notes/a.md": "fresh bread", "other/a.md": "two cats"})
    (tmp_path / "away" / "a.md").write_text("stale bread")
    (tmp_path / "away").rename(tmp_path / "notes")
    running.becomes({"notes/a.md": "stale bread", "other/a.md": "two cats"})
    (tmp_path / "notes" / "b.md").write_text("rain")
    running.becomes({"notes/a.md": "stale bread", "notes/b.md": "rain", "other/a.md": "two cats"})
    for name in "ab":
        (tmp_path / "notes" / f"{name}.md").unlink()
    running.says("notes", "has no")
    (tmp_path / "other" / "a.md").unlink()
    (tmp_path / "other" / "c.md").write_text("a dog")
    running.becomes({"notes/a.md": "stale bread", "notes/b.md": "rain", "other/c.md": "a dog"})
    assert running.end(signal.SIGINT) == 130 and "Traceback" not in running.state()


def test_an_empty_folder_is_waited_for_and_nothing_forgotten_with_no_prune(
    start: Callable[..., Watching], tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    running = start("notes", "--no-prune")
    running.says("has no")
    assert not (tmp_path / "index").exists()
    (tmp_path / "notes" / "a.md").write_text("fresh bread")
    running.becomes({"notes/a.md": "fresh bread"})
    (tmp_path / "notes" / "a.md").rename(tmp_path / "notes" / "b.md")
    running.becomes({"notes/a.md": "fresh bread", "notes/b.md": "fresh bread"})
    until(lambda: running.runs()[-1]["missing"] == 1)
    assert running.end() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_in_the_middle_of_a_run(
    start: Callable[..., Watching], tmp_path: Path, number: int, code: int
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("fresh bread")
    running = start("notes")
    running.becomes({"notes/a.md": "fresh bread"})
    (tmp_path / "big.md").write_text("\n\n".join("some words to encode " * 40 for _ in range(20_000)))
    (tmp_path / "big.md").rename(tmp_path / "notes" / "big.md")

    def writes() -> bool:
        try:
            with writer_lock(tmp_path / "index"):
                return False
        except IndexLocked:
            return True

    until(writes, what=running.state)
    began = time.monotonic()
    assert running.end(number) == code, running.state()
    assert time.monotonic() - began < 30  # seconds of a busy machine; to encode all of it takes minutes
    until(lambda: any("holds its last commit" in note for note in running.notes), what=running.state)
    assert "Traceback" not in running.state()
    with writer_lock(tmp_path / "index"):
        assert running.holds() == {"notes/a.md": "fresh bread"}


def command(*arguments: str, cwd: Path, code: str = "pass") -> subprocess.CompletedProcess[str]:
    script = f"import sys; {code}; from latebolt.cli import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE
    )


def test_slips_are_told_at_once(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "notes").mkdir()
    Index.create(tmp_path / "made", encoder)
    for arguments, message in (
        (("index", "-"), "standard input cannot be watched"),
        (("notes", "made"), "Did you mean latebolt watch made notes?"),
        (("index", "notes", "--debounce", "0"), "--debounce"),
    ):
        done = command("watch", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    done = command("watch", "index", "gone", cwd=tmp_path)
    assert done.returncode == 1 and "gone: there is no such file or folder" in done.stderr, done.stderr
    assert not (tmp_path / "index").exists()
    done = command("watch", "i", "notes", cwd=tmp_path, code="sys.modules['watchfiles'] = None")
    assert done.returncode == 1 and "pip install 'latebolt[watch]'" in done.stderr
