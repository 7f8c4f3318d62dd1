"""Nothing that others wrote reaches a terminal as more than text, and everything can be printed."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latebolt
from latebolt.cli import terminal
from latebolt.cli.common import hit_lines, place_words, shade
from latebolt.hits import Hit, WordMatch

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
COLOURS = re.compile("\x1b\\[(?:0|1|2|32|33)m")
HOSTILE = "\x1b]0;renamed\x07 \x1b[2J\x1b[1;1H \x9b31m word \x7f\r\u202eevil\ud83d"


@given(st.text(st.characters() | st.sampled_from(HOSTILE)))
def test_a_terminal_obeys_nothing_of_a_text(text):
    assert not OBEYED.search(terminal.plain(text))
    hit = Hit(text, 1.0, text, {"m": text}, {"heading": text, text: [text, 1]})
    shown = hit_lines(1, hit, [WordMatch("word", "word", 0.9)])
    assert not OBEYED.search(COLOURS.sub("", shown))
    terminal.plain(text).encode()


@given(st.text(st.sampled_from(HOSTILE + "[0123m;")))
def test_what_was_overlooked_is_written_out_when_it_is_printed(text):
    shown = []
    echo, terminal.click.echo = terminal.click.echo, lambda text, file=None, err=False: shown.append(text)
    try:
        terminal.say(text)
        terminal.note(text)
    finally:
        terminal.click.echo = echo
    assert all(not OBEYED.search(COLOURS.sub("", each)) for each in shown)


def test_colours_of_ours_and_layout_stay():
    text = "a\tb\r\nc, žluťoučký 漢字 👩‍👩"
    assert terminal.plain(text) == text.replace("\r", "")
    assert shade("a word here", [WordMatch("w", "word", 0.9)]) == "a \x1b[33m\x1b[1mword\x1b[0m here"


def test_only_one_module_prints():
    folder = Path(latebolt.__file__).parent / "cli"
    for path in folder.glob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("echo", "secho", "style", "echo_via_pager"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path


def run(*arguments: str, cwd, **environment: str) -> subprocess.CompletedProcess:
    # On a pseudo-terminal click leaves escape sequences in; FORCE_COLOR does so in a pipe too.
    return subprocess.run(
        [sys.executable, "-m", "latebolt", *arguments],
        capture_output=True, cwd=cwd, env={**os.environ, "FORCE_COLOR": "1", **environment},
    )  # fmt: skip


def test_what_libraries_print_from_any_thread_is_no_result(capsys):
    with terminal.stdout_kept():
        other = threading.Thread(target=print, args=("(raylet) Task failed. It will be retried.",))
        other.start()
        other.join()
        with terminal.stdout_kept():
            terminal.print_json({"parts": 4})
        terminal.print_json_line([1])
        terminal.say("done")
    terminal.say("as ever")
    said = capsys.readouterr()
    assert said.out == '{\n  "parts": 4\n}\n[1]\ndone\nas ever\n'
    assert said.err == "(raylet) Task failed. It will be retried.\n"


def test_the_commands_print_nothing_that_is_obeyed(tmp_path):
    row = {"id": "a\x1b[2J", "text": HOSTILE.replace("\ud83d", ""), "m": HOSTILE}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert run("index", "i\x1b[2J", "a.jsonl", cwd=tmp_path).returncode == 0
    for arguments in (
        ("search", "i\x1b[2J", "word", "--explain"),
        ("search", "i\x1b[2J", "wo\x1b[2Jrd", "--where", "x\x1b[2J ="),
        ("info", "i\x1b[2J"),
        ("check", "i\x1b[2J"),
        ("rerank", "word", "a.jsonl"),
        ("no\x1b[2Jne",),
        ("search", "no\x1b[2Jne", "x"),
    ):
        done = run(*arguments, cwd=tmp_path)
        assert not OBEYED.search(COLOURS.sub("", (done.stdout + done.stderr).decode())), arguments
    [hit] = json.loads(run("search", "i\x1b[2J", "word", "--json", cwd=tmp_path).stdout)
    assert (hit["id"], hit["text"]) == (row["id"], row["text"])


def test_any_locale_can_show_any_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "日本", "text": "naïve 漢字 word"}))
    assert run("index", "i", "a.jsonl", cwd=tmp_path, LC_ALL="C").returncode == 0
    for environment in ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin1"}):
        done = run("search", "i", "word", cwd=tmp_path, **environment)
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        done = run("search", "no", "日本", cwd=tmp_path, **environment)
        assert done.returncode == 1 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, ""),
        ({"lines": [3, 9], "heading": "A > B"}, "lines 3-9, A > B"),
        ({"lines": [3, 3], "definition": "Index.add"}, "line 3, Index.add"),
        ({"pages": [3, 4]}, "pages 3-4"),
        ({"page": 3}, "page 3"),
        ({"cell": 4}, "cell 4"),
        ({"row": 12}, "row 12"),
    ],
)
def test_a_hit_says_where_it_stands(place, words):
    assert place_words(place) == words
    shown = COLOURS.sub("", hit_lines(1, Hit("a.md", 1.0, "text", {}, place))).splitlines()[0]
    assert shown == "  1. 1.000  a.md" + (f"  {words}" if words else "")
