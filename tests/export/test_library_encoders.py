"""Encoders that are none of our families: exported through optimum, equal to transformers' own vectors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import DIM, HIDDEN, outputs, unit, vocabulary, write_dense, write_tokenizer

from latebolt import Encoder
from latebolt.errors import ExportError, RuntimeUnavailable
from latebolt_export import export_model

transformers = pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")

SIZES = {
    "vocab_size": len(vocabulary()), "hidden_size": HIDDEN, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 192,
}  # fmt: skip
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
MORE = {"electra": {"embedding_size": 16}, "albert": {"embedding_size": 16}, "deberta-v2": RELATIVE}
POSITIONS = {"mpnet": 190}  # its table has two rows before the first position
TEXTS = ["a", "some words, of no use", "unattended " * 12]


def model_of(kind: str):
    config = transformers.AutoConfig.for_model(kind, **SIZES, **MORE.get(kind, {}))
    config._attn_implementation = "eager"
    torch.manual_seed(7)
    model = transformers.AutoModel.from_config(config).eval()
    for name, parameter in model.named_parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) * (not name.endswith("rel_embeddings.weight"))
    return model


def write(folder: Path, kind: str, layout: str):
    """A checkpoint in a layout; gives the model and what its head does to hidden states."""
    model = model_of(kind)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    torch.manual_seed(8)
    weight = torch.randn(DIM, HIDDEN)
    if layout == "stanford":
        state = {f"{model.base_model_prefix}.{k}": v.clone() for k, v in model.state_dict().items()}
        state = {k: v for k, v in state.items() if not k.endswith("position_ids")}
        save_file(state | {"linear.weight": weight}, folder / "model.safetensors")
        told = {"query_maxlen": 16, "doc_maxlen": 100, "dim": DIM, "attend_to_mask_tokens": False}
        (folder / "artifact.metadata").write_text(json.dumps(told))
    else:
        write_dense(folder / "1_Dense", HIDDEN, DIM, bias=True)
        modules = [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        told = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 20, "skiplist_words": []}
        told |= {"document_length": 90, "do_query_expansion": False}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(told))
        dense = load_file(folder / "1_Dense" / "model.safetensors")
        return model, lambda hidden: hidden @ dense["linear.weight"].T + dense["linear.bias"]
    return model, lambda hidden: hidden @ weight.T


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("mpnet", "pylate"), ("mpnet", "stanford"), ("electra", "pylate"), ("electra", "stanford"),
     ("albert", "pylate"), ("deberta-v2", "pylate")],
)  # fmt: skip
def test_vectors_are_the_library_s(tmp_path, kind, layout):
    source = tmp_path / "source"
    model, head = write(source, kind, layout)
    made = export_model(source, tmp_path / "out", precisions=["fp32"])
    assert made.architecture == kind and made.max_tokens == POSITIONS.get(kind, 192)
    assert {"optimum-onnx", "transformers"} <= made.source.tools.keys()
    generator = np.random.default_rng(3)
    for length in (3, 17, 64, made.max_tokens):
        ids = [4, *generator.integers(7, 91, length - 2).tolist(), 5]
        with torch.inference_mode():
            expected = unit(head(model(torch.tensor([ids])).last_hidden_state[0]))
        found = outputs(tmp_path / "out", made.graphs["fp32"], ids)[f"embeddings_{DIM}"]
        assert np.abs(found - expected).max() < 1e-4
    encoder = Encoder.load(tmp_path / "out")
    assert len(encoder.encode_queries(TEXTS)) == len(TEXTS)


def test_every_precision_keeps_its_budget(tmp_path):
    write(tmp_path / "source", "mpnet", "pylate")
    made = export_model(tmp_path / "source", tmp_path / "out")
    assert set(made.graphs) == {"fp32", "fp16", "int8"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, '"t5" is not supported: it is an encoder with a'),
        ({"model_type": "t5", "d_model": 32}, '"t5" is not supported: it is an encoder with a decoder'),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, '"qwen2" .* it is a decoder'),
        ({"model_type": "gpt2"}, '"gpt2" is not supported: it is a decoder'),
        ({"model_type": "vit"}, '"vit" is not supported: it is none that'),
        ({"model_type": "of-its-own", "auto_map": {"AutoModel": "m.M"}}, "code .* is never run"),
        ({"model_type": "electra", "is_decoder": True}, "is_decoder = True is not supported"),
    ],
)
def test_what_is_no_encoder_is_refused_by_name(tmp_path, config, words):
    source = tmp_path / "source"
    write(source, "electra", "stanford")
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=words):
        export_model(source, tmp_path / "out", precisions=["fp32"])
    assert not (tmp_path / "out").exists()


def test_tensors_must_fill_the_encoder_exactly(tmp_path):
    source = tmp_path / "source"
    write(source, "mpnet", "stanford")
    state = load_file(source / "model.safetensors")
    name = "mpnet.encoder.layer.1.output.dense.weight"
    weight = state.pop(name)
    for change, words in (
        ({}, "hold no encoder.layer.1.output.dense.weight"),
        ({name: weight[:, :8].contiguous()}, r"should be \[32, 64\] .* got \[32, 8\]"),
        ({name: weight, "mpnet.encoder.more": weight.clone()}, "hold mpnet.encoder.more, which mpnet lacks"),
    ):
        save_file(state | change, source / "model.safetensors")
        with pytest.raises(ExportError, match=words):
            export_model(source, tmp_path / "out", precisions=["fp32"])


def test_a_missing_library_is_named_with_its_pip_line(tmp_path, monkeypatch):
    write(tmp_path / "source", "mpnet", "pylate")
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    with pytest.raises(
        RuntimeUnavailable, match=r'"mpnet" needs optimum.* pip install .latebolt\[export,opt'
    ):
        export_model(tmp_path / "source", tmp_path / "out", precisions=["fp32"])
