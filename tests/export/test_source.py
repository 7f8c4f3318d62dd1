"""Where an export starts: folders, files, and hub ids answered from a cache folder prepared here."""

from __future__ import annotations

import shutil

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.hf_api import ModelInfo

from latebolt import contract
from latebolt.errors import ExportError
from latebolt_export import export_model
from latebolt_export.source import find

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def quiet(step):
    """Progress that nobody reads."""


@pytest.fixture
def cache(make, tmp_path, monkeypatch):
    """A hub cache with `org/colbert` at COMMIT, offline."""
    folder = tmp_path / "hub" / "models--org--colbert"
    snapshot = folder / "snapshots" / COMMIT
    shutil.copytree(make("stanford"), snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_hub_id_is_exported_offline_and_its_commit_kept(cache, tmp_path):
    steps: list[str] = []
    made = export_model("org/colbert", tmp_path / "out", precisions=("fp32",), progress=steps.append)
    assert steps[0] == "fetching org/colbert"
    assert (made.source.name, made.source.revision, made.name) == ("org/colbert", COMMIT, "org/colbert")
    assert contract.read(tmp_path / "out") == made


def test_what_the_cache_lacks_is_an_error_that_says_so_when_offline(cache, tmp_path):
    with pytest.raises(
        ExportError, match=r'"org/other": no folder of that name here, and the hub is switched'
    ):
        export_model("org/other", tmp_path / "out")
    with pytest.raises(ExportError, match=r'"org/colbert": no folder'):
        find.locate("org/colbert", "a" * 40, quiet)


class Hub:
    """Stands for the network: records what is asked of it."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.asked = names, {}

    def model_info(self, api, hub_id, revision=None):
        return ModelInfo(id=hub_id, sha=COMMIT, siblings=[{"rfilename": name} for name in self.names])

    def snapshot_download(self, hub_id, revision, allow_patterns):
        self.asked = {"revision": revision, "patterns": allow_patterns}
        return f"/cache/{COMMIT}"

    def fetched(self) -> set[str]:
        wanted = huggingface_hub.utils.filter_repo_objects(self.names, allow_patterns=self.asked["patterns"])
        return set(wanted)


@pytest.fixture
def online(monkeypatch):
    def made(names: list[str]) -> Hub:
        hub = Hub(names)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            "huggingface_hub.HfApi.model_info", lambda api, *a, **k: hub.model_info(api, *a, **k)
        )
        monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
        return hub

    return made


def test_only_the_files_needed_are_fetched_at_one_commit(online):
    small = ["config.json", "tokenizer.json", "artifact.metadata", "README.md", "1_Dense/model.safetensors"]
    heavy = ["pytorch_model.bin", "onnx/model.onnx", "onnx/model.onnx_data", "tf_model.h5", "colbert.png"]
    hub = online([*small, "model.safetensors", *heavy])
    place = find.locate("org/name", "main", quiet)
    assert (place.revision, hub.asked["revision"], place.name) == (COMMIT, COMMIT, "org/name")
    assert hub.fetched() == {*small, "model.safetensors"}


def test_what_a_tokenizer_is_made_of_is_fetched_where_there_is_none(online):
    files = ["config.json", "tokenizer_config.json", "vocab.txt", "sentencepiece.bpe.model", "vocab.json"]
    hub = online([*files, "model.safetensors"])
    find.locate("org/name", None, quiet)
    assert hub.fetched() == {*files, "model.safetensors"}
    hub = online([*files, "tokenizer.json", "model.safetensors"])
    find.locate("org/name", None, quiet)
    assert hub.fetched() == {"tokenizer.json", "model.safetensors", *(f for f in files if f.endswith("json"))}


def test_pickled_weights_are_fetched_where_there_are_no_others(online):
    hub = online(["config.json", "pytorch_model.bin", "model.onnx"])
    find.locate("org/name", None, quiet)
    assert hub.fetched() == {"config.json", "pytorch_model.bin"}


def test_a_repository_of_graphs_only_gives_its_graphs(online):
    hub = online(["config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"])
    find.locate("org/name", None, quiet)
    assert hub.fetched() == {"config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"}


def test_a_folder_is_taken_before_the_hub(make, monkeypatch, tmp_path):
    make("stanford", "name")
    (tmp_path / "org").mkdir()
    shutil.move(tmp_path / "name", tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    place = find.locate("org/name", None, quiet)
    assert (place.name, place.revision) == ("name", "")


def test_neither_a_folder_nor_a_hub_id(tmp_path):
    with pytest.raises(ExportError, match="nowhere: there is no such checkpoint folder"):
        find.locate(tmp_path / "nowhere", None, quiet)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["onnx/model.onnx", "model.safetensors"], None),  # weights come first
        (["onnx/model.onnx", "onnx/model_int8.onnx"], "onnx/model.onnx"),
        (["model.onnx", "model_quantized.onnx"], "model.onnx"),
        (["vespa_colbert.onnx"], "vespa_colbert.onnx"),
        (["encoder.onnx", "encoder_fp16.onnx", "encoder_O2.onnx"], "encoder.onnx"),
        ([], None),
    ],
)
def test_which_graph_a_folder_means(tmp_path, files, expected):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert find.graph_file(tmp_path) == (tmp_path / expected if expected else None)


def test_several_graphs_are_asked_about(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(
        ExportError, match=r"holds several graphs \(a\.onnx, b\.onnx\)\. Give the path of one"
    ):
        find.graph_file(tmp_path)
    assert find.graph_file(tmp_path / "b.onnx") == tmp_path / "b.onnx"
