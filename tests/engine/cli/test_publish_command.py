"""`latebolt publish`, and the commands that take a URI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from in_process import latebolt
from latebolt import Encoder, Index


@pytest.fixture
def folder(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With an index of notes."""
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    with Index.create(tmp_path / "notes.index", encoder) as index:
        index.add(["Renew a passport with form DS-82.", "The brake needs new pads."], ["a", "b"])
    return tmp_path


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = latebolt(*words, cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_from_an_index_to_a_search_elsewhere_and_back(folder: Path):
    uri = (folder / "published" / "notes").as_uri()
    assert "3 of 3 files would be sent" in run(folder, "publish", "notes.index", uri, "--dry-run")
    assert "no index is published there" in run(folder, "search", uri, "passport", code=1)
    assert "commit 1; 3 of 3 files sent" in run(folder, "publish", "notes.index", uri)
    assert "nothing new" in run(folder, "publish", "notes.index", uri)
    assert json.loads(run(folder, "search", uri, "passport", "-k", "1", "--json"))[0]["id"] == "a"
    assert json.loads(run(folder, "info", uri, "--json"))["path"] == uri
    assert "sound" in run(folder, "check", uri)
    assert "read-only" in run(folder, "delete", uri, "--ids", "a", code=1)
    assert "commit 1 of" in run(folder, "backup", uri, "again.index")
    with Index.open(folder / "again.index") as again, Index.open(folder / "notes.index") as index:
        assert again.get(["a", "b"]) == index.get(["a", "b"])
    with Index.open(folder / "notes.index") as index:
        index.delete(["b"])
        index.compact()
    done = json.loads(run(folder, "publish", "notes.index", uri, "--keep", "1", "--grace", "0", "--json"))
    assert done["published"][0]["number"] == 2 and done["removed"][0]["commits"] == 1
    assert json.loads(run(folder, "info", uri, "--json"))["documents"] == 1
    path = max((folder / "published" / "notes" / "files").iterdir(), key=lambda each: each.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    assert "1 problems" in run(folder, "check", uri, code=1)
    assert json.loads(run(folder, "check", uri, "--json", code=1))[0]["field"] == "size"


def test_a_shard_set(folder: Path):
    uri = (folder / "published").as_uri()
    run(folder, "split", "notes.index", "notes.shards", "--shards", "2")
    done = json.loads(run(folder, "publish", "notes.shards", uri, "--keep", "2", "--json"))
    assert len(done["published"]) == len(done["removed"]) == 2
    found = [json.loads(run(folder, "info", f"{uri}/shard-{n}", "--json"))["documents"] for n in range(2)]
    assert sum(found) == 2
    assert "shard-0" in run(folder, "search", uri, "passport", code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("publish", "notes.index", "somewhere"), "should be a URI"),
        (("publish", "file:///x/y", "notes.index"), "The index comes first"),
        (("publish", "none.index", "file:///tmp/never-made/x"), "there is no latebolt index here"),
        (("publish", "notes.index", "file://x"), "three slashes"),
        (("publish", "notes.index", "s3://key:hidden@bucket/x"), "***@bucket/x: keys do not belong"),
        (("index", "file:///tmp/never-made", "a.txt"), "URI"),
    ],
)
def test_misuse(folder: Path, words: tuple[str, ...], said: str):
    (folder / "a.txt").write_text("a kitten sleeps")
    done = latebolt(*words, cwd=folder)
    assert done.returncode in (1, 2) and said in done.stderr and "hidden" not in done.stderr, done.stderr
    assert not Path("/tmp/never-made").exists()
