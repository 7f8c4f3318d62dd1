"""Heads of sibling checkpoints: joined where the encoder is the same to the last bit, else kept apart."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import outputs, unit

from latebolt import contract
from latebolt.errors import ExportError
from latebolt_export import export_model
from latebolt_export.source import checkpoint
from latebolt_export.source.siblings import differs, join


def sibling(make, name, head, **changes):
    """A Stanford checkpoint of the same encoder with this head and changed tensors."""
    folder = make("stanford", name)
    state = load_file(folder / "model.safetensors") | {"linear.weight": head} | changes
    save_file(state, folder / "model.safetensors")
    settings = json.loads((folder / "artifact.metadata").read_text()) | {"dim": len(head)}
    (folder / "artifact.metadata").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def narrow():
    return torch.randn(8, 32, generator=torch.Generator().manual_seed(4))


def test_identical_encoders_share_a_graph(make, tmp_path, narrow, head, hidden_states, ids):
    one, other = make("stanford"), sibling(make, "narrow", narrow)
    made = export_model(one, tmp_path / "out", siblings=[other], precisions=("fp32",))
    assert [(h.dim, h.source) for h in made.heads] == [
        (16, "linear.weight"),
        (8, "linear.weight of narrow"),
    ]
    found = outputs(tmp_path / "out", made.graphs["fp32"], ids[1])
    for name, weight in (("embeddings_16", head), ("embeddings_8", narrow)):
        assert np.abs(found[name] - unit(hidden_states(ids[1]) @ weight.T)).max() < 1e-5


def test_a_head_that_repeats_rows_is_said_to(make, head):
    one = checkpoint.load(make("stanford"))
    joined, apart = join(one, [checkpoint.load(sibling(make, "rows", head[:8].clone()))])
    assert not apart
    assert joined.projections[1].source == "linear.weight of rows, equal to rows 0:8 of the 16 head"


def test_another_encoder_gets_a_folder_of_its_own(make, tmp_path, narrow):
    one = make("stanford")
    key = "bert.encoder.layer.1.output.dense.bias"
    other = sibling(make, "other", narrow, **{key: load_file(one / "model.safetensors")[key] + 0.25})
    steps: list[str] = []
    made = export_model(one, tmp_path / "out", siblings=[other], precisions=("fp32",), progress=steps.append)
    reason = (
        "other: encoder.layer.1.output.dense.bias differs by up to 0.25, so it becomes a model of its own"
    )
    assert reason in steps
    assert [head.dim for head in made.heads] == [16]
    assert [head.dim for head in contract.read(tmp_path / "out-8").heads] == [8]


def test_what_differs_is_named(make):
    one = checkpoint.load(make("stanford"))
    assert differs(one, one) == ""
    key = "encoder.layer.0.output.dense.bias"
    without = {name: value for name, value in one.state.items() if name != key}
    assert differs(one, dataclasses.replace(one, state=without)) == f"only one of the two has tensor {key}"
    wide = one.state | {key: torch.zeros(3)}
    assert f"{key} has shape [3], not [32]" in differs(one, dataclasses.replace(one, state=wide))
    longer = dataclasses.replace(one, document=contract.TextRules(50))
    assert differs(one, longer) == "the document rules differ"


def test_two_heads_of_one_width_are_refused(make):
    one = checkpoint.load(make("stanford"))
    twin = checkpoint.load(make("stanford", "twin"))
    with pytest.raises(ExportError, match="twin: has a 16 head, as another of the checkpoints has"):
        join(one, [twin])
