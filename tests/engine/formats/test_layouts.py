"""What folders that others made say of their models: every layout's rules, and one clear error a fault."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from latebolt import caches
from latebolt.contract import Expansion, Part, TextRules
from latebolt.encoder.model_folder import find
from latebolt.errors import ModelError
from latebolt.formats import digests, graphs
from latebolt.formats.folder import derive

MASK, UNUSED0, UNUSED1, COMMA, POINT = 103, 1, 2, 1010, 1012  # bert-base-uncased
PUNCTUATION = {*range(999, 1014), *range(1024, 1031), *range(1031, 1037), *range(1063, 1067)}


@pytest.fixture
def folder(tmp_path):
    """The starter's tokenizer beside a graph that is never opened."""
    shutil.copy(find("starter").tokenizer_file, tmp_path / "tokenizer.json")
    (tmp_path / "model.onnx").touch()
    config = {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def write(folder, name, **settings):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(settings))


def derived(folder):
    return derive(folder, graphs.listing(folder), "model")


def test_stanford(folder):
    write(folder, "artifact.metadata", dim=96, query_maxlen=24, doc_maxlen=9999, attend_to_mask_tokens=True)
    found = derived(folder)
    expansion = Expansion(MASK, attend=True)
    assert found.query == TextRules(24, marker=UNUSED0, expansion=expansion, swaps=((0, MASK),))
    assert (found.document.max_tokens, found.document.marker) == (512, UNUSED1)
    assert set(found.document.skiplist) == {0} | PUNCTUATION
    assert [head.dim for head in found.heads] == [96]
    assert (found.architecture, found.hidden_size, found.max_tokens) == ("bert", 384, 512)


def test_pylate(folder):
    prefixes = {"query_prefix": "[unused0]", "document_prefix": "[unused1]"}
    prompts = {"prompts": {"a": "find: "}, "default_prompt_name": "a"}
    write(folder, "config_sentence_transformers.json", **prefixes, **prompts)
    transformer = "sentence_transformers.models.Transformer"
    dense = [{"path": "", "type": transformer}, {"path": "1_Dense", "type": "pylate.models.Dense.Dense"}]
    (folder / "modules.json").write_text(json.dumps(dense))
    write(folder, "1_Dense/config.json", out_features=64)
    write(folder, "sentence_bert_config.json", do_lower_case=True)
    found = derived(folder)
    expansion = Expansion(MASK, attend=False)
    assert found.query == TextRules(32, "find: ", marker=UNUSED0, expansion=expansion, strip=True)
    assert (found.document.marker, found.document.max_tokens) == (UNUSED1, 180)
    assert found.lowercase and found.heads[0].dim == 64


def test_next_plaid(folder):
    write(
        folder,
        "onnx_config.json",
        **{"query_prefix_id": 30, "document_prefix": "[unused3]", "embedding_dim": 48, "query_length": 20},
        **{
            "skiplist_words": [",", ".", "no-token"],
            "do_lower_case": True,
            "attend_to_expansion_tokens": False,
        },
    )
    found = derived(folder)
    # Its runtime attends to expansion always, and leaves out a skipped word that is no token.
    assert found.query == TextRules(20, marker=30, expansion=Expansion(MASK, attend=True))
    assert found.document == TextRules(300, marker=4, skiplist=(COMMA, POINT))
    assert found.lowercase and found.heads[0].dim == 48 and found.frame.pad == 0


def test_next_plaid_alone(folder):
    """It writes no config.json: the lengths it names are then the most that is known."""
    (folder / "config.json").unlink()
    ids = {"query_prefix_id": 1, "document_prefix_id": 2}
    write(folder, "onnx_config.json", document_length=2048, do_query_expansion=False, pad_token_id=7, **ids)
    found = derived(folder)
    assert (found.max_tokens, found.document.max_tokens, found.query.expansion) == (2048, 2048, None)
    assert (found.frame.pad, found.architecture, found.heads[0].dim) == (7, "onnx", 128)


def test_a_checkpoints_own_settings_come_before_next_plaids(folder):
    write(folder, "onnx_config.json", do_query_expansion=False, embedding_dim=64, query_length=48)
    prefixes = {"query_prefix": "", "document_prefix": "", "do_query_expansion": True}
    write(folder, "config_sentence_transformers.json", query_length=40, **prefixes)
    found = derived(folder)
    assert found.query == TextRules(40, expansion=Expansion(MASK, attend=False), strip=True)
    assert found.heads[0].dim == 64


NAMES = {
    "model.onnx": "fp32",
    "onnx/model.onnx": "fp32",
    "vespa_colbert.onnx": "fp32",
    "onnx/model_fp16.onnx": "fp16",
    "model_int8.onnx": "int8",
    "model_quantized.onnx": "int8",
    "onnx/model_uint8.onnx": "int8",
    "onnx/model_qint8_avx512_vnni.onnx": "int8",
    "onnx/model_quint8_avx2.onnx": "int8",
    "onnx/model_q4.onnx": None,
    "onnx/model_q4f16.onnx": None,
    "onnx/model_bnb4.onnx": None,
    "onnx/model_O3.onnx": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_the_precision(name):
    assert graphs.precision(name) == NAMES[name]


@pytest.mark.parametrize(
    ("names", "machine", "expected"),
    [
        (["model.onnx", "onnx/model.onnx"], "x86_64", {"fp32": "onnx/model.onnx"}),
        (["a.onnx", "b.onnx", "a_fp16.onnx"], "x86_64", {"fp16": "a_fp16.onnx"}),
        (["vespa_colbert.onnx", "other/model.onnx", "x.txt"], "x86_64", {"fp32": "vespa_colbert.onnx"}),
        (
            [
                "onnx/model_qint8_avx512_vnni.onnx",
                "onnx/model_qint8_arm64.onnx",
                "onnx/model_quint8_avx2.onnx",
            ],
            "AMD64",
            {"int8": "onnx/model_quint8_avx2.onnx"},
        ),
        (
            ["onnx/model_qint8_avx512_vnni.onnx", "onnx/model_qint8_arm64.onnx"],
            "aarch64",
            {"int8": "onnx/model_qint8_arm64.onnx"},
        ),
        (
            ["onnx/model_int8.onnx", "onnx/model_quint8_avx2.onnx"],
            "x86_64",
            {"int8": "onnx/model_int8.onnx"},
        ),
    ],
)
def test_which_graphs_a_listing_offers(names, machine, expected):
    assert {p: graph.file for p, graph in graphs.by_precision(names, machine).items()} == expected


def test_a_graph_brings_its_data():
    names = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1", "onnx/model_fp16.onnx.data"]
    found = graphs.by_precision([*names, "onnx/model_fp16.onnx"])
    assert found["fp32"].data == (Part(names[1], 0, ""), Part(names[2], 0, ""))
    assert [part.file for part in found["fp16"].parts] == ["onnx/model_fp16.onnx", names[3]]


def remove(name):
    return lambda folder: (folder / name).unlink()


FAULTS = {
    "graph": (remove("model.onnx"), r"no latebolt\.json and no ONNX graph .*latebolt export"),
    "graphs": (
        lambda f: (f / "model.onnx").rename(f / "a.onnx") and (f / "b.onnx").touch(),
        r"several graphs \(a\.onnx, b\.onnx\)\. Keep one of them, or name it model\.onnx",
    ),
    "settings": (
        remove("artifact.metadata"),
        r"none of artifact\.metadata, config_sentence.*onnx_config\.json",
    ),
    "tokenizer": (remove("tokenizer.json"), r"has no tokenizer\.json.*Download all files"),
    "width": (lambda f: write(f, "artifact.metadata"), r"no file says how wide .*latebolt export"),
    "odd width": (lambda f: write(f, "artifact.metadata", dim=30), r"multiples of 4, got \[30\]"),
    "no object": (
        lambda f: (f / "artifact.metadata").write_text("[]"),
        "should hold a JSON object, got list",
    ),
    "length": (
        lambda f: write(f, "artifact.metadata", dim=64, doc_maxlen="long"),
        "doc_maxlen should be a whole number, got 'long'",
    ),
    "marker": (
        lambda f: write(f, "artifact.metadata", dim=64, query_token_id="[Q]"),
        r'names the token "\[Q\]", which tokenizer\.json lacks',
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_gets_one_line_that_names_the_fault(folder, fault):
    write(folder, "artifact.metadata", dim=64)
    change, message = FAULTS[fault]
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        derived(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_prefix_that_is_no_token_needs_an_id(folder):
    write(folder, "onnx_config.json", query_prefix="[nobody]")
    with pytest.raises(ModelError, match=r'query_prefix "\[nobody\]" is no token.*Add query_prefix_id'):
        derived(folder)


def test_a_digest_is_read_once_and_follows_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    first = digests.remembered_sha256([file])
    assert not caches.cache_folder("digests").exists()  # the file may change again within a tick of the clock
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    assert digests.remembered_sha256([file]) == first
    (kept,) = caches.cache_folder("digests").iterdir()
    kept.write_text("f" * 64)
    assert digests.remembered_sha256([file]) == "f" * 64  # from the cache
    kept.write_text("damaged")
    assert digests.remembered_sha256([file]) == first
    file.write_bytes(b"other")
    assert digests.remembered_sha256([file]) not in (first, "f" * 64)


def put_beside(file, content):
    other = file.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(0, 0))
    other.replace(file)


def write_over(file, content):
    file.write_bytes(content)
    os.utime(file, ns=(0, 0))


@pytest.mark.parametrize("change", (put_beside, write_over))
def test_another_file_of_the_same_name_size_and_time_has_its_own_digest(tmp_path, monkeypatch, change):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    file = tmp_path / "model.onnx"
    write_over(file, b"one")
    first = digests.remembered_sha256([file])
    change(file, b"two")
    assert digests.remembered_sha256([file]) != first


def test_a_digest_of_a_file_that_changed_meanwhile_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    file, real = tmp_path / "model.onnx", digests.joint_sha256
    file.write_bytes(b"one")

    def slow(files):
        found = real(files)
        put_beside(file, b"two")
        return found

    monkeypatch.setattr(digests, "joint_sha256", slow)
    digests.remembered_sha256([file])
    assert not caches.cache_folder("digests").exists()


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("LATEBOLT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.onnx").write_bytes(b"one")
    assert len(digests.remembered_sha256([tmp_path / "model.onnx"])) == 64
