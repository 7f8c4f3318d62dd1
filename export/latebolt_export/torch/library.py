"""Encoders of transformers: built and filled here, turned into a float32 graph by optimum's exporter.

For those that are none of our own families. The heads are traced on their own and put behind optimum's graph
of hidden states, so both kinds of encoder have the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from latebolt.errors import ExportError
from latebolt_export.graph import onnx_source, tensors
from latebolt_export.graph.onnx_edit import lift_constants, set_nodes
from latebolt_export.requirements import quiet
from latebolt_export.source import library_encoder
from latebolt_export.source.library_encoder import LibraryPlan
from latebolt_export.torch.module import TokenEmbedder
from latebolt_export.torch.trace import AXES, OPSET

HIDDEN = "last_hidden_state"  # optimum's name of the output
TRACED = (2, 16)  # batch and tokens of the hidden states that heads are traced with


class LibraryEncoder(nn.Module):
    """input_ids, attention_mask int64 [batch, tokens] -> float32 [batch, tokens, hidden]."""

    def __init__(self, plan: LibraryPlan) -> None:
        super().__init__()
        from transformers import AutoModel

        self.plan = plan
        with quiet():
            config = library_encoder.of_config(plan.config)
            self.model = AutoModel.from_config(config, trust_remote_code=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def build(plan: LibraryPlan, state: Mapping[str, Tensor]) -> LibraryEncoder:
    """The encoder with its float32 weights; `library_encoder.read` has checked that they fill it."""
    made = LibraryEncoder(plan)
    made.model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    made.float()
    return made


def trace(module: TokenEmbedder, folder: Path) -> onnx.ModelProto:
    """The unfused float32 graph of an embedder whose encoder is a `LibraryEncoder`; see `trace.trace`.

    Raises:
        ExportError: optimum does not export this encoder, or gives other inputs or outputs.
    """
    from optimum.exporters.onnx import export

    encoder = module.encoder
    assert isinstance(encoder, LibraryEncoder)
    path, kind = folder / "hidden.onnx", encoder.plan.architecture
    described = library_encoder.exporter_config(encoder.model)
    try:
        with quiet():
            _, outputs = export(encoder.model, described, path, opset=OPSET)
    except Exception as error:  # torch and each model raise what they like
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f'architecture "{kind}": optimum cannot export it ({first}).') from error
    if outputs[:1] != [HIDDEN]:
        raise ExportError(f'architecture "{kind}": optimum gives {", ".join(outputs)}, expected {HIDDEN}.')
    model = tensors.load(path, folder / "weights.bin")
    for file in folder.glob("hidden.onnx*"):
        file.unlink()
    onnx_source.keep_our_inputs(model, Path(kind))
    _join(model, _heads(module, folder))
    lift_constants(model)
    return model


class _Heads(nn.Module):
    def __init__(self, module: TokenEmbedder) -> None:
        super().__init__()
        self.projections, self.outputs = module.projections, module.outputs
        self.project = module.project

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        return self.project(hidden)


def _heads(module: TokenEmbedder, folder: Path) -> onnx.ModelProto:
    """The graph from `HIDDEN` to the outputs."""
    assert isinstance(module.encoder, LibraryEncoder)
    path, names = folder / "heads.onnx", [output.name for output in module.outputs]
    with quiet(), torch.no_grad():
        torch.onnx.export(
            _Heads(module),
            (torch.ones(*TRACED, module.encoder.plan.hidden),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[HIDDEN],
            output_names=names,
            dynamic_axes=dict.fromkeys([HIDDEN, *names], AXES),
        )
    made = onnx.load(path)
    path.unlink()
    for value, output in zip(made.graph.output, module.outputs, strict=True):
        value.type.tensor_type.shape.dim[2].dim_value = output.dim
    return made


def _join(model: onnx.ModelProto, heads: onnx.ModelProto) -> None:
    """Put the heads behind the encoder's graph, in place."""
    kept = {HIDDEN, "", *(value.name for value in heads.graph.output)}

    def own(name: str) -> str:
        return name if name in kept else f"latebolt_head/{name}"

    for tensor in heads.graph.initializer:
        tensor.name = own(tensor.name)
    for node in heads.graph.node:
        node.name = own(node.name)
        node.input[:] = [own(name) for name in node.input]
        node.output[:] = [own(name) for name in node.output]
    model.graph.initializer.extend(heads.graph.initializer)
    del model.graph.output[:]
    model.graph.output.extend(heads.graph.output)
    set_nodes(model, [*model.graph.node, *heads.graph.node])
