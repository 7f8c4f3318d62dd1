"""`latebolt list` and `latebolt drop`: what they see, what they take away, and what they leave alone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.errors import IndexNotFound
from latebolt.index.store import removal
from latebolt.index.store.store import Store

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(each) for each in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def made(path: Path, encoder: Encoder | None) -> Path:
    with Index.create(path, encoder, dim=None if encoder else 8) as index:
        if encoder is not None:
            index.add(["fresh bread", "a cat"], ids=["bread", "cat"])
    return path


def test_list_says_what_is_under_a_folder(tmp_path: Path, encoder: Encoder, cli: Cli) -> None:
    made(tmp_path / "notes.index", encoder)
    made(tmp_path / "deep" / "er" / "vectors", None)
    made(tmp_path / ".trash" / "old", None)
    torn = made(tmp_path / "torn", None)
    (torn / "manifest.json").write_bytes((torn / "manifest.json").read_bytes()[:-20])
    newer = made(tmp_path / "newer", None) / "manifest.json"
    newer.write_bytes(newer.read_bytes().replace(b'"format_version": 1,', b'"format_version": 99,'))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text('{"name": "a web page"}')
    code, out, _ = cli("list", tmp_path, "--json")
    found = {Path(each["path"]).name: each for each in json.loads(out)}
    assert code == 0 and found.keys() == {"notes.index", "vectors", "torn", "newer"}
    notes = found["notes.index"]
    assert (notes["documents"], notes["model"], notes["dim"], notes["bits"]) == (2, "starter", 128, 2)
    assert notes["state"] == "ready" and notes["problem"] is None and notes["bytes"] > 1000
    assert found["vectors"]["model"] is None and found["vectors"]["documents"] == 0
    assert found["torn"]["state"] == "damaged" and "manifest.json" in found["torn"]["problem"]
    assert found["newer"]["state"] == "newer_format" and "newer" in found["newer"]["problem"]
    code, out, err = cli("list", tmp_path)
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["index", "documents", "size", "model", "state"]
    assert len(lines) == 5 and "starter int8, dim 128" in out and str(torn / "manifest.json") in err
    # Of a folder that is an index itself, that one.
    assert [each["path"] for each in json.loads(cli("list", torn, "--json")[1])] == [str(torn)]


def test_list_here_and_of_nothing(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("list", "--json") == (0, "[]\n", "")
    code, out, err = cli("list")
    assert (code, out) == (0, "") and "there is no index under it" in err
    made(tmp_path / "i", None)
    assert [each["path"] for each in json.loads(cli("list", "--json")[1])] == ["i"]
    code, out, err = cli("list", "gone")
    assert (code, out) == (1, "") and "gone: there is no such folder" in err


def test_drop_takes_an_index_away_whole(tmp_path: Path, encoder: Encoder, cli: Cli) -> None:
    path = made(tmp_path / "i", encoder)
    (tmp_path / "dog.txt").write_text("a dog\n")
    assert run(["index", str(path), str(tmp_path / "dog.txt")]) == 0  # with what sync keeps beside it
    assert (path / "files.json").exists()
    code, out, err = cli("drop", path, "--dry-run")
    assert code == 0 and "3 documents" in err and "would be deleted" in err and len(Index.open(path)) == 3
    code, out, err = cli("drop", path, "--yes")
    assert (code, out) == (0, "") and "3 documents" in err and "deleted" in err and not path.exists()
    assert cli("drop", path, "--yes")[0] == 1
    made(path, encoder)  # the name is free again
    code, out, _ = cli("drop", path, "-y", "--json")
    told = json.loads(out)
    assert code == 0 and told["dropped"] and told["documents"] == 2 and told["stays"] == []


def test_drop_asks_and_needs_somebody_to_ask(tmp_path: Path) -> None:
    path = made(tmp_path / "i", None)
    command = [sys.executable, "-m", "latebolt", "drop", str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2 and "Say --yes" in done.stderr and path.exists()
    for answer, gone in ((b"n\n", False), (b"\n", False), (b"y\n", True)):
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True)
        os.close(ours)
        os.close(theirs)
        assert done.returncode == 0 and "Delete it for good?" in done.stderr
        assert path.exists() is not gone and ("nothing was deleted" in done.stderr) is not gone


def test_drop_refuses_what_is_no_index(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for name, code in (("site", 2), ("empty", 1), ("file", 1), ("gone", 1)):
        assert cli("drop", tmp_path / name, "--yes")[:2] == (code, "")
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["empty", "file", "manifest.json", "site"]


def test_drop_leaves_what_is_not_the_indexs(tmp_path: Path, encoder: Encoder, cli: Cli) -> None:
    path = made(tmp_path / "i", encoder)
    (path / "notes.md").write_text("mine")
    (path / "segments" / "mine.txt").write_text("mine")
    code, _, err = cli("drop", path, "--yes")
    assert code == 0 and "the folder stays" in err and "notes.md, segments" in err
    left = {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()}
    assert left == {"notes.md", "segments/mine.txt"}


def test_drop_of_a_damaged_index_and_of_a_link(tmp_path: Path, encoder: Encoder, cli: Cli) -> None:
    path = made(tmp_path / "i", encoder)
    content = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(content.replace(b'"bits": 2', b'"bits": 3'))
    assert cli("info", path)[0] == 1
    code, _, err = cli("drop", path, "--yes")
    assert code == 0 and "damaged; deleted" in err and not path.exists()
    made(path, encoder)
    (tmp_path / "link").symlink_to(path)
    assert cli("drop", tmp_path / "link", "--yes")[0] == 0
    assert not any(path.iterdir())
    with pytest.raises(IndexNotFound):
        Index.open(path)


def test_drop_does_not_take_an_index_from_its_writer(tmp_path: Path, cli: Cli, in_child) -> None:
    path = made(tmp_path / "i", None)
    with Store.open(path).writer():
        assert in_child(lambda: cli("drop", path, "--yes")[0] == 1)
    assert Index.open(path) is not None


def test_a_drop_that_is_cut_short_leaves_no_half_index(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "i", encoder)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "remove_unnamed", stop)
    with pytest.raises(KeyboardInterrupt):
        removal.remove_index(path)
    with pytest.raises(IndexNotFound):
        Index.open(path)
    assert (path / "segments").exists()
    made(path, encoder)  # what is left is in nobody's way
    assert len(Index.open(path)) == 2
