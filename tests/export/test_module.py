"""The exported module computes what plain transformers computes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from latebolt.errors import ExportError
from latebolt_export.source import checkpoint
from latebolt_export.source.heads import choose
from latebolt_export.torch.module import build

SAME = {"rtol": 0, "atol": 2e-6}  # other attention code, same arithmetic


def vectors(module, ids):
    tensor = torch.tensor([ids])
    with torch.inference_mode():
        return {name: value[0] for name, value in module(tensor, torch.ones_like(tensor)).items()}


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=-1)


def test_stanford_equals_transformers(embedder, hidden_states, head, ids):
    for one in ids:
        projected = hidden_states(one) @ head.T
        found = vectors(embedder, one)
        assert list(found) == ["embeddings_16", "embeddings_8"]
        torch.testing.assert_close(found["embeddings_16"], unit(projected), **SAME)
        torch.testing.assert_close(found["embeddings_8"], unit(projected[:, :8]), **SAME)


def test_pylate_equals_transformers(make, hidden_states, ids):
    folder = make("pylate")
    found = checkpoint.load(folder)
    module = build(found, choose(found.projections, None))
    one, two = (load_file(folder / f"{i}_Dense" / "model.safetensors") for i in (1, 2))
    for text in ids:
        hidden = hidden_states(text)
        middle = torch.tanh(hidden @ one["linear.weight"].T) + hidden @ one["residual.weight"].T
        expected = unit(middle @ two["linear.weight"].T + two["linear.bias"])
        torch.testing.assert_close(vectors(module, text)["embeddings_16"], expected, **SAME)


def test_several_heads_of_their_own(make, tmp_path, hidden_states, ids):
    heads = {dim: torch.randn(dim, 32) for dim in (16, 8)}
    for dim, weight in heads.items():
        save_file({"linear.weight": weight}, tmp_path / f"{dim}.safetensors")
    found = checkpoint.load(make("plain"), [tmp_path / f"{dim}.safetensors" for dim in heads])
    module = build(found, choose(found.projections, None))
    for dim, weight in heads.items():
        expected = unit(hidden_states(ids[1]) @ weight.T)
        torch.testing.assert_close(vectors(module, ids[1])[f"embeddings_{dim}"], expected, **SAME)


def test_padding_changes_nothing(embedder, ids):
    short, longest = torch.tensor([ids[1]]), 40
    padded = torch.nn.functional.pad(short, (0, longest - short.shape[1]))
    with torch.inference_mode():
        alone = embedder(short, torch.ones_like(short))["embeddings_16"]
        among = embedder(padded, (torch.arange(longest) < short.shape[1]).long()[None])["embeddings_16"]
    torch.testing.assert_close(among[:, : short.shape[1]], alone, **SAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("bert.encoder.layer.1.output.dense.bias"),
            "lacks tensor encoder.layer.1.output",
        ),
        (lambda state: state.update({"bert.extra": torch.ones(1)}), "holds an unknown tensor extra"),
        (
            lambda state: state.update({"bert.embeddings.LayerNorm.bias": torch.ones(8)}),
            r"embeddings\.LayerNorm\.bias should be \[32\].*got \[8\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(make, change, message):
    folder = make("stanford")
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    found = checkpoint.load(folder)
    with pytest.raises(ExportError, match=message):
        build(found, choose(found.projections, None))
