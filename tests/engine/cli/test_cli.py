"""The command line as a person uses it: its output, its exit code, and its messages.

Of a process where a start, a signal or a pipe matters.
"""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from in_process import latebolt, until_it_works
from latebolt import Index, TokenVectors
from latebolt.kernels import native

TEXTS = {
    "zip.txt": "The zipfile module reads and writes ZIP archives.\n\nUse ZipFile.extractall to unpack one.\n",
    "split.md": "# Splitting\n\nstr.split cuts a string at whitespace.\n",
}


def started(*arguments: str, stdin: str | None = None, cwd=None) -> subprocess.CompletedProcess:
    """In a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "latebolt", *arguments], capture_output=True, text=True, input=stdin, cwd=cwd
    )


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def index(tmp_path, notes):
    done = latebolt("index", "notes.index", "notes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / "notes.index"


def test_index_search_info_check_compact(index, tmp_path):
    done = started("search", str(index), "how do I unpack an archive", "--explain")
    assert done.returncode == 0 and "notes/zip.txt" in done.stdout.splitlines()[0]
    assert "->" in done.stdout and "score exactly: " in done.stderr and "loading: " in done.stderr
    found = json.loads(started("search", str(index), "unpack", "-k", "1", "--explain", "--json").stdout)
    assert found["hits"][0]["matches"][0]["query_word"] == "unpack" and found["load_ms"] > 0
    assert found["stages"][0]["name"] == "encode the query"
    done = started("search", str(index), "extractall", "--mode", "bm25", "--json")
    assert [hit["id"] for hit in json.loads(done.stdout)] == ["notes/zip.txt"]
    assert started("search", str(index), "unzip", "--mode", "hybrid").stdout.count("notes/") == 2
    hits = json.loads(started("search", str(index), "cut a string", "-k", "1", "--json").stdout)
    assert [hit["id"] for hit in hits] == ["notes/split.md"] and hits[0]["metadata"] == {
        "file": "notes/split.md"
    }
    assert started("search", str(index), "x", "--where", 'file = "nothing"').stdout == ""
    info = json.loads(started("info", str(index), "--json").stdout)
    assert info["documents"] == 2 and info["model"] == "starter"
    assert "documents" in started("info", str(index)).stdout
    assert started("check", str(index)).returncode == 0
    assert started("compact", str(index)).returncode == 0
    assert started("index", str(index), "-", stdin="a new line\nanother one\n").returncode == 0


def test_long_files_are_found_by_their_passages(tmp_path):
    (tmp_path / "long.txt").write_text("The minutes of the meeting were read. " * 90 + "A volcano erupted.")
    (tmp_path / "cat.txt").write_text("a kitten sleeps")
    asked = ("--passage-tokens", "40", "--passage-overlap", "8")
    done = latebolt("index", "i", "long.txt", "cat.txt", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [hit] = json.loads(latebolt("search", "i", "volcano", "-k", "1", "--json", cwd=tmp_path).stdout)
    assert hit["id"] == "long.txt" and "volcano" in hit["text"] and len(hit["text"]) < 400
    shown = latebolt("info", "i", cwd=tmp_path).stdout
    assert "documents   2 " in shown and "of at most 40 tokens, 8 of them shared" in shown
    assert latebolt("index", "i", "long.txt", "--passage-tokens", "40", cwd=tmp_path).returncode == 0
    info = json.loads(latebolt("info", "i", "--json", cwd=tmp_path).stdout)
    assert info["documents"] == 2 and info["passages"] > 20
    done = latebolt("index", "i", "cat.txt", "--passage-overlap", "9", cwd=tmp_path)
    assert done.returncode == 2 and "passage_overlap 8" in done.stderr
    done = latebolt("index", "i", "cat.txt", "--late-chunking", cwd=tmp_path)
    assert done.returncode == 2 and "--late-chunking fits only a new index" in done.stderr


def test_late_chunking_is_asked_for_once(tmp_path):
    (tmp_path / "long.txt").write_text("The minutes of the meeting were read. " * 90 + "A volcano erupted.")
    assert latebolt("index", "i", "long.txt", "--late-chunking", cwd=tmp_path).returncode == 0
    info = json.loads(latebolt("info", "i", "--json", cwd=tmp_path).stdout)
    assert info["late_chunking"] and info["passage_tokens"] == 250 and info["passages"] == 4
    assert "encoded within the text around them" in latebolt("info", "i", cwd=tmp_path).stdout
    for again in ((), ("--late-chunking",)):
        assert latebolt("index", "i", "long.txt", *again, cwd=tmp_path).returncode == 0
    [hit] = json.loads(latebolt("search", "i", "volcano", "-k", "1", "--json", cwd=tmp_path).stdout)
    assert "volcano" in hit["text"]
    # A copy is as the index is, if nothing else is said.
    for name, asked, late in (
        ("c", (), True),
        ("n", ("--no-late-chunking",), False),
        ("w", ("--whole",), False),
    ):
        assert latebolt("copy", "i", name, *asked, cwd=tmp_path).returncode == 0
        info = json.loads(latebolt("info", name, "--json", cwd=tmp_path).stdout)
        assert info["late_chunking"] == late and (info["passages"] == 4) == (name != "w")


def test_pooling_is_asked_for_once(tmp_path):
    (tmp_path / "a.txt").write_text("The minutes of the meeting were read. " * 20 + "A volcano erupted.")
    run = functools.partial(latebolt, cwd=tmp_path)
    assert run("index", "whole", "a.txt").returncode == 0
    assert run("index", "i", "a.txt", "--pool-factor", "2", "--max-vectors", "60").returncode == 0

    def info(name):
        found = json.loads(run("info", name, "--json").stdout)
        return found["pool_factor"], found["max_vectors"], found["tokens"]

    whole = info("whole")
    assert whole[:2] == (1, None) and info("i") == (2, 60, 60) and whole[2] > 120
    assert "pooled      one vector of about 2 and at most 60 of a text is kept" in run("info", "i").stdout
    assert "pooled" not in run("info", "whole").stdout
    (tmp_path / "b.txt").write_text("The bread of the committee. " * 40)
    assert run("index", "i", "b.txt", "--pool-factor", "2").returncode == 0
    assert info("i") == (2, 60, 120)
    for asked, told in (
        (("i", "--pool-factor", "1"), "has pool_factor 2; --pool-factor 1 fits only a new index"),
        (("i", "--max-vectors", "61"), "has max_vectors 60; --max-vectors 61 fits only a new index"),
        (("whole", "--max-vectors", "61"), "has max_vectors None; --max-vectors 61 fits only a new index"),
        (("new", "--max-vectors", "1"), "max_vectors should be an int in"),
    ):
        done = run("index", asked[0], "a.txt", *asked[1:])
        assert done.returncode == 2 and told in done.stderr
    assert not (tmp_path / "new").exists()
    # A copy is as the index is, if nothing else is said.
    for name, asked, expected in (
        ("c", (), (2, 60)),
        ("d", ("--max-vectors", "9"), (2, 9)),
        ("e", ("--pool-factor", "1"), (1, 60)),
        ("f", ("--unpooled",), (1, None)),
    ):
        assert run("copy", "i", name, *asked).returncode == 0
        assert info(name)[:2] == expected
    done = run("copy", "i", "g", "--unpooled", "--max-vectors", "9")
    assert done.returncode == 2 and "not both" in done.stderr
    assert run("encode", "a.txt", "v.npz", "--max-vectors", "9").returncode == 0
    assert np.load(tmp_path / "v.npz")["offsets"].tolist() == [0, 9]


def test_jsonl_and_standard_input(tmp_path):
    lines = [json.dumps({"id": str(i), "text": f"text {i}", "year": 2000 + i}) for i in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert (
        latebolt(
            "index", str(tmp_path / "i"), str(tmp_path / "a.jsonl"), "--dim", "64", "--bits", "1"
        ).returncode
        == 0
    )
    hits = json.loads(
        latebolt("search", str(tmp_path / "i"), "text", "--where", "year >= 2003", "--json").stdout
    )
    assert {hit["id"] for hit in hits} == {"3", "4"} and hits[0]["metadata"]["year"] >= 2003
    done = latebolt("index", str(tmp_path / "j"), "-", "--json", stdin="one line\nanother line\n")
    assert json.loads(done.stdout)["added"] == 2


def test_ids_for_some_documents_only(tmp_path):
    lines = [json.dumps({"id": "a", "text": "one"}), json.dumps({"text": "two"})]
    for order in (lines, lines[::-1]):
        done = latebolt("index", str(tmp_path / "i"), "-", stdin="\n".join(order))
        assert done.returncode == 2 and "some have none" in done.stderr and not (tmp_path / "i").exists()


def test_rerank_and_encode(tmp_path):
    passages = "a volcano in Antarctica\nBerlin has 3.85 million inhabitants\n"
    done = latebolt("rerank", "population of Berlin", "-", "-k", "1", "--json", stdin=passages)
    assert [hit["id"] for hit in json.loads(done.stdout)] == [1]
    (tmp_path / "p.txt").write_text(passages)
    assert "Berlin" in latebolt("rerank", "population of Berlin", str(tmp_path / "p.txt")).stdout
    assert latebolt("encode", str(tmp_path / "p.txt"), str(tmp_path / "p.npz"), "--dim", "96").returncode == 0
    with np.load(tmp_path / "p.npz") as stored:
        assert stored["values"].shape[1] == 96 and len(stored["offsets"]) == 3 and len(stored["ids"]) == 2


def test_help_and_version_teach():
    assert "demo" in started("--help").stdout and "latebolt, version" in started("--version").stdout
    for command in (
        "demo",
        "export",
        "index",
        "search",
        "rerank",
        "encode",
        "eval",
        "cost",
        "plan",
        "doctor",
        "check",
    ):
        assert f"latebolt {command}" in latebolt(command, "--help").stdout


def test_doctor():
    report = json.loads(started("doctor", "--json").stdout)
    assert (
        report["kernels"]["instruction set"] and "CPUExecutionProvider" in report["onnxruntime"]["providers"]
    )
    assert report["process"]["torch imported"] is False
    assert report["model"]["a gpu takes"].startswith("nothing: int8 is made for CPUs")
    assert report["gpu"]["usable"] or report["gpu"]["problems"]


def test_doctor_names_the_kernels_that_searches_ask_for(tmp_path, rng, monkeypatch, pruned):
    known = {name for name in json.loads(started("doctor", "--json").stdout)["kernels"] if ":" in name}
    asked, real = set(), native.kernel
    monkeypatch.setattr(native, "kernel", lambda name: asked.add(name) or real(name))
    index = Index.create(tmp_path / "i", None, dim=64)
    index.add_vectors(None, TokenVectors(rng.unit(40_000, 64), np.arange(0, 40_001, 20)))
    for n_query in range(1, 33):
        index.search_vectors(rng.unit(n_query, 64))
    shaped = {name for name in asked if ":" in name}
    assert shaped <= known
    residual = {name for name in shaped if name.startswith("maxsim_residual:64x2")}
    assert residual == {name for name in known if name.startswith("maxsim_residual:64x2")}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["index", "i", "missing.txt"], 1, "missing.txt: there is no such file"),
        (["index", "i", "empty.txt"], 2, "empty.txt: is empty"),
        (["index", "i", "latin.txt"], 2, "latin.txt: is not UTF-8 at byte 3"),
        (["index", "i", "bad.jsonl"], 2, "bad.jsonl:2: is not JSON"),
        (["index", "i", "notext.jsonl"], 2, 'notext.jsonl:1: has no "text" field'),
        (["index", "i", "picture.png"], 2, "picture.png: is not a .txt"),
        (["index", "i", "empty_folder"], 2, "empty_folder: has no"),
        (["index", "i", "good.txt", "--model", "no-model"], 1, "no-model: there is no such model folder"),
        (["index", "i", "good.txt", "--model", "empty_folder"], 1, "has no latebolt.json"),
        (["index", "i", "good.txt", "--dim", "100"], 1, "128, 96, 64"),
        (["index", "good.txt", "good.txt"], 1, "good.txt"),
        (["search", "nothing", "query"], 1, "nothing"),
        (["rerank", "", "good.txt"], 2, "query is empty"),
        (["rerank", "query", "missing.txt"], 1, "missing.txt"),
        (["rerank", "query", "empty.txt"], 2, "empty.txt: is empty"),
        (["encode", "good.txt", "no/such/folder/out.npz"], 1, "out.npz"),
        (["search"], 2, "Missing argument"),
        (["search", "i", "q", "-k", "0"], 2, "-k"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_misuse_gets_one_line_and_a_code(tmp_path, arguments, code, message):
    (tmp_path / "good.txt").write_text("a good text")
    (tmp_path / "empty.txt").write_text("  \n")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin1"))
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "notext.jsonl").write_text('{"title": "a"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty_folder").mkdir()
    done = latebolt(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 or "Usage:" in done.stderr
    assert not (tmp_path / "i").exists()


def test_searching_an_index_for_nothing(index):
    done = latebolt("search", str(index), "  ")
    assert done.returncode == 2 and "query is empty" in done.stderr


def test_an_index_of_another_model(index, tmp_path):
    (tmp_path / "new.txt").write_text("new")
    done = latebolt("index", str(index), str(tmp_path / "new.txt"), "--dim", "64")
    assert done.returncode == 1 and "dim 128" in done.stderr
    done = latebolt("index", str(index), str(tmp_path / "new.txt"), "--bits", "4")
    assert done.returncode == 2 and "--bits 4" in done.stderr


def test_a_damaged_index_is_found(index):
    [codes] = list(index.rglob("values*.npy"))
    data = bytearray(codes.read_bytes())
    data[-1] ^= 1
    codes.write_bytes(data)
    done = latebolt("check", str(index))
    assert done.returncode == 1 and codes.name in done.stdout


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGKILL))
def test_stopping_while_indexing_leaves_the_last_commit(index, tmp_path, number):
    big = tmp_path / "big.txt"
    big.write_text("\n\n".join(f"passage {i}: " + "some words to encode " * 40 for i in range(4000)))
    running = subprocess.Popen(
        [sys.executable, "-m", "latebolt", "index", str(index), str(big)], stderr=subprocess.PIPE, text=True
    )
    until_it_works(running)
    running.send_signal(number)
    message = running.communicate(timeout=60)[1]
    if number == signal.SIGINT:
        assert running.returncode == 130 and "interrupted" in message and "Traceback" not in message
    assert json.loads(latebolt("info", str(index), "--json").stdout)["documents"] == 2
    assert latebolt("check", str(index)).returncode == 0
    (tmp_path / "new.txt").write_text("a new text")
    assert latebolt("index", str(index), str(tmp_path / "new.txt")).returncode == 0


def test_two_writers_at_once(index, tmp_path):
    from latebolt.index.store.store import Store

    (tmp_path / "new.txt").write_text("a new text")
    with Store.open(index).writer():
        done = started("index", str(index), str(tmp_path / "new.txt"))
    assert done.returncode == 1 and "another writer" in done.stderr
    assert latebolt("index", str(index), str(tmp_path / "new.txt")).returncode == 0


def test_a_reader_of_our_output_may_go_away(index):
    done = subprocess.run(
        f"{sys.executable} -m latebolt search {index} archive --explain | head -n 1",
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr
