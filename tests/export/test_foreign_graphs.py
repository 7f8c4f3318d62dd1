"""Loading somebody else's folder gives what exporting it gives, and the token ids that FastEmbed has."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from latebolt import Encoder
from latebolt.errors import ModelError
from latebolt_export import export_model

TEXTS = ["hello world", "a!b, c? (d)", "", "zebras run", "word " * 40]
SIDECAR = {
    "query_prefix": "[Q] ",
    "document_prefix": "[D] ",
    "query_length": 20,
    "document_length": 30,
    "do_query_expansion": True,
    "embedding_dim": 16,
    "mask_token_id": 6,
    "skiplist_words": ["!", ","],
    "do_lower_case": True,
}


@pytest.fixture(params=("stanford", "next-plaid"))
def folder(request, foreign, monkeypatch, tmp_path):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    if request.param == "next-plaid":
        (foreign / "artifact.metadata").unlink()
        (foreign / "config.json").unlink()
        (foreign / "onnx_config.json").write_text(json.dumps(SIDECAR))
    return foreign


def test_a_folder_loads_as_its_export_does(folder, tmp_path):
    """Its graph takes token types and leaves its vectors as long as they are."""
    export_model(folder, tmp_path / "out", precisions=("fp32",))
    given, made = Encoder.load(folder, threads=1), Encoder.load(tmp_path / "out", threads=1)
    for encode in ("encode_documents", "encode_queries"):
        found, expected = getattr(given, encode)(TEXTS), getattr(made, encode)(TEXTS)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-5)
    assert (given.contract.query, given.contract.document) == (made.contract.query, made.contract.document)
    assert given.fingerprint == made.fingerprint  # so an index may be searched with either


def test_quantised_and_halved_graphs_load_as_they_are(folder):
    whole = Encoder.load(folder, threads=1).encode_documents(TEXTS)
    quantize_dynamic(folder / "model.onnx", folder / "model_int8.onnx", weight_type=QuantType.QInt8)
    half = onnx.load(folder / "model.onnx")
    name = half.graph.output[0].name
    half.graph.node.append(onnx.helper.make_node("Cast", [name], ["half"], to=onnx.TensorProto.FLOAT16))
    half.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("half", onnx.TensorProto.FLOAT16, ["batch", "tokens", "width"])
    )
    (folder / "onnx").mkdir()
    onnx.save(half, folder / "onnx" / "model_fp16.onnx")
    assert Encoder.load(folder).precision == "int8"
    for precision, least in (("int8", 0.98), ("fp16", 0.99999)):
        vectors = Encoder.load(folder, precision, threads=1).encode_documents(TEXTS)
        assert vectors.values.dtype == np.float32
        assert (vectors.values * whole.values).sum(1).min() > least


def test_each_graph_has_a_print_of_its_own(folder):
    shutil.copy(folder / "model.onnx", folder / "model_fp16.onnx")
    with (folder / "model_fp16.onnx").open("ab") as file:
        file.write(b"\x9a\x06\x01x")  # field 99, which protobuf readers skip
    prints = [Encoder.load(folder, precision).fingerprint for precision in ("fp32", "fp16")]
    assert prints[0] != prints[1]


def test_a_graph_whose_data_lies_in_the_hubs_cache_loads(folder, tmp_path):
    """The hub's snapshots hold links; ONNX Runtime must find the weights through them."""
    expected = Encoder.load(folder, threads=1).encode_documents(TEXTS)
    model = onnx.load(folder / "model.onnx")
    location = "model.onnx_data"
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location=location, size_threshold=64)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "commit"
    shutil.copytree(folder, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    encoder = Encoder.load(snapshot, threads=1)
    assert [part.file for part in encoder.contract.graphs["fp32"].parts] == ["model.onnx", location]
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS).values, expected.values)
    before = encoder.fingerprint
    with (blobs / location).open("ab") as file:
        file.write(b"more")
    assert Encoder.load(snapshot).fingerprint != before


def test_inputs_of_another_kind_are_named(foreign):
    model = onnx.load(foreign / "model.onnx")
    model.graph.input[2].name = "position_ids"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "token_type_ids":
                node.input[i] = "position_ids"
    onnx.save(model, foreign / "model.onnx")
    with pytest.raises(ModelError, match=r"got input_ids .*position_ids tensor") as caught:
        Encoder.load(foreign)
    assert "\n" not in str(caught.value)


@pytest.fixture
def fastembed(foreign):
    """FastEmbed's own late-interaction class over the folder, whose graph it could not give token types."""
    model = onnx.load(foreign / "model.onnx")
    del model.graph.input[2]
    zeros = onnx.helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"], "no_types")
    model.graph.node.insert(0, zeros)
    onnx.save(model, foreign / "model.onnx")
    colbert = pytest.importorskip("fastembed.late_interaction.colbert")
    settings = json.loads((foreign / "tokenizer_config.json").read_text())
    (foreign / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 91}))
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    (foreign / "special_tokens_map.json").write_text(json.dumps(special))
    # FastEmbed always fills queries up to 32 tokens, and lets documents be as long as the tokenizer takes.
    (foreign / "artifact.metadata").write_text(json.dumps({"query_maxlen": 32, "doc_maxlen": 91, "dim": 16}))
    return colbert.Colbert("colbert-ir/colbertv2.0", threads=1, specific_model_path=str(foreign))


def test_token_ids_and_vectors_are_fastembeds(fastembed, foreign):
    encoder = Encoder.load(foreign, threads=1)
    for kind, is_document in (("document", True), ("query", False)):
        for text, ours in zip(TEXTS, encoder._text.tokenize(TEXTS, kind), strict=True):
            theirs = fastembed.onnx_embed([text], is_doc=is_document)
            row = theirs.input_ids[0]
            if not is_document and len(row) > 32:  # FastEmbed does not cut queries; the checkpoint does
                continue
            np.testing.assert_array_equal(ours.ids, row)
            np.testing.assert_array_equal(np.arange(len(row)) < ours.attended, theirs.attention_mask[0] == 1)
    for text, vectors in zip(TEXTS, fastembed.embed(TEXTS, batch_size=1), strict=True):
        found = encoder.encode_documents([text])[0]
        np.testing.assert_allclose(found, vectors, rtol=0, atol=1e-5)
