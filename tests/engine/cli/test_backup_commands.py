"""`latebolt backup` and `restore`: what they do and say, and their exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.index.format import layout
from latebolt.index.store.check import check_index


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Path:
    with Index.create(tmp_path / "i", encoder) as made:
        made.add(["fresh bread", "a cat"], ["bread", "cat"])
    return tmp_path / "i"


def test_there_and_back(index: Path, tmp_path: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]):
    assert run(["backup", str(index), str(tmp_path / "b")]) == 0
    said = capsys.readouterr().err
    assert re.search(r"/b: commit 1 of .*/i, .* in \d+ files, \d+ of them shared with .*/i", said)
    with Index.open(index) as opened:
        opened.delete(["cat"])
    assert run(["restore", str(tmp_path / "b"), str(tmp_path / "r"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["generation"], told["linked"]) == (str(tmp_path / "r"), 1, 0)
    for place in ("b", "r"):
        assert check_index(tmp_path / place) == []
        with Index.open(tmp_path / place, encoder) as opened:
            assert [hit.id for hit in opened.search("cat", 1)] == ["cat"]
    assert run(["backup", str(index), str(tmp_path / "c"), "--copy"]) == 0
    assert "shared" not in capsys.readouterr().err


def test_what_is_refused(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["backup", str(index), str(index)]) == 1
    assert "there is something already" in capsys.readouterr().err
    assert run(["backup", str(tmp_path / "none"), str(tmp_path / "b")]) == 1
    assert "there is no latebolt index here" in capsys.readouterr().err
    assert run(["backup", str(index), str(index / "b")]) == 2
    assert "folder of the index itself" in capsys.readouterr().err
    assert run(["backup", str(index), str(tmp_path / "b")]) == 0
    [codes] = (tmp_path / "b").glob("segments/*/texts.sqlite")
    content = codes.read_bytes()
    codes.unlink()
    codes.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(["restore", str(tmp_path / "b"), str(tmp_path / "r")]) == 1
    assert "texts.sqlite: digest" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("command", ["check", "info", "backup", "restore"])
def test_a_newer_index_is_called_so(index: Path, command: str, capsys: pytest.CaptureFixture[str]):
    manifest = index / layout.MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b'"format_version": 1', b'"format_version": 7'))
    more = [str(index.parent / "out")] if command in ("backup", "restore") else []
    assert run([command, str(index), *more]) == 1
    said = capsys.readouterr().err
    assert "format_version is 7, and this version of latebolt reads 1 or 2 or 3 or 4 or 5" in said
    assert "nothing is damaged" in said
