"""`latebolt.json`: round trip, and one clear error for each way it can be wrong."""

from __future__ import annotations

import json

import msgspec
import pytest

from latebolt import contract
from latebolt.encoder.model_folder import BUILT_IN
from latebolt.errors import ModelError


@pytest.fixture
def starter() -> contract.Contract:
    return contract.read(BUILT_IN / "starter")


def test_round_trip(starter, tmp_path):
    contract.write(starter, tmp_path)
    assert contract.read(tmp_path) == starter


def test_starter_promises_its_heads(starter):
    assert [head.dim for head in starter.heads] == [128, 96, 64]
    assert starter.head(None).dim == 128
    assert "int8" in starter.graphs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format"),
        ({"format_version": 99}, "format_version"),
        ({"heads": []}, "heads"),
        ({"graphs": {}}, "graphs"),
        ({"surprise": 1}, "surprise"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"graphs": {"int8": {"file": "../x.onnx", "bytes": 1, "sha256": ""}}}, "stay in the model folder"),
        ({"graphs": {"int3": {"file": "x.onnx", "bytes": 1, "sha256": ""}}}, "int3"),
    ],
)
def test_a_wrong_field_is_named(starter, tmp_path, change, message):
    record = json.loads(msgspec.json.encode(starter)) | change
    (tmp_path / "latebolt.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=message) as caught:
        contract.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_missing_files_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="no such model folder"):
        contract.read(tmp_path / "nothing")
    with pytest.raises(ModelError, match="latebolt export"):
        contract.read(tmp_path)
    (tmp_path / "latebolt.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"latebolt\.json"):
        contract.read(tmp_path)


def test_the_fingerprint_follows_what_vectors_depend_on(starter):
    print_128 = starter.fingerprint(128)
    assert print_128 != starter.fingerprint(64)
    assert print_128 == msgspec.structs.replace(starter, name="other", graphs={}).fingerprint(128)
    source = msgspec.structs.replace(starter.source, weights_sha256="0")
    assert print_128 != msgspec.structs.replace(starter, source=source).fingerprint(128)
    query = msgspec.structs.replace(starter.query, max_tokens=16)
    assert print_128 != msgspec.structs.replace(starter, query=query).fingerprint(128)
