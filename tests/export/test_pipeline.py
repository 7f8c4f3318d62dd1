"""Whole exports: both layouts against plain transformers, and every way one can fail."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import sys

import numpy as np
import onnx
import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file
from small import outputs, unit, vocabulary, write_tokenizer

from latebolt import Encoder, confidence, contract
from latebolt.contract import Part
from latebolt.errors import (
    ExportError,
    InvalidInput,
    LateboltError,
    ModelError,
    RuntimeUnavailable,
    StorageFull,
)
from latebolt.formats.files import sha256
from latebolt_export import Budgets, export_model
from latebolt_export.graph import codes
from latebolt_export.judge import confidence as judge
from latebolt_export.judge import parity, texts

QUICK = {"precisions": ("fp32",)}


@pytest.fixture
def brief(monkeypatch):
    """Few texts to calibrate and to compare with, where the report's figures are not what is looked at."""
    some = texts.calibration_texts()[::4]
    monkeypatch.setattr(texts, "calibration_texts", lambda: some)
    monkeypatch.setattr(parity, "TEXTS", 12)


def test_stanford_in_every_precision(make, tmp_path, hidden_states, head, ids):
    steps: list[str] = []
    made = export_model(make("stanford"), tmp_path / "out", dims=(16, 8), name="tiny", progress=steps.append)
    out = tmp_path / "out"
    assert steps
    assert contract.read(out) == made
    assert [(h.dim, h.output) for h in made.heads] == [(16, "embeddings_16"), (8, "embeddings_8")]
    assert made.heads[1].source == "rows 0:8 of the 16 head (linear.weight)"
    assert (made.name, made.hidden_size, made.max_tokens) == ("tiny", 32, 192)
    assert {path.name for path in out.iterdir()} == {
        "latebolt.json", "tokenizer.json", "onnx", "report.json", "REPORT.md",
    }  # fmt: skip
    for one in ids:
        projected = hidden_states(one) @ head.T
        for dim in (16, 8):
            expected = unit(projected[:, :dim])
            found = {p: outputs(out, graph, one)[f"embeddings_{dim}"] for p, graph in made.graphs.items()}
            assert np.abs(found["fp32"] - expected).max() < 1e-5
            assert (found["fp16"] * expected).sum(1).min() > 0.999
            assert (found["int8"] * expected).sum(1).mean() > 0.99


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_from_checkpoint_to_vectors(name, tmp_path, head):
    family = FAMILIES[name]()
    hidden = family.config.get("hidden_size") or family.config["dim"]
    weight = torch.randn(12, hidden, generator=torch.Generator().manual_seed(3))
    source, out = tmp_path / "source", tmp_path / "out"
    family.write(source, **{"linear.weight": weight})
    write_tokenizer(source)
    (source / "artifact.metadata").write_text(json.dumps({"query_maxlen": 16, "dim": 12}))
    made = export_model(source, out, precisions=("fp32", "int8"), budgets=Budgets(int8_mean_cosine=0.9))
    assert made.parity["precisions"]["fp32"]["12"]["rank_agreement"] > 0.999
    for length in (1, 30, 300):
        ids = torch.randint(3, 90, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.inference_mode():
            expected = unit(family.reference(ids, torch.ones_like(ids))[0] @ weight.T)
        found = {p: outputs(out, g, ids[0].tolist())["embeddings_12"] for p, g in made.graphs.items()}
        assert np.abs(found["fp32"] - expected).max() < 2e-5
        assert (found["int8"] * expected).sum(1).mean() > 0.95


@pytest.mark.usefixtures("brief")
def test_contract_tells_the_truth_about_its_files(make, tmp_path):
    made = export_model(make("stanford"), tmp_path / "out", precisions=("fp32", "int8"))
    assert set(made.graphs) == {"fp32", "int8"}
    for graph in made.graphs.values():
        content = (tmp_path / "out" / graph.file).read_bytes()
        assert (graph.bytes, graph.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        onnx.checker.check_model(onnx.load_from_string(content), full_check=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["precisions"]["int8"]["heads"]["16"]["cosine_mean"] > 0.99
    assert made.parity["precisions"]["int8"]["16"] == report["precisions"]["int8"]["heads"]["16"]
    assert made.source.tools.keys() >= {"torch", "onnxruntime"}


@pytest.mark.usefixtures("brief")
def test_weights_digest_is_the_same_for_every_precision_and_differs_between_heads(make, tmp_path):
    source = make("stanford")
    digests = [
        export_model(source, tmp_path / name, precisions=(precision,)).source.weights_sha256
        for name, precision in (("a", "fp32"), ("b", "int8"))
    ]
    assert digests[0] == digests[1]
    state = load_file(source / "model.safetensors")
    state["linear.weight"][0, 0] += 1
    torch.save(state, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    assert export_model(source, tmp_path / "c", **QUICK).source.weights_sha256 != digests[0]


def test_pylate_with_two_dense_layers(make, tmp_path, hidden_states, ids):
    source = make("pylate")
    made = export_model(source, tmp_path / "out", **QUICK)
    assert made.heads[0].source == "1_Dense then 2_Dense"
    one, two = (load_file(source / f"{i}_Dense" / "model.safetensors") for i in (1, 2))
    hidden = hidden_states(ids[2])
    middle = torch.tanh(hidden @ one["linear.weight"].T) + hidden @ one["residual.weight"].T
    expected = unit(middle @ two["linear.weight"].T + two["linear.bias"])
    found = outputs(tmp_path / "out", made.graphs["fp32"], ids[2])["embeddings_16"]
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.usefixtures("brief")
def test_an_existing_folder_is_replaced_only_when_asked_and_only_a_model(make, tmp_path):
    source, out = make("stanford"), tmp_path / "out"
    export_model(source, out, **QUICK, name="first")
    with pytest.raises(ExportError, match=r"out: exists already.*overwrite=True"):
        export_model(source, out, **QUICK)
    export_model(source, out, **QUICK, name="second", overwrite=True)
    assert contract.read(out).name == "second"
    with pytest.raises(ExportError, match="is not a model folder, so it is not overwritten"):
        export_model(source, source, **QUICK, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "out"]


def failing(error):
    def raise_it(*_):
        raise error

    return raise_it


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFull),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFull),
        (OSError(errno.EFBIG, "File too large"), LateboltError),
        (OSError(errno.EROFS, "Read-only file system"), LateboltError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_nothing_is_left_when_writing_fails_and_nothing_of_the_users_goes(
    make, tmp_path, monkeypatch, error, expected
):
    source = make("stanford")
    for name in ("out.draft", "out.old.draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    export_model(source, tmp_path / "out", **QUICK, name="first")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr("latebolt_export.judge.report.write", failing(error))
    with pytest.raises(expected) as caught:
        export_model(source, tmp_path / "out", **QUICK, overwrite=True)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    monkeypatch.undo()
    export_model(source, tmp_path / "out", **QUICK, name="second", overwrite=True)
    assert contract.read(tmp_path / "out").name == "second"
    assert len(list(tmp_path.glob("*/thesis.txt"))) == 2


def test_what_a_killed_export_left_is_cleared_away_and_said(make, tmp_path):
    source, out, steps = make("stanford"), tmp_path / "out", []
    export_model(source, out, **QUICK)
    left = tmp_path / f".latebolt-draft-{'a' * 32}"
    left.mkdir()
    (left / "draft.json").write_text(json.dumps({"target": "out", "process": 1, "started": 1}))
    out.rename(left / "old")
    with pytest.raises(ExportError, match="out: exists already"):
        export_model(source, out, **QUICK, progress=steps.append)
    assert steps == [f"{out}: set aside by a process that was killed; put back"]
    assert contract.read(out) and not left.exists()


@pytest.mark.usefixtures("brief")
def test_past_a_budget_nothing_is_left(make, tmp_path):
    with pytest.raises(ExportError, match=r"int8 dim 16: .*Worst MatMuls: /encoder"):
        export_model(
            make("stanford"), tmp_path / "out", precisions=("int8",), budgets=Budgets(int8_mean_cosine=1.0)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_an_unknown_precision_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InvalidInput, match="precisions should be some of fp32, fp16, int8, got int4"):
        export_model(tmp_path / "nowhere", tmp_path / "out", precisions=("fp32", "int4"))


def test_missing_torch_is_named_with_its_pip_line(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeUnavailable, match=r"needs torch.*pip install 'latebolt\[export\]'"):
        export_model(make("stanford"), tmp_path / "out")


def test_a_disk_that_fills_while_a_graph_is_written_leaves_nothing(make, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "latebolt_export.graph.tensors.save", failing(OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(StorageFull, match="out: the disk is full, nothing was written") as caught:
        export_model(make("stanford"), tmp_path / "out", **QUICK)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.usefixtures("brief")
def test_int8_for_one_instruction_set_is_recorded(make, tmp_path):
    source = make("stanford")
    for isa, recorded in (("auto", ""), ("avx512_vnni", "avx512_vnni"), ("avx2", "avx2")):
        made = export_model(source, tmp_path / isa, precisions=("fp32", "int8"), isa=isa)
        assert (made.graphs["int8"].isa, made.graphs["fp32"].isa) == (recorded, "")
    with pytest.raises(InvalidInput, match="isa should be one of"):
        export_model(source, tmp_path / "x", isa="mips")


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("embeddings", ["int8", "int4"])
def test_the_report_says_how_the_word_table_is_kept(make, tmp_path, embeddings):
    export_model(make("stanford"), tmp_path / "out", precisions=["int8"], embeddings=embeddings)
    page = (tmp_path / "out" / "REPORT.md").read_text()
    assert f"Word table of the int8 graph: {embeddings}, " in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["word_table"] == embeddings


def test_a_vocabulary_that_lost_most_of_its_tokens_is_said_in_the_report(make, tmp_path):
    """As a download that broke off leaves vocab.txt: libraries take it, and so does the export."""
    folder = make("stanford")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()[:40]))
    export_model(folder, tmp_path / "out", precisions=["fp32"])
    rows = len(vocabulary())
    expected = f"- Vocabulary: the tokenizer knows 40 of the word table's {rows} rows; are its files whole?\n"
    assert expected in (tmp_path / "out" / "REPORT.md").read_text()


def test_a_word_table_that_cannot_have_int4_leaves_nothing(make, tmp_path, monkeypatch):
    monkeypatch.setattr(codes, "BLOCK", 1024)
    with pytest.raises(ExportError, match=r"blocks of 1024 weights"):
        export_model(make("stanford"), tmp_path / "out", precisions=["fp32", "int8"], embeddings="int4")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("brief")
def test_matmuls_stay_float_until_the_budget_is_kept(make, tmp_path):
    source = make("stanford")
    plain = export_model(source, tmp_path / "plain", precisions=("int8",))
    reached = plain.parity["precisions"]["int8"]["16"]["cosine_mean"]
    bound = reached + (1 - reached) / 5
    made = export_model(
        source, tmp_path / "finer", precisions=("int8",), budgets=Budgets(int8_mean_cosine=bound)
    )
    assert made.parity["precisions"]["int8"]["16"]["cosine_mean"] >= bound
    report = json.loads((tmp_path / "finer" / "report.json").read_text())
    assert report["float_matmuls"]
    assert "Left in float32: " in (tmp_path / "finer" / "REPORT.md").read_text()


@pytest.mark.usefixtures("brief")
def test_large_graphs_get_a_data_file(make, tmp_path, monkeypatch, ids):
    source = make("stanford")
    whole = export_model(source, tmp_path / "whole")
    monkeypatch.setattr("latebolt_export.graph.tensors.LARGE", 4096)
    monkeypatch.setattr("latebolt_export.graph.tensors.MOST_INLINE", 1)
    parted = export_model(source, tmp_path / "parted")
    for precision, graph in parted.graphs.items():
        data = tmp_path / "parted" / f"{graph.file}_data"
        assert graph.data == (Part(f"{graph.file}_data", data.stat().st_size, sha256(data)),)
        for one in ids:
            expected = outputs(tmp_path / "whole", whole.graphs[precision], one)
            found = outputs(tmp_path / "parted", graph, one)
            np.testing.assert_array_equal(found["embeddings_16"], expected["embeddings_16"])


def test_confidence_is_fitted_on_the_graphs_that_were_just_made(make, tmp_path, monkeypatch):
    folder = tmp_path / "questions"
    folder.mkdir()
    words = [f"{a} {b} {c}" for a, b, c in itertools.permutations(vocabulary()[7:15], 3)][:100]
    rows = [json.dumps({"_id": str(i), "text": text}) for i, text in enumerate(words)]
    for name in ("corpus", "queries"):  # each is answered by its like
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "qrels.tsv").write_text("\n".join(f"{i}\t{i}\t1" for i in range(100)))
    with pytest.raises(ExportError, match="score no better than others"):  # its weights are random
        export_model(make("stanford"), tmp_path / "out", calibrate=[folder], **QUICK)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(judge, "_logistic", lambda *_: np.array([-1.0, 2.0]))
    made = export_model(make("stanford", "b"), tmp_path / "out", dims=(16, 8), calibrate=[folder], **QUICK)
    found = confidence.read(tmp_path / "out")
    assert [each.fingerprint for each in found.calibrations] == [made.fingerprint(16), made.fingerprint(8)]
    assert found.fitted["collections"] == {"questions": 100}
    with Encoder.load(tmp_path / "out", threads=1) as encoder:
        assert 0 < encoder.rerank(words[0], [words[0]])[0].confidence < 1


@pytest.mark.usefixtures("brief")
def test_ndcg_of_every_head_is_measured_on_a_collection(make, tmp_path):
    pytest.importorskip("ir_measures", reason="nDCG needs pip install 'latebolt[eval]'")
    folder = tmp_path / "letters"
    folder.mkdir()
    words = ["abcabc abca", "xyz zzyx xz", "mnop ponm mm", "qrst tsrq q"]
    documents = [json.dumps({"_id": f"d{i}", "text": text}) for i, text in enumerate(words)]
    queries = [json.dumps({"_id": f"q{i}", "text": text[:5]}) for i, text in enumerate(words)]
    (folder / "corpus.jsonl").write_text("\n".join(documents))
    (folder / "queries.jsonl").write_text("\n".join(queries))
    (folder / "qrels.tsv").write_text("".join(f"q{i}\td{i}\t1\n" for i in range(4)))
    budgets = Budgets(int8_ndcg_loss=1.0)
    made = export_model(
        make("stanford"), tmp_path / "out", precisions=("fp32", "int8"), collection=folder, budgets=budgets
    )
    assert 0 < made.parity["precisions"]["fp32"]["16"]["ndcg"] <= 1
    assert "nDCG@10 on letters" in (tmp_path / "out" / "REPORT.md").read_text()
    with pytest.raises(InvalidInput, match="precisions should include fp32"):
        export_model(make("stanford", "b"), tmp_path / "x", precisions=("int8",), collection=folder)


ERRORS = {
    "truncated safetensors": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-99]),
        r"model\.safetensors: .*The file is damaged; download it again",
    ),
    "wrong head width": (
        lambda f: (f / "artifact.metadata").write_text('{"dim": 64}'),
        r"linear\.weight should have 64 rows \(artifact\.metadata: dim\), got 16",
    ),
    "missing tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
    "unsupported architecture": (
        lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'),
        'architecture "gpt2" is not supported: it is a decoder',
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_every_fault_is_one_line_and_leaves_nothing(make, tmp_path, fault):
    damage, message = ERRORS[fault]
    source = make("stanford")
    damage(source)
    with pytest.raises(ModelError, match=message) as caught:
        export_model(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
