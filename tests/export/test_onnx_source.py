"""Graphs that others exported: every known folder layout, and no torch in the process."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small import outputs, unit

from latebolt.contract import Expansion, TextRules
from latebolt.errors import ExportError, InvalidInput, ModelError
from latebolt_export import export_model


@pytest.fixture
def folder(foreign):
    return foreign


def check(out, made, head, hidden_states, ids):
    for one in ids:
        projected = hidden_states(one) @ head.T
        for dim in (16, 8):
            found = {p: outputs(out, g, one)[f"embeddings_{dim}"] for p, g in made.graphs.items()}
            expected = unit(projected[:, :dim])
            assert np.abs(found["fp32"] - expected).max() < 1e-5
            assert (found["fp16"] * expected).sum(1).min() > 0.999
            assert (found["int8"] * expected).sum(1).mean() > 0.99


def test_fastembed_folder(folder, tmp_path, head, hidden_states, ids):
    made = export_model(folder, tmp_path / "out", dims=(16, 8))
    check(tmp_path / "out", made, head, hidden_states, ids)
    assert made.heads[1].source == "rows 0:8 of the 16 head (output contextual)"
    assert (made.query.max_tokens, made.document.max_tokens, made.max_tokens) == (16, 90, 192)
    assert (made.name, made.hidden_size) == ("colbert-onnx", 32)
    page = (tmp_path / "out" / "REPORT.md").read_text()
    assert page.startswith("# colbert-onnx: parity with the original graph")
    kinds = {node.op_type for node in onnx.load(tmp_path / "out" / "onnx" / "model.onnx").graph.node}
    assert "If" in kinds  # its attention was fused, and has the mask-free way
    assert not {"Softmax", "Erf"} & kinds


def test_hub_layout_and_a_file_given_by_path(folder, tmp_path):
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    whole = export_model(folder, tmp_path / "a", precisions=("fp32",))
    alone = export_model(folder / "onnx" / "model.onnx", tmp_path / "b", precisions=("fp32",))
    assert whole.source.weights_sha256 == alone.source.weights_sha256
    assert (whole.query, whole.document) == (alone.query, alone.document)


def test_next_plaid_sidecar(folder, tmp_path):
    (folder / "artifact.metadata").unlink()
    sidecar = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 20, "document_length": 80}
    sidecar |= {"do_query_expansion": True, "embedding_dim": 16, "mask_token_id": 6, "skiplist_words": ["!"]}
    (folder / "onnx_config.json").write_text(json.dumps(sidecar))
    made = export_model(folder, tmp_path / "out", precisions=("fp32",))
    # Its runtime attends to expansion tokens always.
    assert made.query == TextRules(20, marker=91, expansion=Expansion(6, attend=True))
    assert made.document == TextRules(80, marker=92, skiplist=(59,))


def test_external_data_is_read_and_large_constants_stay_out_of_memory(folder, tmp_path, monkeypatch):
    model = onnx.load(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=64,
    )
    monkeypatch.setattr("latebolt_export.graph.tensors.LARGE", 4096)
    made = export_model(folder, tmp_path / "out", precisions=("fp32", "int8"))
    assert set(made.graphs) == {"fp32", "int8"}


def test_no_torch_is_loaded(folder, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['optimum'] = None; "
        "from latebolt_export import export_model; "
        f"export_model({str(folder)!r}, {str(tmp_path / 'out')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "out" / "onnx" / "model_int8.onnx").is_file()


def test_a_head_cannot_be_added(folder, tmp_path):
    with pytest.raises(InvalidInput, match="an ONNX graph has its head inside"):
        export_model(folder, tmp_path / "out", head=tmp_path / "head.safetensors")


def damage(folder, change):
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.save(model, folder / "model.onnx")


def rename_input(model):
    model.graph.input[2].name = "position_ids"


def flatten_output(model):
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("contextual", TensorProto.FLOAT, ["n", 16]))


def quantised(model):
    model.graph.node.append(helper.make_node("MatMulInteger", ["a", "b"], ["c"], "q"))


def halved(model):
    model.graph.initializer.append(helper.make_tensor("h", TensorProto.FLOAT16, [1], [1.0]))


def old(model):
    model.opset_import[0].version = 9


FAULTS = {
    "cut": (
        lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:-100]),
        "cannot be read as ONNX",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
    "no rules": (lambda f: (f / "artifact.metadata").unlink(), r"has none of artifact\.metadata, config_sen"),
    "other width": (
        lambda f: (f / "artifact.metadata").write_text('{"dim": 24}'),
        "16 wide, but the folder says 24",
    ),
    "inputs": (
        lambda f: damage(f, rename_input),
        "has inputs input_ids, attention_mask, position_ids, expected",
    ),
    "output": (lambda f: damage(f, flatten_output), r"has no output \[batch, tokens, dim\]"),
    "quantised": (lambda f: damage(f, quantised), r"is quantised already \(MatMulInteger\)"),
    "half": (lambda f: damage(f, halved), "holds float16 weights"),
    "old": (lambda f: damage(f, old), "opset 9, at least 11"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_gets_one_line_that_names_the_fault(folder, tmp_path, fault):
    change, message = FAULTS[fault]
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        export_model(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_widths_beyond_the_graphs_are_refused(folder, tmp_path):
    with pytest.raises(ExportError, match="multiples of 4 up to 16, the graph's width, got 32"):
        export_model(folder, tmp_path / "out", dims=(32,))
