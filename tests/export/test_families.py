"""Every encoder family against an independent implementation, every graph form against the module."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from families import FAMILIES, jina_v2, modernbert
from traced import DIM, Traced, trace

from latebolt.errors import ExportError
from latebolt_export.graph import cpu_graph, fuse, half, quantize, smooth, tensors
from latebolt_export.source import architectures
from latebolt_export.torch import encoder

SAME = {"rtol": 0, "atol": 2e-5}  # other operators, same arithmetic


@pytest.fixture(scope="module", params=FAMILIES)
def traced(request, tmp_path_factory) -> Traced:
    return trace(FAMILIES[request.param](), request.param, tmp_path_factory.mktemp("traced"))


def run(session, ids, mask=None):
    feed = {
        "input_ids": ids.numpy(),
        "attention_mask": (torch.ones_like(ids) if mask is None else mask).numpy(),
    }
    return session.run([f"embeddings_{DIM}"], feed)[0]


def shortened(ids):
    """A mask that hides the last tokens, as an unattended expansion or padding does."""
    mask = torch.ones_like(ids)
    mask[:, max(1, ids.shape[1] - 9) :] = 0
    return mask, int(mask.sum())


def test_encoder_equals_the_reference(traced):
    for ids in traced.texts():
        mask, kept = shortened(ids)
        with torch.inference_mode():
            for m, rows in ((torch.ones_like(ids), ids.shape[1]), (mask, kept)):
                expected = traced.family.reference(ids, m)[:, :rows]
                torch.testing.assert_close(traced.module.encoder(ids, m)[:, :rows], expected, **SAME)


def test_every_layer_is_fused(traced):
    fuse.check_counts(traced.fused, fuse.expected_counts(traced.plan))
    count = Counter(node.op_type for node in traced.fused.graph.node)
    layers, per_layer = len(traced.plan.kinds), 7 if traced.plan.gated else 6
    assert (count["MultiHeadAttention"], count["MatMul"]) == (layers, layers * per_layer + 1)
    assert not {"Transpose", "Softmax", "Erf", "Constant"} & count.keys()
    assert count["Reshape"] == 0  # heads are parted inside the operators


def test_cpu_graph_equals_the_module_with_and_without_mask(traced):
    model = tensors.twin(traced.fused)
    cpu_graph.split_fused(model)
    cpu_graph.long_texts(model, traced.plan.kinds)
    count = Counter(node.op_type for node in model.graph.node)
    assert count["If"] == len(traced.plan.kinds)
    assert not count["MultiHeadAttention"] + count["SkipLayerNormalization"]
    session = tensors.open_session(model, traced.folder)
    for ids in traced.texts():
        mask, kept = shortened(ids)
        np.testing.assert_allclose(run(session, ids), traced.vectors(ids), **SAME)
        np.testing.assert_allclose(
            run(session, ids, mask)[:, :kept], traced.vectors(ids, mask)[:, :kept], **SAME
        )


def test_padded_batch_equals_its_texts_alone(traced):
    model = tensors.twin(traced.fused)
    cpu_graph.split_fused(model)
    cpu_graph.long_texts(model, traced.plan.kinds)
    session = tensors.open_session(model, traced.folder)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, 95, (3, 300), generator=generator)
    mask = (torch.arange(300) < torch.tensor([[300], [130], [7]])).long()
    together = run(session, ids, mask)
    for row, length in enumerate((300, 130, 7)):
        alone = run(session, ids[row : row + 1, :length])
        np.testing.assert_allclose(together[row, :length], alone[0], **SAME)


def test_half_graph_is_close(traced, tmp_path):
    session = tensors.open_session(half.to_half(traced.fused, tmp_path / "half.bin"), tmp_path)
    for ids in traced.texts():
        cosine = (run(session, ids) * traced.vectors(ids)).sum(-1)
        assert cosine.min() > 0.999


@pytest.mark.parametrize("isa", ["auto", "avx512_vnni"])
def test_int8_graph_is_close(traced, isa):
    model = tensors.twin(traced.fused)
    cpu_graph.split_fused(model)
    calibration = [ids[0].numpy() for ids in traced.texts() if 10 < ids.shape[1] < 200]
    keep = quantize.head_matmuls(model)
    scales = smooth.find_scales(model, calibration, traced.folder, keep, isa)
    keep |= smooth.fold(model, scales, traced.folder / f"smoothed_{isa}.bin")
    session = tensors.open_session(model, traced.folder)
    for ids in traced.texts():  # folding rounds nothing away
        np.testing.assert_allclose(run(session, ids), traced.vectors(ids), **SAME)
    quantize.quantize(model, keep, isa)
    cpu_graph.long_texts(model, traced.plan.kinds)
    session = tensors.open_session(model, traced.folder)
    cosine = np.concatenate([(run(session, i) * traced.vectors(i)).sum(-1).ravel() for i in traced.texts()])
    assert cosine.mean() > 0.985  # random weights of this width round worse than trained ones


def test_scales_of_a_pre_norm_encoder_cost_no_multiplication(tmp_path):
    made = trace(modernbert(), "modernbert", tmp_path)
    model = made.fused
    cpu_graph.split_fused(model)
    before = Counter(node.op_type for node in model.graph.node)["Mul"]
    scales = smooth.find_scales(model, [ids[0].numpy() for ids in made.texts()][2:5], tmp_path)
    assert any(np.any(found.scale != 1) for found in scales.values())
    smooth.fold(model, scales, tmp_path / "smoothed.bin")
    evened = [node for node in model.graph.node if node.name.endswith("_evened")]
    # The embeddings' normalisation also feeds the first residual sum, and the last one the heads.
    assert len(evened) <= 1
    assert Counter(node.op_type for node in model.graph.node)["Mul"] == before + len(evened)


def test_local_layers_take_their_own_rotary_base_and_window():
    family = modernbert(global_rope_theta=80000.0, local_rope_theta=500.0, local_attention=32)
    plan = architectures.plan(family.config, family.state.keys(), "modernbert")
    assert [(kind.rotary_base, kind.window) for kind in plan.kinds[:3]] == [(80000, 0), (500, 16), (500, 16)]
    ids = torch.randint(3, 95, (1, 120))
    with torch.inference_mode():
        expected = family.reference(ids, torch.ones_like(ids))
        found = encoder.build(plan, family.state, "modernbert")(ids, torch.ones_like(ids))
    torch.testing.assert_close(found, expected, **SAME)


def test_rotary_base_is_read_from_the_checkpoint():
    family = jina_v2()
    ids = torch.randint(3, 95, (1, 40))
    outputs = []
    for base in (10000.0, 20000.0):
        config = family.config | {"rotary_emb_base": base}
        plan = architectures.plan(config, family.state.keys(), "jina")
        with torch.inference_mode():
            outputs.append(encoder.build(plan, family.state, "jina")(ids, torch.ones_like(ids)))
    assert not torch.allclose(outputs[0], outputs[1])
    with pytest.raises(ExportError, match=r"jina: config\.json lacks rotary_emb_base"):
        architectures.plan(
            {k: v for k, v in family.config.items() if k != "rotary_emb_base"}, family.state, "jina"
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tensor_too_few_or_too_many_is_named(name):
    family = FAMILIES[name]()
    plan = architectures.plan(family.config, family.state.keys(), name)
    missing = sorted(family.state)[-1]
    state = {key: value for key, value in family.state.items() if key != missing}
    with pytest.raises(ExportError, match=f"lacks tensor {missing}, so it is not the {plan.architecture}"):
        encoder.build(plan, state, name)
    with pytest.raises(ExportError, match=r"holds an unknown tensor encoder\.layer\.77\.extra"):
        encoder.build(plan, family.state | {"encoder.layer.77.extra": torch.ones(1)}, name)
    wide = family.state | {missing: torch.ones(3)}
    with pytest.raises(ExportError, match=rf"{missing} should be \[.*got \[3\]"):
        encoder.build(plan, wide, name)


def test_alibi_slopes_of_twelve_heads_are_the_published_ones():
    eight = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert architectures.alibi_slopes(8) == pytest.approx(eight)
    assert architectures.alibi_slopes(12) == pytest.approx([*eight, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_an_unknown_activation_is_refused():
    family = FAMILIES["bert"]()
    plan = architectures.plan(family.config | {"hidden_act": "swish9"}, family.state.keys(), "bert")
    with pytest.raises(ExportError, match=r'hidden_act "swish9" is not supported\. Supported: gelu'):
        encoder.build(plan, family.state, "bert")
