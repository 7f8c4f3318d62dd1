"""Fixtures of the exporter's tests: small random checkpoints in every layout, and one finished export."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from latebolt_export import checkpoint
from latebolt_export.fuse import fuse
from latebolt_export.graph import trace
from latebolt_export.heads import choose
from latebolt_export.module import TokenEmbedder, build

# On a busy machine OpenMP's threads wait for each other by spinning: a tiny model takes seconds then.
torch.set_num_threads(1)

HIDDEN, LAYERS, DIM = 32, 2, 16
SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def config() -> BertConfig:
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
    torch.manual_seed(7)
    model = BertModel(config, add_pooling_layer=True).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="session")
def head() -> torch.Tensor:
    torch.manual_seed(8)
    return torch.randn(DIM, HIDDEN)


def vocabulary() -> list[str]:
    letters = string.ascii_lowercase
    return [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *string.punctuation, "[Q] ", "[D] "]


def write_tokenizer(folder: Path) -> None:
    made = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary())}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 4), ("[SEP]", 5)]
    )
    made.enable_truncation(8)  # must not reach the model folder
    made.enable_padding(length=8)
    made.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


@pytest.fixture
def make(tmp_path: Path, bert: BertModel, head: torch.Tensor) -> Callable[..., Path]:
    """make("stanford" | "pylate" | "plain") -> a checkpoint folder."""

    def made(layout: str, name: str = "checkpoint") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_checkpoint(folder, layout, bert, head)
        return folder

    return made


def write_checkpoint(folder: Path, layout: str, bert: BertModel, head: torch.Tensor) -> None:
    bert.config.save_pretrained(folder)
    write_tokenizer(folder)
    state = {key: value.clone() for key, value in bert.state_dict().items()}
    if layout == "stanford":
        settings = {"query_maxlen": 16, "doc_maxlen": 100, "dim": DIM, "attend_to_mask_tokens": True}
        (folder / "artifact.metadata").write_text(json.dumps(settings))
        state = {f"bert.{key}": value for key, value in state.items()} | {"linear.weight": head.clone()}
    save_file(state, folder / "model.safetensors")
    if layout == "pylate":
        modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
        for idx in (1, 2):
            kind = "pylate.models.Dense.Dense"
            modules.append({"idx": idx, "path": f"{idx}_Dense", "type": kind})
        write_dense(
            folder / "1_Dense", HIDDEN, 24, residual=True, activation="torch.nn.modules.activation.Tanh"
        )
        write_dense(folder / "2_Dense", 24, DIM, bias=True)
        (folder / "modules.json").write_text(json.dumps(modules))
        settings = {
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 20,
            "document_length": 90,
        }
        settings |= {"do_query_expansion": False, "skiplist_words": ["!", ",", "€"]}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))


def write_dense(
    folder: Path,
    width: int,
    dim: int,
    *,
    bias: bool = False,
    residual: bool = False,
    activation: str = "torch.nn.modules.linear.Identity",
) -> None:
    torch.manual_seed(width)
    folder.mkdir()
    tensors = {"linear.weight": torch.randn(dim, width) / width**0.5}
    if bias:
        tensors["linear.bias"] = torch.randn(dim)
    if residual:
        tensors["residual.weight"] = torch.randn(dim, width) / width**0.5
    save_file(tensors, folder / "model.safetensors")
    config = {"in_features": width, "out_features": dim, "bias": bias, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config | {"use_residual": residual}))


@pytest.fixture(scope="session")
def hidden_states(bert: BertModel) -> Callable[[list[int]], torch.Tensor]:
    """What plain transformers makes of one text's ids: float32 [tokens, hidden]."""

    def run(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return bert(torch.tensor([ids])).last_hidden_state[0]

    return run


@pytest.fixture(scope="session")
def ids() -> list[list[int]]:
    """Texts of several lengths as ids of the tests' vocabulary."""
    generator = torch.Generator().manual_seed(3)
    lengths = (3, 17, 64, 150)
    return [[4, *torch.randint(7, 91, (n - 2,), generator=generator).tolist(), 5] for n in lengths]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory, bert: BertModel, head: torch.Tensor) -> TokenEmbedder:
    """The module of a Stanford checkpoint with heads 16 and 8."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, "stanford", bert, head)
    found = checkpoint.load(folder)
    return build(found, choose(found.projections, [16, 8]))


@pytest.fixture(scope="session")
def _fused(tmp_path_factory: pytest.TempPathFactory, embedder: TokenEmbedder) -> onnx.ModelProto:
    return fuse(trace(embedder, tmp_path_factory.mktemp("traced")))


@pytest.fixture
def fused(_fused: onnx.ModelProto) -> onnx.ModelProto:
    """The fused graph of `embedder`, free to be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(_fused)
    return copy


@pytest.fixture(scope="session")
def run() -> Callable[..., list[np.ndarray]]:
    """run(model, ids rows, mask rows=all ones) -> every output, float32 [batch, tokens, dim]."""

    def made(
        model: onnx.ModelProto, rows: list[list[int]], mask: list[list[int]] | None = None
    ) -> list[np.ndarray]:
        feed = {"input_ids": np.array(rows), "attention_mask": np.array(mask or np.ones_like(rows))}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return session.run(None, feed)

    return made
