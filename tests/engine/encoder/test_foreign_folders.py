"""Folders that others made, loaded without an export: the starter's own graph in their layouts."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from latebolt import Encoder, Index
from latebolt import contract as contracts
from latebolt.contract import Part
from latebolt.encoder.model_folder import find
from latebolt.errors import ModelError, ModelMismatch

TEXTS = ["a cat", "the population of Berlin, in thousands.", "Zip files?"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stanford's layout around the starter's int8 graph."""
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    starter = find("starter")
    made = tmp_path / "colbert"
    made.mkdir()
    shutil.copy(starter.tokenizer_file, made / "tokenizer.json")
    shutil.copy(starter.path / "onnx" / "model_int8.onnx", made / "model_int8.onnx")
    (made / "artifact.metadata").write_text(json.dumps({"dim": 96, "mask_punctuation": False}))
    return made


def test_the_output_of_the_folders_width_is_taken(folder):
    encoder, starter = Encoder.load(folder), Encoder.load("starter", dim=96)
    assert (encoder.precision, encoder.dim, encoder.model) == ("int8", 96, str(folder))
    vectors = encoder.encode_documents(TEXTS)
    ids = encoder._text.tokenize(TEXTS, "document")
    # The same graph, with [unused1] behind [CLS]: the session's own run of these ids says what to expect.
    for i, each in enumerate(ids):
        assert each.ids[:2].tolist() == [101, 2]
        expected = starter._session(1).run(each.ids, each.attended)
        np.testing.assert_allclose(vectors[i], expected, atol=1e-6)
    assert encoder.encode_queries(["cat"]).n_tokens == 32


def test_lengths_are_one_even_where_the_graph_leaves_them(folder):
    values = Encoder.load(folder).encode_documents(TEXTS).values
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)


def test_another_width_is_refused_and_the_folders_named(folder):
    with pytest.raises(ModelError, match=r"no head of dim 64\. Choose one of: 96"):
        Encoder.load(folder, dim=64)
    (folder / "artifact.metadata").write_text('{"dim": 384}')
    message = r"should be \[batch, tokens, 384\], got embeddings_128 .*lacks its projection.*latebolt export"
    with pytest.raises(ModelError, match=message):
        Encoder.load(folder)


def test_case_is_folded_where_the_folder_says_so(folder):
    (folder / "artifact.metadata").unlink()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "embedding_dim": 128}
    ids = {}
    for lower in (True, False):
        (folder / "onnx_config.json").write_text(json.dumps(settings | {"do_lower_case": lower}))
        encoder = Encoder.load(folder)
        ids[lower] = encoder._text.tokenize(["BERLIN"], "document")[0].ids.tolist()
        spans = encoder.spans("İ BERLIN", "document")
        if lower:
            assert (2, 8) in spans  # of the text as it was given
    assert ids[True] == [101, 2, 4068, 102] != ids[False]


def test_an_index_finds_its_model_again(folder, tmp_path):
    Index.create(tmp_path / "index", Encoder.load(folder)).add(TEXTS)
    assert Index.open(tmp_path / "index").search("cat", k=1)[0].text == "a cat"
    (folder / "artifact.metadata").write_text(json.dumps({"dim": 96, "doc_maxlen": 100}))
    with pytest.raises(ModelMismatch):
        Index.open(tmp_path / "index").search("cat")


def test_the_print_follows_the_graph_and_the_rules(folder):
    before = Encoder.load(folder).fingerprint
    assert Encoder.load(folder).fingerprint == before
    moved = shutil.copytree(folder, folder.with_name("moved"))
    assert Encoder.load(moved).fingerprint == before
    with (folder / "model_int8.onnx").open("ab") as file:
        file.write(b"\x9a\x06\x01x")  # field 99, which protobuf readers skip
    assert Encoder.load(folder).fingerprint != before


def test_a_missing_precision_is_named(folder):
    with pytest.raises(ModelError, match=r"has no fp32 graph\. Choose one of: int8"):
        Encoder.load(folder, precision="fp32")


def test_every_file_of_a_graph_is_looked_for(folder):
    found = find(folder)
    (folder / "model_int8.onnx").unlink()
    with pytest.raises(ModelError, match=r"model_int8\.onnx: a file of the int8 graph is missing\. Download"):
        found.graph_file("int8")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A hub cache with the small files of `org/colbert`, and a hub that gives what is asked of it."""
    from huggingface_hub import constants
    from huggingface_hub.utils import filter_repo_objects

    snapshot = tmp_path / "hub" / "models--org--colbert" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for extra in ("model.onnx", "model.onnx_data", "README.md", "model.safetensors"):
        (folder / extra).write_bytes(b"large")
    names = sorted(file.name for file in folder.iterdir())
    fake = SimpleNamespace(names=names, fetched=[])

    def snapshot_download(hub_id, revision, allow_patterns):
        wanted = list(filter_repo_objects(names, allow_patterns=allow_patterns))
        fake.fetched.append(wanted)
        for name in wanted:
            shutil.copy(folder / name, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, hub_id, revision: names)
    return fake


def test_only_the_graph_asked_for_is_fetched(hub):
    encoder = Encoder.load("org/colbert")
    assert hub.fetched == [["artifact.metadata", "tokenizer.json"], ["model_int8.onnx"]]
    assert encoder.model == "org/colbert" and encoder.contract.source.revision == COMMIT
    find("org/colbert").graph_file("fp32")
    assert hub.fetched[-1] == ["model.onnx", "model.onnx_data"]


def test_what_was_fetched_loads_again_offline(hub, monkeypatch):
    from huggingface_hub import constants

    online = Encoder.load("org/colbert")
    monkeypatch.undo()  # the real huggingface_hub again, with the cache as it is now
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(online.folder.path.parents[2]))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = Encoder.load("org/colbert")
    np.testing.assert_array_equal(
        offline.encode_documents(TEXTS).values, online.encode_documents(TEXTS).values
    )
    assert list(offline.contract.graphs) == ["int8"]


def test_of_an_exported_model_one_graph_is_fetched_too(hub, folder):
    exported = contracts.read(find("starter").path)
    graph = exported.graphs["int8"]
    large = msgspec.structs.replace(graph, file="model.onnx", bytes=5, data=(Part("model.onnx_data", 5, ""),))
    graphs = {"int8": msgspec.structs.replace(graph, file="model_int8.onnx"), "fp32": large}
    contracts.write(msgspec.structs.replace(exported, graphs=graphs), folder)
    hub.names.append("latebolt.json")
    encoder = Encoder.load("org/colbert")
    assert hub.fetched == [["artifact.metadata", "tokenizer.json", "latebolt.json"], ["model_int8.onnx"]]
    assert encoder.fingerprint == Encoder.load("starter").fingerprint
    assert find("org/colbert").graph_file("fp32")[0].name == "model.onnx"
    assert hub.fetched[-1] == ["model.onnx", "model.onnx_data"]


def test_data_beside_a_graph_must_have_its_size(folder):
    exported = contracts.read(find("starter").path)
    graph = msgspec.structs.replace(
        exported.graphs["int8"], file="model_int8.onnx", data=(Part("model_int8.onnx_data", 9, ""),)
    )
    contracts.write(msgspec.structs.replace(exported, graphs={"int8": graph}), folder)
    with pytest.raises(ModelError, match=r"onnx_data: a file of the int8 graph is missing\. Export"):
        Encoder.load(folder)
    (folder / "model_int8.onnx_data").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"onnx_data: should have 9 bytes, got 5"):
        Encoder.load(folder)
