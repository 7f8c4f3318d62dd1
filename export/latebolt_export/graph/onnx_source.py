"""Takes a float32 ONNX graph that somebody else exported and gives it our inputs and outputs. Loads no torch.

Known folders: the hub's `onnx/model.onnx` beside a checkpoint's small files, FastEmbed's, next-plaid's with
`onnx_config.json`. Their graphs give token vectors of one width, normalised or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from latebolt.errors import ExportError
from latebolt.formats import graphs, lengths, modules, settings, vocabulary
from latebolt.formats.files import joint_sha256
from latebolt_export.graph import tensors
from latebolt_export.graph.onnx_edit import Builder, lift_constants, set_nodes
from latebolt_export.source import tokenizer_files
from latebolt_export.source.checkpoint import licence
from latebolt_export.source.find import Place
from latebolt_export.source.heads import Output
from latebolt_export.source.origin import Origin

OLDEST_OPSET = 11  # the first with DynamicQuantizeLinear
LATEST_AXES_ATTRIBUTE = 17  # from opset 18 on, ReduceL2 takes its axes as an input
QUANTISED = ("MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "MatMulNBits", "DequantizeLinear")
INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxSource(Origin):
    """A graph to start from. `dim` is the width its folder claims, None where it claims none."""

    file: Path
    heads: int  # attention heads, 0 if unknown
    dim: int | None


def load(place: Place, file: Path) -> OnnxSource:
    """Read the settings and the tokenizer that lie around a graph.

    Raises:
        ModelError: there is no tokenizer, or a setting is not what it should be.
    """
    around = (file.parent, file.parent.parent)
    named = (vocabulary.FILE_NAME, *vocabulary.SOURCES)
    folder = next((each for name in named for each in around if (each / name).is_file()), file.parent)
    stated = settings.read(folder, tokenizer_files.convert(modules.encoder_folder(folder)))
    return OnnxSource(
        name=place.name,
        revision=place.revision,
        architecture=stated.architecture,
        hidden=stated.hidden,
        heads=stated.attention_heads,
        max_tokens=stated.max_tokens,
        frame=stated.frame,
        query=stated.query,
        document=stated.document,
        lowercase=stated.lowercase,
        tokenizer_json=stated.vocabulary.json(),
        licence=licence(folder),
        notes=lengths.beyond(folder, stated.max_tokens),
        file=file,
        dim=stated.dim,
    )


def weights_sha256(source: OnnxSource) -> str:
    """Hex digest of the graph's file and of the data beside it, so that every export of it agrees."""
    folder = source.file.parent
    data = graphs.data_names(source.file.name, graphs.listing(folder))
    return joint_sha256([source.file, *(folder / name for name in data)])


def read(
    source: OnnxSource, dims: Sequence[int] | None, folder: Path
) -> tuple[onnx.ModelProto, tuple[Output, ...]]:
    """The graph as a working graph with our inputs, and unit outputs of the widths asked for.

    Args:
        folder: where its large constants go, if they lie inside the file.
    Raises:
        ExportError: the graph is damaged, not float32, or does not give token vectors of one width.
    """
    try:
        model = tensors.load(source.file, folder / "source.bin")
    except (OSError, DecodeError) as error:
        raise ExportError(f"{source.file}: cannot be read as ONNX ({error}). Download it again.") from error
    _check(model, source.file)
    lift_constants(model)
    keep_our_inputs(model, source.file)
    name = _token_vectors(model, source.file)
    width = _width(model, name, source, folder)
    outputs = _outputs(width, dims, name)
    _unit_outputs(model, name, width, outputs)
    return model, outputs


def _check(model: onnx.ModelProto, file: Path) -> None:
    opset = _opset(model)
    if opset < OLDEST_OPSET:
        raise ExportError(
            f"{file}: is written for opset {opset}, at least {OLDEST_OPSET} is needed. Export it anew."
        )
    if kinds := {node.op_type for node in model.graph.node} & set(QUANTISED):
        raise ExportError(f"{file}: is quantised already ({min(kinds)}). Give the float32 graph.")
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise ExportError(f"{file}: holds float16 weights. Give the float32 graph.")


def keep_our_inputs(model: onnx.ModelProto, file: Path) -> None:
    """Keep our two inputs; token types become zeros."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    names = [value.name for value in inputs]
    if not set(INPUTS) <= set(names) <= {*INPUTS, "token_type_ids"}:
        raise ExportError(f"{file}: has inputs {', '.join(names)}, expected {', '.join(INPUTS)}.")
    if any(value.type.tensor_type.elem_type != TensorProto.INT64 for value in inputs):
        raise ExportError(f"{file}: its inputs should be int64.")
    ours = {value.name: value for value in inputs}
    del model.graph.input[:]
    model.graph.input.extend(ours[name] for name in INPUTS)
    for value in model.graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.INT64, ["batch", "tokens"]))
    if "token_type_ids" in names:
        zeros = helper.make_node(
            "Sub", ["input_ids", "input_ids"], ["token_type_ids"], "latebolt_token_types"
        )
        set_nodes(model, [zeros, *model.graph.node])


def _token_vectors(model: onnx.ModelProto, file: Path) -> str:
    """The output of shape [batch, tokens, width]; the first, where there are several."""
    for value in model.graph.output:
        shape = value.type.tensor_type.shape
        if not value.type.tensor_type.HasField("shape") or len(shape.dim) == 3:
            return str(value.name)
    raise ExportError(f"{file}: has no output [batch, tokens, dim], so it gives no token vectors.")


def _width(model: onnx.ModelProto, name: str, source: OnnxSource, folder: Path) -> int:
    session = tensors.open_session(model, folder)
    ids = np.array([[*source.frame.prefix, *source.frame.suffix]], np.int64)
    found = session.run([name], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    if found.ndim != 3 or found.dtype != np.float32:
        raise ExportError(f"{source.file}: output {name} should be float32 [batch, tokens, dim].")
    width = int(found.shape[2])
    if source.dim is not None and source.dim != width:
        raise ExportError(
            f"{source.file}: output {name} is {width} wide, but the folder says {source.dim}. "
            f"The graph lacks its projection; export the checkpoint itself."
        )
    return width


def _outputs(width: int, dims: Sequence[int] | None, name: str) -> tuple[Output, ...]:
    made = []
    for dim in sorted(set([width] if dims is None else dims), reverse=True):
        if not 0 < dim <= width or dim % 4:
            raise ExportError(f"dims should be multiples of 4 up to {width}, the graph's width, got {dim}.")
        source = f"output {name}" if dim == width else f"rows 0:{dim} of the {width} head (output {name})"
        made.append(Output(dim, 0, source))
    if not made:
        raise ExportError("dims should name at least one width, got none.")
    return tuple(made)


def _unit_outputs(model: onnx.ModelProto, name: str, width: int, outputs: Sequence[Output]) -> None:
    """Put narrowing and L2 normalisation behind the graph's own output, in place."""
    build = Builder(model, "latebolt_head")
    least = build.constant(np.array(1e-12, np.float32))
    for output in outputs:
        vectors = name
        if output.dim < width:
            vectors = build.add("Slice", name, build.ints(0), build.ints(output.dim), build.ints(2))
        if _opset(model) <= LATEST_AXES_ATTRIBUTE:
            norm = build.add("ReduceL2", vectors, axes=[2], keepdims=1)
        else:
            norm = build.add("ReduceL2", vectors, build.ints(2), keepdims=1)
        build.add("Div", vectors, build.add("Max", norm, least))
        build.nodes[-1].output[0] = output.name
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", "tokens", output.dim])
        for output in outputs
    )
    set_nodes(model, [*model.graph.node, *build.nodes])


def _opset(model: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))
