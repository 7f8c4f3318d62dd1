"""The transformer encoder as PyTorch modules of ours, one for all families, filled strictly.

Ours, so that no code of a checkpoint is run, every graph has the same nodes, and query, key, value and the
two halves of a gated layer are matrices of their own, which scale and quantise one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from latebolt.errors import ExportError
from latebolt_export.source.architectures import MASKED, Kind, Plan
from latebolt_export.torch.attention import attend, rotary_tables, rotate

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


class Encoder(nn.Module):
    """input_ids, attention_mask int64 [batch, tokens] -> float32 [batch, tokens, hidden].

    Rows are padded on the right: the mask is ones, then zeros.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.words = _Words(plan.vocabulary, plan.hidden)
        if plan.position_rows:
            self.positions = _Table(plan.position_rows, plan.hidden)
        if plan.types:
            self.types = _Table(1, plan.hidden)
        self.norm = nn.LayerNorm(plan.hidden, plan.eps)
        self.layers = nn.ModuleList(_Layer(plan, i) for i in range(len(plan.kinds)))
        self.final_norm = nn.LayerNorm(plan.hidden, plan.eps) if plan.pre_norm else nn.Identity()

    def prepare(self) -> None:
        """Make the tables that follow from weights and settings; call it once the weights are in."""
        width = self.plan.hidden // self.plan.heads
        self.shifts = nn.Buffer(self._shifts()) if self.plan.position_rows or self.plan.types else None
        for number, base in enumerate(_bases(self.plan)):
            cosine, sine = rotary_tables(base, width, self.plan.max_tokens)
            setattr(self, f"cosine{number}", nn.Buffer(cosine, persistent=False))
            setattr(self, f"sine{number}", nn.Buffer(sine, persistent=False))

    def _shifts(self) -> Tensor:
        """What is added to the words: float32 [positions, hidden], or [hidden] without a position table."""
        kind = self.types.weight[0].float() if self.plan.types else torch.zeros(self.plan.hidden)
        return (self.positions.weight.float() + kind if self.plan.position_rows else kind).detach().clone()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.words(input_ids)
        if self.shifts is not None:
            hidden = hidden + self._at_positions(input_ids)
        hidden = self.norm(hidden)
        lengths = attention_mask.sum(1).to(torch.int32)
        tables = {
            base: (getattr(self, f"cosine{number}"), getattr(self, f"sine{number}"))
            for number, base in enumerate(_bases(self.plan))
        }
        biases = {kind: _bias(kind, input_ids.shape[1]) for kind in dict.fromkeys(self.plan.kinds)}
        for layer, kind in zip(self.layers, self.plan.kinds, strict=True):
            hidden = layer(hidden, lengths, biases[kind], tables.get(kind.rotary_base))
        return self.final_norm(hidden)

    def _at_positions(self, input_ids: Tensor) -> Tensor:
        assert self.shifts is not None
        if self.shifts.ndim == 1:
            return self.shifts
        if self.plan.pad is None:
            return self.shifts[: input_ids.shape[1]]
        # RoBERTa counts from pad + 1 and leaves padding tokens, wherever they are, at pad.
        real = (input_ids != self.plan.pad).to(torch.int64)
        return functional.embedding(real.cumsum(1) * real + self.plan.pad, self.shifts)


class _Table(nn.Module):
    """Rows that are still to be filled. nn.Embedding draws random ones, which without memory ("meta") loads
    the whole of torch's compiler: two seconds."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, hidden), requires_grad=False)


class _Words(_Table):
    """The word table, kept in the checkpoint's own dtype: half of a large model's float32 size."""

    def forward(self, input_ids: Tensor) -> Tensor:
        rows = functional.embedding(input_ids, self.weight)
        return rows if rows.dtype == torch.float32 else rows.float()


class _Layer(nn.Module):
    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__()
        self.pre_norm = plan.pre_norm
        # ModernBERT's first layer reads the embeddings, which have just been normalised.
        first = plan.pre_norm and number == 0
        self.norm1 = nn.Identity() if first else nn.LayerNorm(plan.hidden, plan.eps)
        self.attention = _SelfAttention(plan)
        self.norm2 = nn.LayerNorm(plan.hidden, plan.eps)
        self.mlp = _FeedForward(plan)

    def forward(
        self, hidden: Tensor, lengths: Tensor, bias: Tensor | None, tables: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        if self.pre_norm:
            hidden = hidden + self.attention(self.norm1(hidden), lengths, bias, tables)
            return hidden + self.mlp(self.norm2(hidden))
        hidden = self.norm1(hidden + self.attention(hidden, lengths, bias, tables))
        return self.norm2(hidden + self.mlp(hidden))


class _SelfAttention(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.heads = plan.heads
        self.query = nn.Linear(plan.hidden, plan.hidden, bias=plan.bias)
        self.key = nn.Linear(plan.hidden, plan.hidden, bias=plan.bias)
        self.value = nn.Linear(plan.hidden, plan.hidden, bias=plan.bias)
        self.out = nn.Linear(plan.hidden, plan.hidden, bias=plan.bias)

    def forward(
        self, hidden: Tensor, lengths: Tensor, bias: Tensor | None, tables: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        query, key, value = self.query(hidden), self.key(hidden), self.value(hidden)
        if tables is not None:
            query, key = rotate(query, *tables), rotate(key, *tables)
        return self.out(attend(query, key, value, lengths, bias, self.heads))


class _FeedForward(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[plan.activation]
        up_bias = plan.gated_bias if plan.gated else plan.bias
        self.gate = nn.Linear(plan.hidden, plan.inner, bias=plan.gated_bias) if plan.gated else None
        self.up = nn.Linear(plan.hidden, plan.inner, bias=up_bias)
        self.down = nn.Linear(plan.inner, plan.hidden, bias=plan.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(hidden)))
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))


def _bases(plan: Plan) -> list[float]:
    """The rotary bases in use, in order of first use."""
    return [base for base in dict.fromkeys(kind.rotary_base for kind in plan.kinds) if base]


def _bias(kind: Kind, tokens: int) -> Tensor | None:
    """What a kind of attention adds to its scores: float32 [1, 1 | heads, tokens, tokens]."""
    if not kind.window and not kind.slopes:
        return None
    positions = torch.arange(tokens)
    distance = (positions[:, None] - positions[None, :]).abs()[None, None]
    if kind.window:
        return (distance > kind.window).to(torch.float32) * MASKED
    return distance.to(torch.float32) * -torch.tensor(kind.slopes)[None, :, None, None]


def build(plan: Plan, state: Mapping[str, Tensor], where: str) -> Encoder:
    """The encoder of a plan with a checkpoint's weights, float32 but for the word table.

    Args:
        state: tensor name (see `checkpoint.encoder_state`) -> tensor in the stored dtype.
        where: the checkpoint, for messages.
    Raises:
        ExportError: a tensor is missing, unknown or of another shape; it is named.
    """
    if plan.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ExportError(f'{where}: hidden_act "{plan.activation}" is not supported. Supported: {known}.')
    with torch.device("meta"):
        encoder = Encoder(plan)
    filled, used = {}, set()
    for name, parameter in encoder.state_dict().items():
        module, _, kind = name.rpartition(".")
        theirs, part, parts = _source(plan, module)
        theirs = f"{theirs}.{kind}"
        if kind == "bias" and "norm" in module and not plan.norm_bias:
            filled[name] = torch.zeros(parameter.shape)
            continue
        if theirs not in state:
            raise ExportError(
                f"{where}: the checkpoint lacks tensor {theirs}, "
                f"so it is not the {plan.architecture} encoder of its config.json."
            )
        used.add(theirs)
        shape = [parameter.shape[0] * parts, *parameter.shape[1:]]
        found = state[theirs]
        if module == "types" and found.ndim == 2 and found.shape[1] == plan.hidden:
            found = found[:1]
        if list(found.shape) != shape:
            raise ExportError(
                f"{where}: {theirs} should be {shape} (config.json), "
                f"got {list(found.shape)}. One of the two files is from another checkpoint."
            )
        found = found.chunk(parts)[part]
        filled[name] = found if module == "words" else found.float().contiguous()
    if unknown := sorted(state.keys() - used):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ExportError(
            f"{where}: the checkpoint holds an unknown tensor {unknown[0]}{more}, "
            f"so it is not the {plan.architecture} encoder of its config.json."
        )
    encoder.load_state_dict(filled, assign=True)
    encoder.prepare()
    encoder.requires_grad_(False).eval()
    return encoder


def _source(plan: Plan, module: str) -> tuple[str, int, int]:
    """The checkpoint's module for one of ours, and which of how many equal row blocks of it."""
    numbers = re.findall(r"\.(\d+)\.", module)
    theirs = plan.table[re.sub(r"\.\d+\.", ".{i}.", module)].replace("{i}", numbers[0] if numbers else "")
    match = re.fullmatch(r"(.+) \[(\d)/(\d)\]", theirs)
    return (match[1], int(match[2]), int(match[3])) if match else (theirs, 0, 1)
