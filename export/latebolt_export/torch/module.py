"""The PyTorch module that is exported: encoder, heads, L2 normalisation.

It is also the reference every graph is compared with. Takes `input_ids` and `attention_mask` only, so
that nothing model-specific is left for the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latebolt_export.source import heads
from latebolt_export.source.checkpoint import Checkpoint
from latebolt_export.source.heads import Dense, Output, Projection
from latebolt_export.source.library_encoder import LibraryPlan
from latebolt_export.torch import encoder

# torch's classes by their names in lower case, as their libraries make them: without arguments.
ACTIVATIONS = {
    name: kind
    for kind in vars(nn).values()
    if isinstance(kind, type) and (name := kind.__name__.lower()) in heads.ACTIVATIONS
}


class TokenEmbedder(nn.Module):
    """input_ids, attention_mask int64 [batch, tokens] -> one float32 [batch, tokens, dim] an output."""

    def __init__(self, encoder: nn.Module, projections: nn.ModuleList, outputs: Sequence[Output]) -> None:
        super().__init__()
        self.encoder = encoder
        self.projections = projections
        self.outputs = tuple(outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return self.project(self.encoder(input_ids, attention_mask))

    def project(self, hidden: Tensor) -> dict[str, Tensor]:
        """float32 [batch, tokens, hidden] -> one [batch, tokens, dim] of unit rows an output."""
        used = {output.projection for output in self.outputs}
        projected = {i: self.projections[i](hidden) for i in used}
        return {output.name: _unit(projected[output.projection], output.dim) for output in self.outputs}

    def run(self, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        """One text: ids and mask int64 [tokens] -> output name -> float32 [tokens, dim]."""
        with torch.inference_mode():
            found = self(torch.from_numpy(ids)[None], torch.from_numpy(mask)[None])
            return {name: value[0].numpy() for name, value in found.items()}


class _Projection(nn.Module):
    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Dense(layer) for layer in projection.layers)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class _Dense(nn.Module):
    def __init__(self, layer: Dense) -> None:
        super().__init__()
        self.linear = _linear(layer.weight, layer.bias)
        self.activation = ACTIVATIONS[layer.activation]()
        self.residual = None if layer.residual is None else _linear(layer.residual, None)
        self.skip = layer.skip

    def forward(self, hidden: Tensor) -> Tensor:
        out = self.activation(self.linear(hidden))
        if self.residual is not None:
            return out + self.residual(hidden)
        return out + hidden if self.skip else out


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data.copy_(weight)
    if bias is not None:
        made.bias.data.copy_(bias)
    return made


def _unit(vectors: Tensor, dim: int) -> Tensor:
    if dim != vectors.shape[-1]:
        vectors = vectors[..., :dim]
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def build(checkpoint: Checkpoint, outputs: Sequence[Output]) -> TokenEmbedder:
    """The float32 module of a checkpoint, in evaluation mode.

    Raises:
        ExportError: the weights do not fill the architecture exactly.
    """
    made: nn.Module
    if isinstance(checkpoint.plan, LibraryPlan):
        from latebolt_export.torch import library

        made = library.build(checkpoint.plan, checkpoint.state)
    else:
        made = encoder.build(checkpoint.plan, checkpoint.state, checkpoint.name)
    return assemble(made, checkpoint.projections, outputs)


def assemble(made: nn.Module, projections: Sequence[Projection], outputs: Sequence[Output]) -> TokenEmbedder:
    """An encoder with heads behind it, in evaluation mode."""
    modules = nn.ModuleList(_Projection(projection) for projection in projections)
    embedder = TokenEmbedder(made, modules, outputs)
    embedder.requires_grad_(False).eval()
    return embedder
