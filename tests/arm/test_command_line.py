"""`latebolt` from end to end on ARM: a folder indexed and searched, judged queries, a server that answers."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

TEXTS = {
    "bread.md": "# Bread\n\nFresh bread is baked in the morning, with flour, water and salt.\n",
    "stars.md": "# Stars\n\nA telescope shows the moons of Jupiter and the rings of Saturn.\n",
    "ships.txt": "The ship left the harbour with a cargo of oranges.\n",
}
QUESTION = "who looks at planets"


def latebolt(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "latebolt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    path = folder.parent / "t.index"
    done = latebolt("index", path, folder)
    assert done.returncode == 0, done.stderr
    return path


def test_a_folder_is_indexed_and_searched(indexed):
    done = latebolt("search", indexed, QUESTION, "--json")
    assert done.returncode == 0, done.stderr
    first, *others = json.loads(done.stdout)
    assert len(others) == 2 and "Jupiter" in first["text"] and first["score"] > others[0]["score"]


def test_the_check_finds_it_whole(indexed):
    done = latebolt("check", indexed)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_doctor_names_the_instruction_set():
    done = latebolt("doctor", "--json")
    assert done.returncode == 0, done.stderr
    said = json.dumps(json.loads(done.stdout))
    assert platform.machine() in said
    assert ("neon_dot" in said) == ("asimddp" in Path("/proc/cpuinfo").read_text())


def test_judged_queries_are_measured_or_told_what_is_missing(tmp_path):
    """PyPI has no wheel of pytrec-eval-terrier for Linux on ARM: `latebolt eval` needs a C compiler there."""
    rows = [{"_id": name, "text": text} for name, text in TEXTS.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": QUESTION}) + "\n")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tstars.md\t1\n")
    files = ("--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--qrels", "qrels.tsv")
    done = latebolt("eval", *(tmp_path / word if "." in word else word for word in files), "--json")
    try:
        import ir_measures  # noqa: F401
    except ImportError:
        assert done.returncode and "latebolt[eval]" in done.stderr
    else:
        assert done.returncode == 0 and '"nDCG@10": 1.0' in done.stdout, done.stderr


@contextlib.contextmanager
def server(data: Path) -> Iterator[str]:
    """The URL of a server over a folder of indexes, once it says that it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "latebolt", "serve", "--data", str(data), "--port", str(port)]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while running.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/ready").status_code == 200:
                    break
            time.sleep(0.5)
        assert running.poll() is None, "the server ended"
        yield url
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait() == 0


def test_a_server_answers(tmp_path):
    documents = [{"id": name, "text": text} for name, text in TEXTS.items()]
    with server(tmp_path) as url, httpx.Client(base_url=url, timeout=None) as client:
        body = {"query": QUESTION, "documents": list(TEXTS.values()), "top_n": 1}
        [ranked] = client.post("/v1/rerank", json=body).raise_for_status().json()["results"]
        assert documents[ranked["index"]]["id"] == "stars.md"
        client.post("/v1/indexes", json={"name": "t"}).raise_for_status()
        client.post("/v1/indexes/t/documents", json={"documents": documents}).raise_for_status()
        found = client.post("/v1/indexes/t/search", json={"query": QUESTION}).raise_for_status()
        assert found.json()["hits"][0]["id"] == "stars.md"
