"""Every kind of Dense layer in every graph: bias or none, every activation, residuals, several layers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from families import modernbert
from safetensors.torch import save_file
from small import write_dense
from torch import nn

from latebolt.errors import ExportError
from latebolt_export.graph import cpu_graph, fuse, half, quantize
from latebolt_export.graph.tensors import twin
from latebolt_export.source import architectures, checkpoint, head_file
from latebolt_export.source.heads import ACTIVATIONS, Dense, Projection, check, choose
from latebolt_export.torch import trace
from latebolt_export.torch.module import assemble
from latebolt_export.torch.module import encoder as encoders

HIDDEN = 32
CLASSES = [
    nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.CELU, nn.ELU, nn.Hardshrink,
    nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU6, nn.RReLU,
    nn.SELU, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanhshrink,
]  # fmt: skip


def test_every_activation_of_torch_without_settings_is_known():
    """Those that are left out have weights of their own, or mix tokens or components."""
    others = {
        "prelu",
        "softmax",
        "softmax2d",
        "softmin",
        "logsoftmax",
        "multiheadattention",
        "glu",
        "threshold",
    }
    own = {
        kind.__name__.lower()
        for kind in vars(nn.modules.activation).values()
        if isinstance(kind, type) and kind.__module__ == "torch.nn.modules.activation"
    }
    assert own - others | {"identity"} == set(ACTIVATIONS)
    assert {kind.__name__.lower() for kind in CLASSES} == set(ACTIVATIONS)


def dense(width: int, dim: int, number: int, **more) -> Dense:
    generator = torch.Generator().manual_seed(number)
    weight = torch.randn(dim, width, generator=generator) / width**0.5
    bias = torch.randn(dim, generator=generator) if number % 2 else None
    return Dense(weight, bias, **more)


def heads() -> list[Projection]:
    """One a width, so that one graph holds all: every activation with and without a bias, with a residual of
    its own or none, and chains."""
    made = []
    for number, kind in enumerate([*CLASSES, *CLASSES[1:]]):
        more = {"activation": kind.__name__.lower()}
        if number % 3 == 1:
            more["residual"] = dense(HIDDEN, 4 * (number + 1), 100 + number).weight
        layers = [dense(HIDDEN, 4 * (number + 1), number, **more)]
        if number % 5 == 0:
            layers.insert(0, dense(HIDDEN, HIDDEN, 200 + number, activation="gelu", skip=number % 2 == 0))
        made.append(Projection(tuple(layers), f"head {number}"))
    return made


def reference(projection: Projection, hidden: torch.Tensor) -> np.ndarray:
    """By torch alone."""
    classes = {kind.__name__.lower(): kind for kind in CLASSES}
    for layer in projection.layers:
        out = classes[layer.activation]().eval()(nn.functional.linear(hidden, layer.weight, layer.bias))
        if layer.residual is not None:
            out = out + hidden @ layer.residual.T
        hidden = out + hidden if layer.skip else out
    return nn.functional.normalize(hidden, dim=-1).numpy()


@pytest.fixture(scope="module")
def traced(tmp_path_factory, embedder):
    projections = heads()
    for projection in projections:
        check(projection, HIDDEN)
    module = assemble(embedder.encoder, projections, choose(projections, None))
    return projections, trace.trace(module, tmp_path_factory.mktemp("traced")), module


def test_every_head_is_exact_in_every_graph(traced, tmp_path, run, hidden_states, ids):
    projections, model, module = traced
    fused = fuse.fuse(twin(model))
    fuse.check_counts(fused, fuse.expected_counts(module.encoder.plan))
    halved = half.to_half(fused, tmp_path / "half.bin")
    whole = twin(fused)
    cpu_graph.split_fused(whole)
    integer = twin(whole)
    quantize.quantize(integer, quantize.head_matmuls(integer))
    names = [value.name for value in fused.graph.output]
    by_name = {f"embeddings_{projection.dim}": projection for projection in projections}
    for text in ids[:3]:
        hidden = hidden_states(text)
        for graph_name, made, least in (
            ("fused", fused, 0), ("whole", whole, 0), ("half", halved, 0.99), ("int8", integer, 0.9),
        ):  # fmt: skip
            for name, found in zip(names, run(made, [text]), strict=True):
                expected = reference(by_name[name], hidden)
                if least:
                    assert (found[0] * expected).sum(1).mean() > least, (graph_name, by_name[name].layers)
                else:
                    difference = np.abs(found[0] - expected).max()
                    assert difference < 2e-5, (graph_name, by_name[name].layers[-1].activation)


def test_a_gelu_head_of_a_gated_encoder_is_no_operator_of_the_encoder(tmp_path):
    family = modernbert()
    plan = architectures.plan(family.config, family.state.keys(), "modernbert")
    projections = (
        Projection((dense(HIDDEN, 16, 2, activation="gelu"), dense(16, 16, 3, skip=True)), "head"),
    )
    made = encoders.build(plan, family.state, "modernbert")
    module = assemble(made, projections, choose(projections, None))
    fused = fuse.fuse(trace.trace(module, tmp_path))
    fuse.check_counts(fused, fuse.expected_counts(plan))


def test_activation_and_skip_are_part_of_the_weights_digest(make):
    found = checkpoint.load(make("pylate"))

    def digest(**change):
        layers = tuple(dataclasses.replace(layer, **change) for layer in found.projections[0].layers)
        projections = (dataclasses.replace(found.projections[0], layers=layers),)
        return dataclasses.replace(found, projections=projections).weights_sha256()

    digests = {digest(), digest(activation="gelu"), digest(activation="tanh"), digest(skip=True)}
    assert len(digests) == 4


def test_a_head_file_is_used_whole(tmp_path):
    parts = {"linear.weight": torch.randn(16, HIDDEN), "linear.bias": torch.randn(16)}
    save_file(parts, tmp_path / "head.safetensors")
    [layer] = head_file.read(tmp_path / "head.safetensors").layers
    assert layer.weight.equal(parts["linear.weight"]) and layer.bias.equal(parts["linear.bias"])
    assert (layer.activation, layer.residual, layer.skip) == ("identity", None, False)


def test_a_dense_modules_file_is_read_with_its_settings(tmp_path):
    folder = tmp_path / "1_Dense"
    write_dense(folder, HIDDEN, 16, bias=True, residual=True, activation="torch.nn.modules.activation.GELU")
    [layer] = head_file.read(folder / "model.safetensors").layers
    assert layer.activation == "gelu" and layer.residual.shape == (16, HIDDEN) and layer.bias is not None
    write_dense(tmp_path / "square", HIDDEN, HIDDEN)
    config = json.loads((tmp_path / "square" / "config.json").read_text()) | {"use_residual": True}
    (tmp_path / "square" / "config.json").write_text(json.dumps(config))
    assert head_file.read(tmp_path / "square" / "model.safetensors").layers[0].skip


@pytest.mark.parametrize(
    ("more", "config", "message"),
    [
        ({"scale": torch.ones(1)}, None, r"head\.safetensors: holds scale beside linear\.weight"),
        ({"1.linear.weight": torch.ones(4, 16)}, None, r"holds 1\.linear\.weight beside"),
        ({}, {"in_features": HIDDEN}, "activation_function should be a class of torch.nn, got None"),
        ({}, {"in_features": HIDDEN, "activation_function": "my.own.GELU"}, "got 'my.own.GELU'"),
        (
            {"residual.weight": torch.ones(16, HIDDEN)},
            {"in_features": HIDDEN, "activation_function": "torch.nn.Tanh"},
            r"holds residual\.weight, of which config\.json says nothing",
        ),
    ],
)
def test_what_a_head_file_holds_beside_is_refused_by_name(tmp_path, more, config, message):
    save_file({"linear.weight": torch.randn(16, HIDDEN)} | more, tmp_path / "head.safetensors")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=message):
        head_file.read(tmp_path / "head.safetensors")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Dense(torch.ones(16, HIDDEN), torch.ones(8)), r"head bias should be \[16\], got \[8\]"),
        (
            Dense(torch.ones(16, HIDDEN), residual=torch.ones(8, HIDDEN)),
            r"head residual should be \[16, 32\], got \[8, 32\]",
        ),
        (Dense(torch.ones(16, HIDDEN), skip=True), r"needs residual\.weight \[16, 32\], which is missing"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_named(layer, message):
    with pytest.raises(ExportError, match=message):
        check(Projection((layer,), "file"), HIDDEN)
