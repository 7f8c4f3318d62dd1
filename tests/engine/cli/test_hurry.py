"""What a person in a hurry types: a line that says what is wrong, a code, and nothing that hangs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from in_process import latebolt, until_it_works
from latebolt import Encoder
from latebolt.errors import InvalidInput

LATEBOLT = f"{sys.executable} -m latebolt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("hurry")
    (made / "a.txt").write_text("a kitten sleeps\nbread is baked\n")
    (made / "b c.txt").write_text("a house\n")
    done = shell("index my.index a.txt", made)
    assert done.returncode == 0, done.stderr
    return made


def shell(command: str, cwd, **environment: str) -> subprocess.CompletedProcess:
    """A command that asks nothing of the shell or its environment needs neither."""
    if not environment and not any(each in command for each in "$<>|&;"):
        return latebolt(*shlex.split(command), cwd=cwd)
    return subprocess.run(
        ["bash", "-c", command if command.startswith("$") else f"$LATEBOLT {command}"],
        capture_output=True, text=True, cwd=cwd, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "LATEBOLT": LATEBOLT, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("search kitten my.index", 2, "Did you mean latebolt search my.index kitten?"),
        ("search 'two words' my.index", 2, "latebolt search my.index 'two words'?"),
        ("rerank 'b c.txt' kitten", 2, "Did you mean latebolt rerank kitten 'b c.txt'?"),
        ("index 'b c.txt' my.index", 2, "Did you mean latebolt index my.index 'b c.txt'?"),
        ("search my.index q --threads 100000000", 2, "--threads"),
        ("search my.index q --threads 0", 2, "--threads"),
        ("search my.index q -k -3", 2, "-k"),
        ("index new a.txt --model ''", 2, "the name of a model is empty"),
        ("index new a.txt --model '' --whole", 2, "the name of a model is empty"),
        ("index new a.txt --whole --passage-tokens 100", 2, "not both"),
        ("index new a.txt --whole --late-chunking", 2, "not both"),
        ("index new a.txt --passage-tokens 100000", 2, "passage_tokens should be"),
        ("index new - <&-", 2, "standard input: is closed"),
        ("index new - </dev/null", 2, "standard input: is empty"),
        ("index new . 2>&1 >/dev/null --bits 3", 2, ""),
        ("rerank q - <&-", 2, "standard input: is closed"),
        ("encode a.txt .", 2, ".: is a folder"),
        ("encode a.txt new/", 2, "new/: is a folder"),
        ("rerank q .", 2, ".: is a folder"),
        ("search my.index kitten >/dev/full", 1, "No space left"),
        ("index /proc/new a.txt", 1, "/proc/new: cannot be written"),
        ("$LATEBOLT search my.index kitten | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("search my.index kitten >&-", 0, ""),
    ],
)
def test_a_slip_gets_one_line_and_a_code(folder, command, code, message):
    done = shell(command, folder)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 1 or "Usage:" in done.stderr
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    "environment", ({"LC_ALL": "C"}, {"HOME": ""}, {"HOME": "/nonexistent"}, {"TERM": "dumb"})
)
def test_bare_environments(folder, environment):
    done = shell("search my.index kätzchen -k 1", folder, **environment)
    assert done.returncode == 0 and "a kitten sleeps" in done.stdout, done.stderr


def test_no_home_at_all(folder):
    done = shell("$(:) env -u HOME $LATEBOLT search my.index kitten -k 1", folder)
    assert done.returncode == 0 and "a kitten sleeps" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ("", "  "))
def test_a_model_without_a_name(name):
    with pytest.raises(InvalidInput, match="the name of a model is empty"):
        Encoder.load(name)


def test_ctrl_c_leaves_nothing(folder, tmp_path):
    (tmp_path / "big.txt").write_text("\n\n".join("some words to encode " * 40 for _ in range(4000)))
    running = subprocess.Popen(
        [sys.executable, "-m", "latebolt", "index", "new", "big.txt"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    until_it_works(running)
    running.send_signal(signal.SIGINT)
    message = running.communicate(timeout=60)[1]
    assert running.returncode == 130 and "interrupted" in message and "Traceback" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["big.txt"]


def test_hits_as_json_can_be_ranked_again(folder):
    command = '$LATEBOLT search my.index "kitten" --json | $LATEBOLT rerank bread - -k 1 --json'
    [hit] = json.loads(shell(command, folder).stdout)
    assert "bread" in hit["text"]
    for content, texts in (
        ('[{"content": "one"}, "two",\n {"text": "three"}]', ["one", "two", "three"]),
        ("[1] a note\n\n[2] another", ["[1] a note", "[2] another"]),
        ("[1, 2]\nx", ["[1, 2]", "x"]),
    ):
        (folder / "some.json").write_text(content)
        hits = json.loads(shell("rerank q some.json --json", folder).stdout)
        assert sorted(hit["text"] for hit in hits) == sorted(texts)
    done = shell("rerank q some.json", folder) if (folder / "some.json").write_text('[{"a": 1}]') else None
    assert done.returncode == 2 and 'entry 0: has no "text"' in done.stderr
