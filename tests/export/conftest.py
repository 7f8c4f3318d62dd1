"""Fixtures of the exporter's tests: small random checkpoints in every layout, and one finished export.

What imports torch is imported where it is used: the process that hands out tests reads this, too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import onnx
    import torch
    from transformers import BertConfig, BertModel

    from latebolt_export.torch.module import TokenEmbedder

# On a busy machine OpenMP's threads wait for each other by spinning: a tiny model takes seconds then. Set
# here for the processes that tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What transformers has of them, where they are installed, is for writing texts and finding objects, and a
# third of what its own import takes, in each process that collects. tests/frameworks has them back.
for _name in ("sklearn", "scipy"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Where torch was there before this file."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config() -> BertConfig:
    from small import HIDDEN, LAYERS, vocabulary
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=192,
    )


@pytest.fixture(scope="session")
def bert(config: BertConfig) -> BertModel:
    """A random encoder; wide initial values, so that its outputs depend on its inputs."""
    import torch
    from transformers import BertModel

    torch.manual_seed(7)
    model = BertModel(config, add_pooling_layer=True).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="session")
def head() -> torch.Tensor:
    import torch
    from small import DIM, HIDDEN

    torch.manual_seed(8)
    return torch.randn(DIM, HIDDEN)


@pytest.fixture
def make(tmp_path: Path, bert: BertModel, head: torch.Tensor) -> Callable[..., Path]:
    """make("stanford" | "pylate" | "plain") -> a checkpoint folder."""
    from small import write_checkpoint

    def made(layout: str, name: str = "checkpoint") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_checkpoint(folder, layout, bert, head)
        return folder

    return made


@pytest.fixture(scope="session")
def hidden_states(bert: BertModel) -> Callable[[list[int]], torch.Tensor]:
    """What plain transformers makes of one text's ids: float32 [tokens, hidden]."""
    import torch

    def run(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return bert(torch.tensor([ids])).last_hidden_state[0]

    return run


@pytest.fixture(scope="session")
def ids() -> list[list[int]]:
    """Texts of several lengths as ids of the tests' vocabulary."""
    import torch

    generator = torch.Generator().manual_seed(3)
    lengths = (3, 17, 64, 150)
    return [[4, *torch.randint(7, 91, (n - 2,), generator=generator).tolist(), 5] for n in lengths]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory, bert: BertModel, head: torch.Tensor) -> TokenEmbedder:
    """The module of a Stanford checkpoint with heads 16 and 8."""
    from small import write_checkpoint

    from latebolt_export.source import checkpoint
    from latebolt_export.source.heads import choose
    from latebolt_export.torch.module import build

    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, "stanford", bert, head)
    found = checkpoint.load(folder)
    return build(found, choose(found.projections, [16, 8]))


@pytest.fixture(scope="session")
def _fused(tmp_path_factory: pytest.TempPathFactory, embedder: TokenEmbedder) -> onnx.ModelProto:
    from latebolt_export.graph.fuse import fuse
    from latebolt_export.torch.trace import trace

    return fuse(trace(embedder, tmp_path_factory.mktemp("traced")))


@pytest.fixture
def fused(_fused: onnx.ModelProto) -> onnx.ModelProto:
    """The fused graph of `embedder`, free to be changed."""
    copy = type(_fused)()
    copy.CopyFrom(_fused)
    return copy


@pytest.fixture(scope="session")
def run() -> Callable[..., list[np.ndarray]]:
    """run(model, ids rows, mask rows=all ones) -> every output, float32 [batch, tokens, dim]."""
    import onnxruntime

    def made(
        model: onnx.ModelProto, rows: list[list[int]], mask: list[list[int]] | None = None
    ) -> list[np.ndarray]:
        feed = {"input_ids": np.array(rows), "attention_mask": np.array(mask or np.ones_like(rows))}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return session.run(None, feed)

    return made


@pytest.fixture(scope="session")
def foreign_graph(tmp_path_factory, bert, head):
    """A float32 graph as a plain torch export makes it: nothing fused."""
    import torch

    class Exported(torch.nn.Module):
        """What the hub's ColBERT graphs hold: encoder, head, token types, vectors as the head leaves them."""

        def __init__(self):
            super().__init__()
            self.bert, self.linear = bert, torch.nn.Linear(32, 16, bias=False)
            self.linear.weight.data = head

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.linear(self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state)

    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    ids = torch.ones(2, 9, dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in [*names, "contextual"]}
    before = bert.config._attn_implementation
    bert.config._attn_implementation = "eager"
    torch.onnx.export(
        Exported().eval(), (ids, ids, ids * 0), str(path), dynamo=False, opset_version=14,
        input_names=names, output_names=["contextual"], dynamic_axes=axes,
    )  # fmt: skip
    bert.config._attn_implementation = before
    return path


@pytest.fixture
def foreign(tmp_path, foreign_graph, bert):
    """FastEmbed's layout: the graph beside artifact.metadata."""
    from small import write_tokenizer

    made = tmp_path / "colbert-onnx"
    made.mkdir()
    (made / "model.onnx").write_bytes(foreign_graph.read_bytes())
    write_tokenizer(made)
    bert.config.save_pretrained(made)
    (made / "artifact.metadata").write_text(json.dumps({"query_maxlen": 16, "doc_maxlen": 90, "dim": 16}))
    return made
