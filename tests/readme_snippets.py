"""The code blocks of README.md and docs/, and how they are run: as they stand, in order, a folder a page.

A block runs where everything that it imports is installed, what latebolt's adapters import for it included.
The engine's environment and the exporter's each run what they can. `<!-- not run: why -->` on the line before
a block leaves it out, for what needs a network. Of shell blocks, `latebolt` and `curl` are run; a
`latebolt serve` stays up until the next one or the end of its block, at a port of its own, and a
`latebolt watch` until it has caught up.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

from in_process import latebolt

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]
ADAPTERS = "latebolt.adapters."
LIMIT_S = 300
# Commands that neither stay up nor load what changes a process, unless one of these options is there.
_HERE = {
    "index",
    "search",
    "rerank",
    "encode",
    "info",
    "list",
    "check",
    "compact",
    "delete",
    "update",
    "split",
    "join",
}
_ELSEWHERE = {"--model", "--on", "--url"}
_NEEDS = {"export": "torch", "watch": "watchfiles"}  # what a command is not run without

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>.*?) -->\n)?^```(?P<kind>python|sh)\n(?P<code>.*?)^```$", re.M | re.S
)
_SHARED = "file:///srv/"  # which stands for a folder that machines share
_SERVER = re.compile(r"\b(?:127\.0\.0\.1|localhost):8080\b")


@dataclass(frozen=True)
class Snippet:
    """A block: its page, "python" or "sh", its code, its first line, and why it is not run, if it is not."""

    page: str
    kind: str
    code: str
    line: int
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}-line-{self.line}-{self.kind}"


def snippets(*pages: Path) -> list[Snippet]:
    found = []
    for page in pages or PAGES:
        text = page.read_text(encoding="utf-8")
        for m in _BLOCK.finditer(text):
            line = text.count("\n", 0, m.start("code")) + 1
            found.append(Snippet(page.name, m["kind"], m["code"], line, m["why"]))
    return found


def imported(code: str) -> set[str]:
    """Top-level packages that Python code imports, and those that the adapters it names import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            found.add(name.split(".")[0])
            if name.startswith(ADAPTERS):
                for file in _files_of(name):
                    found |= _needed(file.read_text(encoding="utf-8"))
    return found


def _files_of(module: str) -> list[Path]:
    path = PROJECT / "engine" / Path(*module.split("."))
    return sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _needed(source: str) -> set[str]:
    """What a module cannot be imported without."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        for inner in node.body if isinstance(node, ast.Try) else [node]:
            if isinstance(inner, ast.Import):
                found |= {alias.name.split(".")[0] for alias in inner.names}
            elif isinstance(inner, ast.ImportFrom) and inner.level == 0:
                found.add((inner.module or "").split(".")[0])
    return found


def run(snippet: Snippet, root: Path) -> None:
    """Run a block in its page's folder; skips the test where it cannot be run, and fails where it fails."""
    folder = root / snippet.page
    if not folder.is_dir():
        folder.mkdir()
        write_what_they_name(folder)
    if snippet.not_run is not None:
        pytest.skip(snippet.not_run)
    if snippet.kind == "python":
        missing = sorted(name for name in imported(snippet.code) if find_spec(name) is None)
        if missing:
            pytest.skip(f"not installed here: {', '.join(missing)}")
        _run_python(snippet.code, folder)
    elif not _run_shell(snippet.code, folder):
        pytest.skip("none of its commands is run here")


def _run_python(code: str, folder: Path) -> None:
    """The code as a program of its own; what its prints promise in comments must come out, in order."""
    output = _finished([sys.executable, "-c", code.replace(_SHARED, f"{folder.as_uri()}/srv/")], folder)
    lines = iter(output.splitlines())
    for promise in promises(code):
        assert any(line.startswith(promise) for line in lines), f"{promise!r} is not in order in:\n{output}"


def promises(code: str) -> list[str]:
    """What comments behind calls of print say that these print; "..." at the end stands for more."""
    found = [line.split("# ", 1)[1] for line in code.splitlines() if re.search(r"\bprint\(.*# ", line)]
    return [promise.removesuffix("...").rstrip(", ") for promise in found]


def commands(code: str) -> Iterator[list[str]]:
    """The commands of a block; a quote may go over several lines."""
    text = ""
    for line in code.splitlines():
        text += line + "\n"
        try:
            words = shlex.split(text.replace("\\\n", " "), comments=True)
        except ValueError:  # a quote is open
            continue
        if words and not line.endswith("\\"):
            yield words
        if not line.endswith("\\"):
            text = ""
    assert not text.strip(), f"a quote is not closed: {text}"


def _run_shell(code: str, folder: Path) -> int:
    """How many commands were run."""
    n_run, port = 0, 0
    with contextlib.ExitStack() as server:
        for words in commands(code):
            if words[:2] == ["latebolt", "serve"]:
                if find_spec("fastapi") is None:
                    continue
                server.close()
                port = _free_port()
                server.enter_context(_serving(words[2:], port, folder))
            elif words[0] == "latebolt" and find_spec(_NEEDS.get(words[1], "latebolt")) is None:
                continue
            elif words[0] == "latebolt":
                home = [str(folder) + word[1:] if word.startswith("~/") else word for word in words[1:]]
                home = [word.replace(_SHARED, f"{folder.as_uri()}/srv/") for word in home]
                if words[1] == "watch":
                    _watched(home, folder)
                    n_run += 1
                    continue
                home = [_SERVER.sub(f"127.0.0.1:{port}", word) for word in home]
                _run_latebolt(home, folder)
            elif words[0] == "curl" and port:
                there = [_SERVER.sub(f"127.0.0.1:{port}", word) for word in words[1:]]
                answer = _finished(["curl", "--silent", "--show-error", "--fail-with-body", *there], folder)
                json.loads(answer)
            else:
                continue
            n_run += 1
    return n_run


def _run_latebolt(arguments: list[str], folder: Path) -> None:
    """In this process where that makes no difference: a start takes longer than most commands."""
    if arguments[0] not in _HERE or not _ELSEWHERE.isdisjoint(arguments):
        _finished([sys.executable, "-m", "latebolt", *arguments], folder)
        return
    with mock.patch.dict(os.environ, _environment(folder)):
        done = latebolt(*arguments, cwd=folder)
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}\n{done.stderr}"


def _watched(arguments: list[str], folder: Path) -> None:
    """Run `latebolt watch` until it has said what its first run did."""
    with subprocess.Popen(
        [sys.executable, "-m", "latebolt", *arguments],
        cwd=folder, env=_environment(folder), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        said = process.stderr.readline()
        process.terminate()
        said += process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "documents" in said.splitlines()[0], said


def _finished(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=_environment(folder), timeout=LIMIT_S
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment(folder: Path, **more: str) -> dict[str, str]:
    """The tests' own, with the folder as home, and no hub: what a snippet runs here must not need it."""
    offline = {"HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    cache = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
    return {**os.environ, **offline, **cache, "HOME": str(folder), **more}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def _serving(options: list[str], port: int, folder: Path) -> Iterator[None]:
    environment = _environment(folder, LATEBOLT_SERVE_PORT=str(port))
    with subprocess.Popen(
        [sys.executable, "-m", "latebolt", "serve", *options],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            _wait_until_ready(process, port)
            yield
        finally:
            process.terminate()
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()


def _wait_until_ready(process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"latebolt serve is not ready at port {port}, exit status {process.poll()}")


def write_what_they_name(folder: Path) -> None:
    """The files that commands of the pages read."""
    from latebolt import Encoder, Index

    notes = folder / "notes"
    notes.mkdir()
    (notes / "passport.md").write_text("Renew a passport with form DS-82, by post.\n")
    (notes / "bike.txt").write_text("The bicycle's front brake needs new pads.\n")
    papers = [
        {"id": "p1", "text": "Late interaction keeps one vector a token."},
        {"id": "p2", "text": "BM25."},
    ]
    (folder / "papers.jsonl").write_text("".join(json.dumps(paper) + "\n" for paper in papers))
    passages = ["Mount Berlin is a volcano.", "Berlin has 3.85 million inhabitants."]
    (folder / "passages.txt").write_text("\n".join(passages) + "\n")
    with Encoder.load("starter") as encoder, Index.create(folder / "my-index", encoder) as index:
        index.add(passages)
    if find_spec("torch") is not None:
        _write_checkpoint(folder / "colbert-checkpoint")


def _write_checkpoint(folder: Path) -> None:
    import torch
    from small import DIM, HIDDEN, LAYERS, vocabulary, write_checkpoint
    from transformers import BertConfig, BertModel

    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocabulary()), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=192,
    )  # fmt: skip
    folder.mkdir()
    write_checkpoint(folder, "stanford", BertModel(config).eval(), torch.randn(DIM, HIDDEN))
