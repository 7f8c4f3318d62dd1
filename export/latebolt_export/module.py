"""The PyTorch module that is exported: encoder, heads, L2 normalisation.

It is also the reference every graph is compared with. Takes `input_ids` and `attention_mask` only, so
that nothing model-specific is left for the runtime; one builder an architecture, entered in `BUILDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from latebolt.errors import ExportError
from latebolt_export.checkpoint import Checkpoint
from latebolt_export.heads import Dense, Output, Projection

# Finite, so that a wholly masked row stays a number; far enough below any score to vanish in a softmax.
MASKED = -10000.0
# Left in checkpoints by training objectives; no token vector depends on them.
UNUSED = ("pooler.", "cls.", "embeddings.position_ids")
# By the class or function name that a Dense module's config.json ends with, in lower case.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
}


class TokenEmbedder(nn.Module):
    """input_ids, attention_mask int64 [batch, tokens] -> one float32 [batch, tokens, dim] an output."""

    def __init__(
        self, encoder: nn.Module, config: BertConfig, projections: nn.ModuleList, outputs: Sequence[Output]
    ) -> None:
        super().__init__()
        self.config = config  # optimum reads it
        self.encoder = encoder
        self.projections = projections
        self.outputs = tuple(outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(input_ids, attention_mask)
        used = {output.projection for output in self.outputs}
        projected = {i: self.projections[i](hidden) for i in used}
        return {output.name: _unit(projected[output.projection], output.dim) for output in self.outputs}


class BertEncoder(nn.Module):
    """BERT without token types or pooler: the type-0 row is added to the position table once."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        table = model.embeddings
        self.words = table.word_embeddings
        self.norm = table.LayerNorm
        positions = table.position_embeddings.weight + table.token_type_embeddings.weight[0]
        self.positions = nn.Buffer(positions.detach().clone())
        self.layers = model.encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.norm(self.words(input_ids) + self.positions[: input_ids.shape[1]])
        # This spelling of the mask is one that ONNX Runtime's attention fusion knows.
        mask = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * MASKED
        return self.layers(hidden, attention_mask=mask).last_hidden_state


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
        self.activation = ACTIVATIONS[layer.activation]
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
    encoder, config = BUILDERS[checkpoint.architecture](checkpoint)
    projections = nn.ModuleList(_Projection(projection) for projection in checkpoint.projections)
    return TokenEmbedder(encoder, config, projections, outputs).float().eval()


def _bert(checkpoint: Checkpoint) -> tuple[nn.Module, BertConfig]:
    config = BertConfig.from_dict(checkpoint.config)
    config._attn_implementation = "eager"  # the form that the attention fusion matches
    model = BertModel(config, add_pooling_layer=False)
    _fill(model, checkpoint)
    return BertEncoder(model), config


def _fill(model: nn.Module, checkpoint: Checkpoint) -> None:
    state = {name: value for name, value in checkpoint.state.items() if not name.startswith(UNUSED)}
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    expected = {name: shape for name, shape in shapes.items() if not name.startswith(UNUSED)}
    for problem, names in (
        ("lacks", sorted(expected.keys() - state.keys())),
        ("holds an unknown", sorted(state.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ExportError(
                f"{checkpoint.name}: the checkpoint {problem} tensor {names[0]}{more}, "
                f"so it is not the {checkpoint.architecture} encoder of its config.json."
            )
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise ExportError(
                f"{checkpoint.name}: {name} should be {list(shape)} (config.json), "
                f"got {list(state[name].shape)}. One of the two files is from another checkpoint."
            )
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)


BUILDERS: dict[str, Callable[[Checkpoint], tuple[nn.Module, BertConfig]]] = {"bert": _bert}
