"""Weight files: what is read, and what a damaged one says."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from latebolt.errors import ExportError
from latebolt_export.source.weights import read_state, read_tensors, state_sha256


@pytest.fixture
def tensors():
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def test_both_formats_and_shards_give_the_same_state(tmp_path, tensors):
    safe, pickled, sharded = (tmp_path / name for name in ("safe", "pickled", "sharded"))
    for folder in (safe, pickled, sharded):
        folder.mkdir()
    save_file(tensors, safe / "model.safetensors")
    torch.save(tensors, pickled / "pytorch_model.bin")
    for name, tensor in tensors.items():
        save_file({name: tensor}, sharded / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in tensors}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    digests = {state_sha256(read_state(folder)) for folder in (safe, pickled, sharded)}
    assert len(digests) == 1


def test_digest_sees_names_shapes_and_values(tensors):
    digest = state_sha256(tensors)
    assert state_sha256(tensors | {"a": tensors["a"].reshape(3, 2)}) != digest
    assert state_sha256(tensors | {"a": tensors["a"] + 1}) != digest
    assert state_sha256({"a": tensors["a"], "c": tensors["b"]}) != digest


def test_truncated_safetensors_is_named(tmp_path, tensors):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ExportError, match=r"model\.safetensors: .*damaged; download it again\.$"):
        read_tensors(path)


def test_truncated_bin_is_named(tmp_path, tensors):
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ExportError, match=r"pytorch_model\.bin: "):
        read_tensors(path)


def test_code_inside_a_bin_is_never_run(tmp_path):
    trap = tmp_path / "trapped"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": Trap()}, protocol=2))
    with pytest.raises(ExportError, match=r"pytorch_model\.bin: "):
        read_tensors(path)
    assert not trap.exists()


def test_a_folder_without_weights_says_which_files_were_looked_for(tmp_path):
    with pytest.raises(ExportError, match=r"has no model\.safetensors and no pytorch_model\.bin"):
        read_state(tmp_path)
