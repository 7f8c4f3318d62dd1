"""Traces the PyTorch module into an ONNX file, through optimum's custom-configuration path."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import onnx
from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.utils import NormalizedTextConfig

from latebolt.errors import ExportError
from latebolt_export.module import TokenEmbedder
from latebolt_export.requirements import quiet

OPSET = 17  # the first with LayerNormalization; ONNX Runtime's fusions are written for its operators
AXES = {0: "batch", 1: "tokens"}


def trace(module: TokenEmbedder, path: Path) -> onnx.ModelProto:
    """Write the unfused float32 graph to `path` and return it.

    Inputs `input_ids`, `attention_mask` int64 [batch, tokens]; one output an `embeddings_D`, float32
    [batch, tokens, D].

    Raises:
        ExportError: the tracer gave other inputs or outputs.
    """
    names = [output.name for output in module.outputs]
    with quiet():
        inputs, outputs = export(module, _configuration(names)(module.config), path, opset=OPSET)
    if inputs != ["input_ids", "attention_mask"] or outputs != names:
        raise ExportError(f"the exported graph has inputs {inputs} and outputs {outputs}, expected {names}.")
    model = onnx.load(path)
    for value, output in zip(model.graph.output, module.outputs, strict=True):
        # The tracer leaves a made-up name where the width is known.
        value.type.tensor_type.shape.dim[2].dim_value = output.dim
    return model


def _configuration(names: list[str]) -> type[TextEncoderOnnxConfig]:
    class TokenEmbedderOnnxConfig(TextEncoderOnnxConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {"input_ids": AXES, "attention_mask": AXES}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return OrderedDict((name, AXES) for name in names)

    return TokenEmbedderOnnxConfig
