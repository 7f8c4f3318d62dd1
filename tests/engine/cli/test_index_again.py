"""`latebolt index` run again: what it says and how it ends when files are as they were, changed or gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.index.format.lock import writer_lock
from latebolt.sync import folder_sync

FIELDS = {"added", "changed", "kept", "removed", "missing", "reused", "skipped", "seconds", "documents"}


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.out)

    def counts(self, *names: str) -> list[int]:
        return [self.record[name] for name in names]


@pytest.fixture
def latebolt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """The command, in this process and a folder with three notes."""
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    for name, text in (("a", "fresh bread"), ("b", "a cat"), ("c", "rain")):
        Path("notes", f"{name}.md").write_text(text)

    def call(*arguments: str) -> Said:
        capfd.readouterr()
        code = run([*arguments])
        return Said(code, *capfd.readouterr())

    return call


def texts(index: str = "i") -> dict[str, str | None]:
    return {each.id: each.text for each in Index.open(index).documents()}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_run_says_what_it_did(latebolt: Callable[..., Said]) -> None:
    def line() -> str:
        said = latebolt("index", "i", "notes")
        assert said.code == 0 and said.out == ""
        first, *rest = said.err.splitlines()
        assert first.startswith("i: ") and "documents, " in first and first.endswith("on disk")
        return "\n".join([first.removeprefix("i: ").partition(" in ")[0], *rest])

    assert line() == "3 added"
    assert line() == "3 unchanged"
    Path("notes", "a.md").write_text("stale bread")
    assert line() == "1 changed, 2 unchanged"
    Path("notes", "b.md").rename("notes/b2.md")
    Path("notes", "c.md").unlink()
    told = line().splitlines()
    assert told[0] == "1 added, 1 unchanged, 2 no longer there"
    assert told[1:] == [
        "notes/b.md, notes/c.md are no longer there; a search still finds them. Forget them with --prune."
    ]
    assert len(texts()) == 4
    said = latebolt("index", "i", "notes", "--prune")
    assert said.code == 0 and "2 unchanged, 2 removed" in said.err and "--prune" not in said.err
    assert texts() == {"notes/a.md": "stale bread", "notes/b2.md": "a cat"}
    Path("notes", "a.md").unlink()
    assert "notes/a.md is no longer there; a search still finds it." in line()


def test_many_that_are_gone_are_counted(latebolt: Callable[..., Said]) -> None:
    for number in range(7):
        Path("notes", f"x{number}.md").write_text("the same")
    latebolt("index", "i", "notes")
    for number in range(7):
        Path("notes", f"x{number}.md").unlink()
    assert "notes/x4.md and 2 more are no longer there" in latebolt("index", "i", "notes").err


def test_an_emptied_folder_is_refused_with_prune_too(latebolt: Callable[..., Said]) -> None:
    latebolt("index", "i", "notes")
    for path in Path("notes").iterdir():
        path.unlink()
    for more in ((), ("--prune",)):
        said = latebolt("index", "i", "notes", *more)
        assert said.code == 2 and "notes: has no" in said.err
    assert len(texts()) == 3


def test_json_has_every_count(latebolt: Callable[..., Said]) -> None:
    record = latebolt("index", "i", "notes", "--json").record
    assert record.keys() >= FIELDS and "changes" not in record
    counted = ("added", "changed", "kept", "removed", "missing", "reused")
    assert [record[name] for name in counted] == [3, 0, 0, 0, 0, 0]
    Path("notes", "a.md").write_text("stale bread")
    Path("notes", "b.md").rename("notes/b2.md")
    Path("notes", "d.md").write_bytes(b"\xff")
    said = latebolt("index", "i", "notes", "--json")
    assert said.counts(*counted) == [1, 1, 1, 0, 1, 1]
    assert [each["file"] for each in said.record["skipped"]] == ["notes/d.md"] and "d.md" in said.err
    said = latebolt("index", "i", "notes", "--json", "--prune", "--strict")
    assert said.code == 1 and said.counts(*counted) == [0, 0, 3, 1, 0, 0]


def test_a_dry_run_lists_and_writes_nothing(latebolt: Callable[..., Said]) -> None:
    said = latebolt("index", "i", "notes", "--dry-run")
    assert said.code == 0 and said.out.split() == [
        "added",
        "notes/a.md",
        "added",
        "notes/b.md",
        "added",
        "notes/c.md",
    ]
    assert "i: would be 3 added" in said.err and not Path("i").exists()
    latebolt("index", "i", "notes")
    Path("notes", "a.md").write_text("stale bread")
    Path("notes", "b.md").unlink()
    Path("notes", "d.md").write_text("snow")
    before = content(Path("i"))
    said = latebolt("index", "i", "notes", "--dry-run", "--prune")
    assert said.out.splitlines() == ["changed  notes/a.md", "added    notes/d.md", "removed  notes/b.md"]
    assert "would be 1 added, 1 changed, 1 unchanged, 1 removed" in said.err
    said = latebolt("index", "i", "notes", "--dry-run", "--json")
    assert said.record["changes"] == [
        {"action": "changed", "id": "notes/a.md"},
        {"action": "added", "id": "notes/d.md"},
    ]
    assert said.counts("added", "changed", "missing", "documents") == [1, 1, 1, 3]
    assert content(Path("i")) == before


def test_again_reads_what_looks_as_it_was(latebolt: Callable[..., Said]) -> None:
    path = Path("notes", "a.md")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    latebolt("index", "i", "notes")
    path.write_text("stale bread")  # as long as before, and as old by its time
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert latebolt("index", "i", "notes", "--json").counts("changed", "kept") == [0, 3]
    assert latebolt("index", "i", "notes", "--json", "--again").counts("changed", "kept") == [1, 2]
    assert texts()["notes/a.md"] == "stale bread"


def test_rows_are_known_by_id_or_content(latebolt: Callable[..., Said]) -> None:
    rows = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("more.jsonl").write_text('{"text": "three"}\n{"text": "four"}\n')
    files = ("rows.jsonl", "more.jsonl")
    assert latebolt("index", "i", *files, "--json").counts("added") == [4]
    assert latebolt("index", "i", *files, "--json").counts("added", "kept") == [0, 4]
    Path("rows.jsonl").write_text('{"id": "a", "text": "one", "year": 2020}')
    Path("more.jsonl").write_text('{"text": "four"}\n{"text": "five"}\n')
    said = latebolt("index", "i", *files, "--json", "--prune")
    assert said.counts("added", "changed", "kept", "removed", "reused") == [1, 1, 1, 2, 1]
    assert sorted(text or "" for text in texts().values()) == ["five", "four", "one"]


def test_an_index_that_does_not_cut_keeps_its_way(latebolt: Callable[..., Said], encoder: Encoder) -> None:
    """One of before texts were cut: a file is some documents of a few paragraphs each."""
    Index.create("old", encoder)
    long = "\n\n".join(f"paragraph {number} " + "of words " * 60 for number in range(4))
    Path("notes", "a.md").write_text(long)
    assert latebolt("index", "old", "notes", "--json").counts("added") == [6]
    assert {"notes/a.md#0", "notes/a.md#3", "notes/b.md"} <= texts("old").keys()
    assert latebolt("index", "old", "notes", "--json").counts("added", "kept") == [0, 6]
    Path("notes", "a.md").write_text(long.replace("paragraph 2", "chapter 2"))
    assert latebolt("index", "old", "notes", "--json").counts("changed", "kept") == [1, 5]
    said = latebolt("index", "old", "notes", "--json", "--whole", "--prune")
    assert said.counts("added", "changed", "removed", "reused") == [1, 2, 4, 2]
    assert len(texts("old")) == 3  # whose metadata name no line any more


@pytest.mark.parametrize(
    "options", [("--bits", "4"), ("--passage-tokens", "99"), ("--passage-overlap", "9"), ("--whole",)]
)
def test_what_fits_only_a_new_index(latebolt: Callable[..., Said], encoder: Encoder, options: Any) -> None:
    Index.create("i", encoder, passage_tokens=60)
    said = latebolt("index", "i", "notes", *options)
    assert said.code == 2 and f"{options[0]}" in said.err and "only a new index" in said.err
    assert texts() == {}


def test_ctrl_c_says_what_is_true_of_a_run_that_has_committed(
    latebolt: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Index._commit

    def interrupted(writer: Any) -> None:
        plain(writer)
        raise KeyboardInterrupt

    latebolt("index", "i", "notes", "--passage-tokens", "20")
    Path("notes", "d.md").write_text("snow")
    monkeypatch.setattr(folder_sync, "COMMIT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Index, "_commit", staticmethod(interrupted))
        said = latebolt("index", "i", "notes")
    assert said.code == 130 and said.out == ""
    assert said.err.strip().startswith(
        "latebolt: interrupted. Nothing is half done: indexes hold their last commit,"
    )
    assert texts()["notes/d.md"] == "snow"  # so that nothing is as it was before
    Path("notes", "e.md").write_text("fog")
    assert latebolt("index", "i", "notes", "--json").counts("added", "kept") == [1, 4]


# In processes of their own


def started(*arguments: str, stdin: str = "", cwd: Path) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "latebolt", *arguments], capture_output=True, text=True, input=stdin, cwd=cwd
    )
    return Said(done.returncode, done.stdout, done.stderr)


def test_lines_of_stdin_are_new_each_time_and_rows_are_not(tmp_path: Path) -> None:
    for number in range(2):
        said = started("index", "lines", "-", "--json", stdin="one\ntwo\n", cwd=tmp_path)
        assert said.code == 0 and said.counts("added", "documents") == [2, 2 * number + 2]
    assert texts(str(tmp_path / "lines")) == {"0": "one", "1": "two", "2": "one", "3": "two"}
    rows = '{"text": "one", "year": 1}\n{"text": "two"}\n'
    for expected in ([2, 0], [0, 2]):
        said = started("index", "rows", "-", "--json", stdin=rows, cwd=tmp_path)
        assert said.code == 0 and said.counts("added", "kept") == expected


def test_another_writer_is_named(tmp_path: Path, encoder: Encoder) -> None:
    Index.create(tmp_path / "i", encoder)
    (tmp_path / "a.md").write_text("fresh bread")
    with writer_lock(tmp_path / "i"):
        said = started("index", "i", "a.md", cwd=tmp_path)
        assert (
            said.code == 1
            and f"another writer (process {os.getpid()})" in said.err
            and "Traceback" not in said.err
        )
        said = started("index", "i", "a.md", "--dry-run", cwd=tmp_path)  # which does not write
        assert said.code == 0 and "would be 1 added" in said.err
    assert len(Index.open(tmp_path / "i")) == 0
