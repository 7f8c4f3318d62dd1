"""`latebolt eval`, `cost` and `plan` as a person uses them: what they print, write and refuse."""

from __future__ import annotations

import json

import pytest

from in_process import latebolt

TEXTS = ["the cat sleeps", "a dog barks", "the sun shines", "rain falls"]
QUERIES = ["sleeping cat", "barking dog", "sunshine", "rainy weather"]


@pytest.fixture
def folder(tmp_path):
    """Two collections, zoo and copy, in tmp_path."""
    for name in ("zoo", "copy"):
        root = tmp_path / name
        root.mkdir()
        for file, texts in (("corpus", TEXTS), ("queries", QUERIES)):
            lines = [json.dumps({"_id": str(i), "text": text}) for i, text in enumerate(texts)]
            (root / f"{file}.jsonl").write_text("\n".join(lines))
        rows = [f"{i}\t{i}\t1\n" for i in range(4)]
        (root / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return tmp_path


def test_eval(folder):
    asked = ("eval", "en=zoo", "fr=copy", "--dims", "128,64", "--bits", "32,2", "--cache", "cache")
    done = latebolt(*asked, "--json", "--report", "report", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["model"] for row in rows] == ["BM25", *["starter"] * 4] * 2
    assert all(row["nDCG@10"] == 1 for row in rows if row.get("bits") == 32)
    assert rows[2]["vs"][1]["against"] == "starter int8, dim 128, float32"
    assert not any(vs["significant"] for row in rows for vs in row["vs"])  # four queries tell nothing
    assert "wrote report/report.html" in done.stderr
    assert (folder / "report" / "report.html").read_text().count("<svg") == 4
    kept = {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.npz")}
    assert len(kept) == 4  # queries and documents at two widths; both collections have the same texts
    shown = latebolt(*asked, "--table", "dims", cwd=folder).stdout
    assert "dim 128" in shown and "average" in shown
    shown = latebolt(*asked, "--table", "languages", "--measure", "rr@10", cwd=folder).stdout.splitlines()
    assert shown[0].split()[:3] == ["language", "collections", "model"] and "RR@10" in shown[0]
    assert [line.split()[0] for line in shown[1:]] == ["en", "fr", "average"]
    shown = latebolt(*asked, "--table", "models", cwd=folder).stdout
    assert "BM25" in shown and "starter int8, dim 128, float32" in shown
    assert kept == {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.npz")}


def test_eval_of_named_files(folder):
    files = ("--corpus", "zoo/corpus.jsonl", "--queries", "zoo/queries.jsonl", "--qrels", "zoo/qrels.tsv")
    done = latebolt("eval", *files, "--dims", "64", "--bits", "2", "--no-cache", "--json", cwd=folder)
    assert [row["collection"] for row in json.loads(done.stdout)] == ["zoo", "zoo"]
    done = latebolt("eval", *files[:4], cwd=folder)
    assert done.returncode == 2 and "go together" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a folder in BEIR layout"),
        (["zoo", "--dims", "wide"], "--dims should be numbers"),
        (["zoo", "--bits", "3"], "bits should be some of 32"),
        (["zoo", "--pools", "0"], "pools should be at least 1"),
        (["zoo", "--cache", "c", "--no-cache"], "not both"),
        (
            ["zoo", "--report", "zoo/corpus.jsonl", "--bits", "2", "--dims", "64", "--no-cache"],
            "not a folder",
        ),
    ],
)
def test_eval_of_what_cannot_be(folder, arguments, message):
    done = latebolt("eval", *arguments, cwd=folder)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_eval_of_what_is_not_there(folder):
    (folder / "empty").mkdir()
    for arguments, message in (
        (["zoo", "--dims", "100"], "no head of dim 100"),
        (["zoo", "--model", "./no"], "no such model"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["en=nowhere"], "nowhere: there is no such folder"),
        (["zoo", "empty"], "empty: should have corpus.jsonl"),
    ):
        done = latebolt("eval", *arguments, cwd=folder)
        assert done.returncode == 1 and message in done.stderr and done.stdout == ""


def test_cost():
    done = latebolt("cost", "--documents", "100M", "--dim", "64", "--bits", "2", "--quoted-bill", "1319.24")
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    cells = {tuple(cell for cell in line if cell)[0:2]: line for line in lines}
    assert "1,319.24" in cells["Qdrant float32", "128"] and "659.62" in cells["Qdrant float32", "64"]
    rows = json.loads(latebolt("cost", "--documents", "1k", "--bits", "1,8", "--json").stdout)
    assert rows[0]["bytes_per_token"] == 512 and rows[0]["usd_month"] is None and rows[0]["saving"] == 1
    assert {row["store"] for row in rows} >= {"latebolt 1 bit", "latebolt 8 bit", "PLAID 1 bit"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--documents", "many"], "--documents should be a number"),
        (["--documents", "0"], "at least one document"),
        (["--documents", "1M", "--dim", "100"], "multiples of 8"),
        (["--documents", "1M", "--bits", "3"], "bits should be some of"),
        (["--documents", "1M", "--quoted-bill", "1", "--price-gb-month", "1"], "not both"),
    ],
)
def test_cost_of_what_cannot_be(arguments, message):
    done = latebolt("cost", *arguments)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_plan():
    done = latebolt("plan", "--documents", "1M,100M", "--usd-month", "500", "--replicas", "2")
    lines = [line.split() for line in done.stdout.splitlines()]
    [head, small, large] = lines[:3]
    assert head[-3:] == ["USD", "a", "month"] and small[:1] == ["1,000,000"] and large[:1] == ["100,000,000"]
    assert any(line[:2] == ["Qdrant", "float32"] for line in lines)
    [row] = json.loads(latebolt("plan", "--documents", "1k", "--json").stdout)
    assert (row["machines"], row["shards"], row["usd_month"]) == (1, 1, None)
    assert {store["store"] for store in row["stores"]} >= {"latebolt 2 bit", "Qdrant float32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--documents", "1M,some"], "--documents should be a number"),
        (["--documents", "10M", "--p95-ms", "1"], "the least is about"),
        (["--documents", "1M", "--memory-gb", "1"], "no room for an index"),
        (["--documents", "1M", "--replicas", "0"], "at least one replica"),
    ],
)
def test_plan_of_what_cannot_be(arguments, message):
    done = latebolt("plan", *arguments)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
