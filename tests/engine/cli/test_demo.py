"""`latebolt demo` and what a person does after it: on a part of the real corpus, in real processes.

The whole of it takes half a minute of two processors; the release's workflow runs it from the wheel.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
from click.testing import CliRunner

from as_found import as_found
from latebolt.cli import demo as demo_texts
from latebolt.cli.demo import demo_command
from latebolt.corpus.documents import Document
from latebolt.corpus.stdlib import read_stdlib

ASKED_ABOUT = ("zipfile", "str.", "subprocess", "gzip", "shutil", "csv")
ON_A_PART = f"""
from latebolt.cli import run
from latebolt.corpus import stdlib
whole = stdlib.read_stdlib()
some = [each for i, each in enumerate(whole) if i % 12 == 0 or each.id.startswith({ASKED_ABOUT!r})]
stdlib.read_stdlib = lambda: some
raise SystemExit(run(["demo", "--json"]))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder in which the demo ran, and its report."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-c", ON_A_PART], capture_output=True, text=True, cwd=folder, env=as_found()
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="module")
def documents():
    return read_stdlib()


def test_the_corpus_is_real(documents):
    names = {document.id for document in documents}
    assert len(documents) > 4000 and len(names) == len(documents)
    assert {"zipfile.ZipFile.extractall", "str.split", "os.getcwd", "math.comb", "json.dumps"} <= names
    assert not any(part.startswith("_") for name in names for part in name.split("."))


def test_the_demo_answers(demo):
    _, report = demo
    assert 500 < report["built"]["documents"] == report["index"]["documents"] < 900
    assert report["index"]["bytes_per_token"] == 35
    first = [answer["hits"][0]["id"] for answer in report["answers"]]
    assert first[0].startswith("zipfile") and "split" in first[1]
    assert any("process" in hit["text"] for hit in report["answers"][2]["hits"])
    assert report["rerank"]["hits"][0]["id"] in (0, 3, 6)  # the passages with Berlin's population


def test_the_demo_does_with_little_memory(demo):
    """Where a clone loads a compiler, too; 383 MB were measured, and 459 with a heap for each thread."""
    _, report = demo
    assert report["peak_memory_mb"] < 400


def test_a_second_run_reuses_the_index(demo):
    folder, first = demo
    done = subprocess.run(
        [sys.executable, "-m", "latebolt", "demo"], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0 and "reusing" in done.stdout and "latebolt search" in done.stdout
    report = json.loads(
        subprocess.run(
            [sys.executable, "-m", "latebolt", "demo", "--json"], capture_output=True, text=True, cwd=folder
        ).stdout
    )
    assert report["built"] is None
    assert [a["hits"] for a in report["answers"]] == [a["hits"] for a in first["answers"]]


def test_the_demo_in_many_languages(tmp_path, monkeypatch, documents):
    """The passages are asked in five languages before the index is built, the docstrings in four; offline."""

    def no_network(*_: object) -> None:
        raise AssertionError("the demo opens no connection")

    some = [
        Document(each.id, each.text[:300], each.metadata)
        for each in documents
        if each.id.startswith(ASKED_ABOUT)
    ]
    assert 100 < len(some) < 300
    monkeypatch.setattr("latebolt.corpus.stdlib.read_stdlib", lambda: some)
    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(demo_command, ["--model", "multilingual", "--threads", "2"])
    assert shown.exit_code == 0, shown.output
    asked = (demo_texts.BERLIN_QUERY, *demo_texts.BERLIN_QUERIES_ELSEWHERE)
    places = [shown.output.index(query) for query in (*asked, "corpus  ", *demo_texts.QUESTIONS_ELSEWHERE)]
    assert len(asked) == 5 and places == sorted(places)
    report = json.loads(CliRunner().invoke(demo_command, ["--model", "multilingual", "--json"]).stdout)
    assert report["built"] is None  # reused
    best = [each["hits"][0]["id"] for each in (report["rerank"], *report["rerank_elsewhere"])]
    assert len(best) == 5 and set(best) <= {0, 3, 5, 6}  # what says how many people live in a Berlin
    english, elsewhere = report["answers"][:3], report["answers"][3:]
    assert [each["query"] for each in elsewhere] == list(demo_texts.QUESTIONS_ELSEWHERE)
    modules = ("zipfile", "str.", "subprocess", "zipfile", "str.", "gzip", "shutil")
    for each, module in zip((*english, *elsewhere), modules, strict=True):
        assert each["hits"][0]["id"].startswith(module), each
    starter = CliRunner().invoke(demo_command, ["--json"])
    assert "rerank_elsewhere" not in json.loads(starter.stdout)


def test_a_cold_search_is_quick_and_small(demo):
    """Below 2 s of processors' time (its children's, too) and 300 MB resident, with kernels cached. A wall
    clock tells of other work, so waiting is only kept from lasting; and of three tries one must do."""
    folder, _ = demo
    index = f"latebolt-demo/python-{platform.python_version()}-2bit"
    arguments = ["search", index, "read a zip file", "--json"]
    code = f"""
import os
from latebolt.cli import run
from latebolt.cli.common import resident_mb
assert run({arguments!r}) == 0
print(resident_mb(), sum(os.times()[:4]))
"""
    seconds, peaks = [], []
    while len(seconds) < 3 and min(seconds, default=2.0) >= 2.0:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=30, env=as_found())
        assert done.returncode == 0, done.stderr
        peak, took = map(float, done.stdout.splitlines()[-1].split())
        seconds.append(took)
        peaks.append(peak)
    assert min(seconds) < 2.0 and max(peaks) < 300, (seconds, peaks)
