"""Decides which projection each output width uses: one of the checkpoint's own heads, or its first rows.

A head is a chain of dense layers (ColBERT has one, LateOn-Code-edge two). Knows nothing of files or graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latebolt.errors import ExportError

if TYPE_CHECKING:
    import torch

# The activations that torch has without settings or weights of their own, by the lower-case names of their
# classes: what a Dense module's config.json can name. `module` makes them.
ACTIVATIONS = (
    "identity", "tanh", "relu", "gelu", "silu", "sigmoid", "celu", "elu", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "leakyrelu", "logsigmoid", "mish", "relu6", "rrelu", "selu", "softplus",
    "softshrink", "softsign", "tanhshrink",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dense:
    """y = activation(x @ weight.T + bias) (+ x @ residual.T, or + x where `skip`)."""

    weight: torch.Tensor  # [out, in]
    bias: torch.Tensor | None = None  # [out]
    activation: str = "identity"
    residual: torch.Tensor | None = None  # [out, in], where in and out differ
    skip: bool = False  # adds the input itself, where they agree


@dataclass(frozen=True, eq=False)
class Projection:
    """A checkpoint's own head: hidden state -> its natural width, through every layer in order.

    Without layers it is the hidden state itself, of `hidden` components.
    """

    layers: tuple[Dense, ...]
    source: str  # where the weights come from, in words
    hidden: int = 0  # only asked where there are no layers

    @property
    def dim(self) -> int:
        return int(self.layers[-1].weight.shape[0]) if self.layers else self.hidden


def identity(hidden: int) -> Projection:
    """The head that passes hidden states on as they are."""
    return Projection((), "the encoder's own vectors", hidden)


@dataclass(frozen=True)
class Output:
    """One output of the graph: the first `dim` components of projection number `projection`."""

    dim: int
    projection: int
    source: str

    @property
    def name(self) -> str:
        return f"embeddings_{self.dim}"


def check(projection: Projection, hidden: int) -> None:
    """Raise ExportError unless the layers fit the encoder and each other."""
    width = hidden
    for layer in projection.layers:
        if layer.weight.ndim != 2 or layer.weight.shape[1] != width:
            raise ExportError(
                f"{projection.source}: head weight should be [dim, {width}], got "
                f"{list(layer.weight.shape)}. This head belongs to another encoder."
            )
        dim = int(layer.weight.shape[0])
        for name, tensor, shape in (("bias", layer.bias, [dim]), ("residual", layer.residual, [dim, width])):
            if tensor is not None and list(tensor.shape) != shape:
                raise ExportError(
                    f"{projection.source}: head {name} should be {shape}, got {list(tensor.shape)}. The file "
                    f"is damaged, or parts of two heads."
                )
        if layer.skip and dim != width:
            raise ExportError(
                f"{projection.source}: a residual from {width} to {dim} components needs residual.weight "
                f"[{dim}, {width}], which is missing."
            )
        if layer.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ExportError(f'{projection.source}: activation "{layer.activation}" is not one of {known}.')
        width = dim


def choose(projections: Sequence[Projection], dims: Sequence[int] | None) -> tuple[Output, ...]:
    """The outputs, widest first; for `dims` None every head at its natural width.

    A width without a head of its own takes the first rows of the narrowest head that is wide enough,
    renormalised; its `source` says so, because only a head trained nested keeps its quality.

    Raises:
        ExportError: no head is that wide, or a width is not a positive multiple of 4.
    """
    own = {projection.dim: i for i, projection in enumerate(projections)}
    outputs = []
    for dim in sorted(set(own if dims is None else dims), reverse=True):
        if dim <= 0 or dim % 4:
            raise ExportError(f"dims should be positive multiples of 4, got {dim}.")
        if dim in own:
            outputs.append(Output(dim, own[dim], projections[own[dim]].source))
            continue
        wider = [width for width in own if width > dim]
        if not wider:
            raise ExportError(
                f"there is no head {dim} wide: the checkpoint's widest is {max(own)}. "
                f"Ask for --dims {max(own)} or less, or give a head file with --head."
            )
        parent = projections[own[min(wider)]]
        source = f"rows 0:{dim} of the {parent.dim} head ({parent.source})"
        outputs.append(Output(dim, own[min(wider)], source))
    if not outputs:
        raise ExportError("dims should name at least one width, got none.")
    return tuple(outputs)
