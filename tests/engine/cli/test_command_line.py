"""The command line as a whole: every command's examples, suggestions, colours, completion and exit codes."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from in_process import latebolt
from latebolt import Encoder, Index
from latebolt.cli import _COMMANDS, cli, run
from latebolt.cli.suggestions import _ELSEWHERE
from latebolt.kernels import names

NAMES = list(_COMMANDS)
COMMANDS = {name: cli.get_command(click.Context(cli), name) for name in NAMES}
COLOUR = re.compile("\x1b\\[[0-9;]*m")

# Commands whose examples are parsed only, and why.
NOT_RUN = {
    "demo": "takes half a minute; test_demo.py runs it",
    "bundle": "fetches wheels of other machines; bundle/test_bundle.py runs it",
    "export": "wants torch, or the hub; tests/export runs it",
    "watch": "stays up; test_readme.py runs it until it has caught up",
    "push": "wants a server; test_qdrant_url.py runs it beside one",
    "serve": "stays up; test_readme.py runs it beside its client",
    "mcp": "stays up; test_mcp.py runs it beside its client",
    "eval": "wants collections; test_evaluate_commands.py runs it on small ones",
}
# Examples of other commands that are parsed only: those with one of these words.
NOT_HERE = ("--on", "--url", "adopt", "/mnt/other-disk/notes", "s3://bucket/notes")
NOT_HERE += ("s3://bucket/papers", "file:///tmp/latebolt-published/notes")  # test_publish_command.py


def lines_of(text: str) -> list[str]:
    """The lines of a help text that are typed: of each paragraph that click leaves as it is."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            found += paragraph.removeprefix("\b\n").replace("\\\n", " ").splitlines()
    return [line.strip() for line in found]


def is_ours(line: str) -> bool:
    return re.match(r"(\w.* \| )?latebolt ", line) is not None


def examples(text: str) -> list[str]:
    """Those that run latebolt."""
    return [line for line in lines_of(text) if is_ours(line)]


def words_of(example: str) -> list[str]:
    """A command's name and arguments."""
    ours = next(part for part in example.split(" | ") if part.startswith("latebolt "))
    return shlex.split(ours)[1:]


def test_every_command_has_examples_and_each_can_be_parsed():
    for name, command in COMMANDS.items():
        found = examples(command.help)
        assert any(words_of(each)[0] == name for each in found), f"{name} --help has no example of it"
        for each in found:
            called, *arguments = words_of(each)
            with click.Context(cli, info_name="latebolt") as parent:
                COMMANDS[called].make_context(called, arguments, parent=parent)
    assert len(examples(cli.epilog)) == 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A home with what the examples name, and `latebolt` in its bin."""
    home = tmp_path_factory.mktemp("home")
    for name in ("bin", "notes", "books", "indexes"):
        (home / name).mkdir()
    python = shlex.quote(sys.executable)
    (home / "bin" / "latebolt").write_text(f'#!/bin/sh\nexec {python} -m latebolt "$@"\n')
    (home / "bin" / "latebolt").chmod(0o755)
    (home / "notes" / "a.md").write_text("Renew a passport with form DS-82.\n")
    (home / "notes" / "b.md").write_text("The front brake needs new pads.\n")
    (home / "books" / "one.txt").write_text("It was a dark and stormy night. " * 60)
    rows = [
        {"id": "p1", "text": "Sparse attention of long texts.", "year": 2021, "lang": "en"},
        {"id": "p2", "text": "Late interaction.", "year": 1999, "lang": "de", "author": {"name": "Eve"}},
        {"id": "p3", "text": "BM25 and its friends.", "year": 2022, "lang": "fr", "draft": True},
    ]
    for name in ("papers.jsonl", "sample.jsonl"):
        (home / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("passages.txt", "questions.txt", "lines.txt"):
        (home / name).write_text("Berlin has 3.85 million inhabitants.\nMount Berlin is a volcano.\n")
    (home / "gone.tsv").write_text("p9\tgone\n")
    (home / "ids.txt").write_text("p1\n")
    Index.create(home / "old.index", encoder).close()
    return home


@pytest.mark.slow
def test_the_examples_run(home: Path, monkeypatch: pytest.MonkeyPatch):
    """In the order of the commands, so that what one makes is there for those that look at it.

    What asks more of a shell than to cut words and to know where home is runs in one.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    needed = names.kernels_of  # `doctor --warm` compiles them, which takes a minute where none is kept
    monkeypatch.setattr(
        names, "kernels_of", lambda dims, *more, **_: needed(dims[-1:], *more, most_query_tokens=1)
    )
    n_run = n_shells = 0
    for command in COMMANDS.values():
        for example in lines_of(command.help):
            words = words_of(example) if is_ours(example) else shlex.split(example)
            if words[0] in NOT_RUN or any(word in words for word in NOT_HERE):
                continue
            if is_ours(example) and not re.search(r"[|<>*?$&;`{]", example):
                done = latebolt(*(re.sub("^~", str(home), word) for word in words), cwd=home)
            else:
                done = subprocess.run(
                    ["bash", "-o", "pipefail", "-c", example],
                    capture_output=True, text=True, cwd=home, stdin=subprocess.DEVNULL,
                )  # fmt: skip
                n_shells += 1
            assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
            n_run += 1
    assert n_run > 25 and n_shells > 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With an index of two vectors, files, and the folder as the current one."""
    monkeypatch.chdir(tmp_path)
    Index.create("my.index", None, dim=8).close()
    Path("a.txt").write_text("a kitten sleeps\n")
    Path("b c.txt").write_text("a house\n")
    Path("checkpoint").mkdir()
    Path("checkpoint", "config.json").write_text("{}")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, str]:
    code = run(shlex.split(command))
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return code, captured.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("seach my.index q", "No such command 'seach'. Did you mean search?"),
        ("serach my.index index", "Did you mean search?"),
        ("SEARCH my.index q", "Did you mean search"),
        ("exprot a b", "Did you mean export"),
        ("rm my.index", "Did you mean delete"),
        ("ls", "Did you mean list"),
        ("query my.index q", "Did you mean search"),
        ("frobnicate", "latebolt --help lists them"),
        ("my.index search 'two words'", "Did you mean latebolt search my.index 'two words'?"),
        ("my.index 'two words' -k 3", "Did you mean latebolt search my.index 'two words' -k 3?"),
        ("my.index", "Did you mean latebolt info my.index?"),
        ("--json info my.index", "option '--json' of latebolt itself. Options of info stand behind it."),
        ("search my.index q --top-k 3", "No such option '--top-k'. Did you mean '-k'?"),
        ("cost --documents 9 --tokens 5", "No such option '--tokens'. Did you mean '--tokens-per-document'?"),
        ("index i f --passage 9", "Did you mean '--passage-overlap' or '--passage-tokens'?"),
        ("search my.index q --filter a=1", "Did you mean '--where'?"),
        ("drop my.index -f", "Did you mean '--yes'?"),
        ("list --top-k 3", "No such option '--top-k'."),
        ("-k 3 search my.index q", "Options of search stand behind it."),
        ("--verison", "--version"),
        ("search my.index", "Missing argument 'QUERY'"),
        ("search q my.index", "the index comes first. Did you mean latebolt search my.index q?"),
        ("rerank 'b c.txt' kitten", "the query comes first. Did you mean latebolt rerank kitten 'b c.txt'?"),
        ("index a.txt my.index", "Did you mean latebolt index my.index a.txt?"),
        ("watch a.txt my.index", "Did you mean latebolt watch my.index a.txt?"),
        ("copy new.index my.index", "Did you mean latebolt copy my.index new.index?"),
        ("backup out my.index", "Did you mean latebolt backup my.index out?"),
        ("export-docs out.jsonl my.index", "Did you mean latebolt export-docs my.index out.jsonl?"),
        ("adopt a.txt my.index", "Did you mean latebolt adopt my.index a.txt?"),
        ("encode out.npz a.txt", "OUT comes last. Did you mean latebolt encode a.txt out.npz?"),
    ],
)
def test_what_was_probably_meant(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
):
    code, err = said(capsys, command)
    assert code == 2 and message in err
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b c.txt", "checkpoint", "my.index"]


def test_words_of_other_tools_lead_to_commands_that_there_are():
    assert set(_ELSEWHERE.values()) - {"--version"} <= set(NAMES) and not _ELSEWHERE.keys() & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_option_is_suggested(name: str, capsys: pytest.CaptureFixture[str]):
    options = [each for parameter in COMMANDS[name].params for each in parameter.opts if each[:2] == "--"]
    assert options
    for option in options:
        mistyped = option[:-2] + option[-1] if len(option) > 5 else option + "s"
        if mistyped in options:
            continue
        code, err = said(capsys, f"{name} {mistyped}")
        assert code == 2 and f"No such option '{mistyped}'" in err and f"'{option}'" in err, err


def at_terminal(*arguments: str, **environment: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    with subprocess.Popen(
        [sys.executable, "-m", "latebolt", *arguments],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**known, "TERM": "xterm", **environment},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


@pytest.fixture(scope="module")
def cats(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("colours") / "i"
    with Index.create(path, encoder) as index:
        index.add(["a cat sleeps on the sofa"], ids=["cat"])
    (path.parent / "cat.txt").write_text("a cat\n")
    yield path


def test_colours_are_for_terminals_that_have_them_and_people_who_want_them(cats: Path):
    asked = ("search", str(cats), "cat")
    shown = at_terminal(*asked)
    assert COLOUR.search(shown)
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert at_terminal(*asked, **environment) == COLOUR.sub("", shown)
    assert COLOUR.search(at_terminal(*asked, NO_COLOR=""))  # empty counts as not there: no-color.org
    for command in (["doctor"], ["rerank", "cat", str(cats.parent / "cat.txt")]):
        assert "\x1b" not in at_terminal(*command, NO_COLOR="1") + at_terminal(*command, TERM="dumb")


def test_a_dumb_terminal_gets_no_progress_bar(cats: Path, tmp_path: Path):
    def indexed(name: str, **environment: str) -> str:
        return at_terminal("index", str(tmp_path / name), str(cats.parent / "cat.txt"), **environment)

    assert "passage/s" in indexed("a")
    shown = indexed("c", TERM="dumb")
    assert "passage/s" not in shown and "\r" not in shown.replace("\r\n", "")
    assert "\x1b" not in indexed("b", NO_COLOR="1")


@pytest.mark.parametrize(
    ("shell", "sign"),
    [("bash", "complete -o nosort -F"), ("zsh", "#compdef latebolt"), ("fish", "complete --no-files")],
)
def test_shells_are_told_how_to_complete(shell: str, sign: str):
    def asked(instruction: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from latebolt.cli import main; main()"],
            capture_output=True, text=True,
            env={**os.environ, "_LATEBOLT_COMPLETE": instruction, **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert sign in asked(f"{shell}_source")
    words = {"bash": ("latebolt se", "1"), "zsh": ("latebolt se", "1"), "fish": ("latebolt se", "se")}[shell]
    offered = asked(f"{shell}_complete", COMP_WORDS=words[0], COMP_CWORD=words[1])
    assert "search" in offered and "serve" in offered and "rerank" not in offered
    words = ("latebolt search --mo", "2") if shell != "fish" else ("latebolt search --mo", "--mo")
    assert "--mode" in asked(f"{shell}_complete", COMP_WORDS=words[0], COMP_CWORD=words[1])


# A thing that each command is asked for and that is not there: an index, a model, a file, a folder.
MISSING = {
    "export": ["export ./gone out"],
    "bundle": ["bundle out.tar --model ./gone", "bundle out.tar --wheel gone.whl"],
    "index": ["index new gone", "index new gone.txt", "index new a.txt --model ./gone"],
    "watch": ["watch new gone"],
    "search": ["search gone query"],
    "rerank": ["rerank query gone.txt", "rerank query a.txt --model ./gone"],
    "encode": ["encode gone.txt out.npz", "encode a.txt out.npz --model ./gone"],
    "delete": ["delete gone --ids a", "delete my.index --ids-from gone.txt"],
    "update": ["update gone --ids a --set b=1"],
    "export-docs": ["export-docs gone out.jsonl"],
    "copy": ["copy gone new", "copy my.index new --model ./gone"],
    "adopt": ["adopt gone my.index.parts", "adopt my.index gone"],
    "push": ["push gone --path storage"],
    "serve": ["serve --port 0 --model ./gone", "serve --port 0 --keys-file gone"],
    "mcp": ["mcp gone", "mcp my.index --http 127.0.0.1:0 --keys-file gone"],
    "list": ["list gone"],
    "info": ["info gone"],
    "check": ["check gone"],
    "compact": ["compact gone"],
    "drop": ["drop gone --yes"],
    "publish": ["publish gone file:///srv/never-made/x"],
    "backup": ["backup gone out"],
    "restore": ["restore gone out"],
    "split": ["split gone out --shards 2"],
    "join": ["join gone out"],
    "eval": ["eval gone", "eval --corpus gone --queries a.txt --qrels a.txt"],
    "doctor": ["doctor --model ./gone"],  # which says it on stdout, among all that it finds
}
NOTHING_NAMED = {"demo", "cost", "plan", "trim"}


def test_every_command_is_asked_for_what_is_not_there():
    assert set(MISSING) | NOTHING_NAMED == set(NAMES)


@pytest.mark.parametrize("command", [each for several in MISSING.values() for each in several])
def test_what_is_not_there_has_one_exit_code(folder: Path, command: str):
    if command.startswith("export") and find_spec("onnx") is None:
        pytest.skip("the exporter's libraries are not here; tests/export/test_cli.py asks it, too")
    if command.split()[0] in ("serve", "mcp"):  # what they change of a process is not undone
        done = subprocess.run(
            [sys.executable, "-m", "latebolt", *shlex.split(command)],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    else:
        done = latebolt(*shlex.split(command))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    if command.startswith("doctor"):
        assert "gone: there is no such model folder" in done.stdout
    else:
        assert "gone" in done.stderr and done.stdout == "" and len(done.stderr.strip().splitlines()) == 1


def test_an_index_that_a_server_is_given_and_that_is_not_there(folder: Path):
    command = [sys.executable, "-m", "latebolt", "serve", "--port", "0", "--index", "notes=gone"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "there is no index in that folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_codes_are_stated_where_people_look():
    project = Path(__file__).parents[3]
    for text in (cli.epilog, (project / "docs" / "command-line.md").read_text(encoding="utf-8")):
        flat = " ".join(text.split())
        assert "not there" in flat and "130" in flat and "misuse" in flat


def test_the_page_names_every_command():
    page = Path(__file__).parents[3] / "docs" / "command-line.md"
    named = set(re.findall(r"`([a-z][a-z-]+)`", page.read_text(encoding="utf-8").split("```")[0]))
    assert set(NAMES) == named - {"latebolt"}
