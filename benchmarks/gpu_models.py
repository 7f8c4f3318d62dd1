"""Makes the models of the benchmarks on a GPU, with random weights: on the machine itself, once.

"small" is all-MiniLM-L6-v2's architecture (BERT, 6 layers, 384 wide), "full" is jina-colbert-v2's (24
layers, 1024 wide, rotary, 250,004 words) in its own layout. Nothing has to be carried to the machine: the
tokenizer is the starter's. `python benchmarks/gpu_models.py` makes both, of which "full" takes 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import export
from gpu_machine import Row, arguments, gpu_name

DIM = 128
NAMES = ("small", "full")
# Tokens of a document and of a query, markers included.
DOCUMENT, QUERY = 300, 32
# layers, width, width inside, words, heads
SIZES = {"small": (6, 384, 1536, 30_522, 12), "full": (24, 1024, 4096, 250_004, 16)}
QUICK_SIZES = {"small": (2, 64, 128, 30_522, 2), "full": (2, 128, 256, 30_600, 16)}


def checkpoint(folder: Path, name: str) -> Path:
    """Where the checkpoint of a model lies, in the folder of the benchmarks' models."""
    return folder / f"{name}-checkpoint"


def prepare(folder: Path, name: str, quick: bool) -> Path:
    """The model folder, at fp16 with the graphs for GPUs; made unless it is there. A small one for quick runs
    has fp32, too, for tests."""
    folder = folder / ("quick" if quick else "whole")
    if not (folder / name / "latebolt.json").exists():
        from latebolt_export import export_model
        from latebolt_export.judge import parity, texts

        # Random weights are compared on the GPU itself, by the benchmark; here a few texts will do.
        parity.TEXTS, texts.LENGTHS = 10, (1, 2, 33, 65)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(checkpoint(folder, name), ignore_errors=True)
        write = {"small": write_bert, "full": write_jina}[name]
        write(checkpoint(folder, name), *(QUICK_SIZES if quick else SIZES)[name])

        def tell(step: str) -> None:
            print(f"{name}: {step}", file=sys.stderr, flush=True)

        export_model(
            checkpoint(folder, name),
            folder / name,
            precisions=("fp32", "fp16") if quick else ("fp16",),
            half_outputs=True,
            overwrite=True,
            progress=tell,
        )
    return folder / name


def write_jina(folder: Path, layers: int, hidden: int, inner: int, words: int, heads: int) -> None:
    """A checkpoint in jina-colbert-v2's layout."""
    assert heads == 16, "what export.write_checkpoint writes"
    # Reads 512 tokens, not 8,192: an export compares texts of all lengths with PyTorch, on the CPU.
    export.write_checkpoint(folder, export.Shape(layers, hidden, inner, words, 512, export.ENGLISH))


def write_bert(folder: Path, layers: int, hidden: int, inner: int, words: int, heads: int) -> None:
    """A checkpoint in Stanford's layout, as colbertv2.0 is published."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)

    def linear(name: str, rows: int, width: int) -> dict[str, torch.Tensor]:
        """As BERT begins: small weights, no biases."""
        weight = torch.randn(rows, width, generator=generator) * 0.02
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(rows)}

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(hidden), f"{name}.bias": torch.zeros(hidden)}

    state = norm("embeddings.LayerNorm") | linear("pooler.dense", hidden, hidden)
    for name, rows in (("word", words), ("position", 512), ("token_type", 2)):
        key = f"embeddings.{name}_embeddings.weight"
        state[key] = torch.randn(rows, hidden, generator=generator) * 0.02
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        for name in ("query", "key", "value"):
            state |= linear(f"{layer}.attention.self.{name}", hidden, hidden)
        state |= linear(f"{layer}.attention.output.dense", hidden, hidden)
        state |= linear(f"{layer}.intermediate.dense", inner, hidden)
        state |= linear(f"{layer}.output.dense", hidden, inner)
        state |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
    state = {f"bert.{name}": value for name, value in state.items()}
    state["linear.weight"] = torch.randn(DIM, hidden, generator=generator) * 0.02
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "vocab_size": words,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(export.ENGLISH, folder / "tokenizer.json")
    settings = {"query_maxlen": QUERY, "doc_maxlen": DOCUMENT, "dim": DIM, "attend_to_mask_tokens": True}
    (folder / "artifact.metadata").write_text(json.dumps(settings))
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))


def contenders(given: argparse.Namespace, names: Sequence[str]) -> Iterator[tuple[argparse.Namespace, Row]]:
    """Every contender of every model, which is made if it is not there: what its child is asked, and how its
    row begins. The full model has a fifth of the texts."""
    for model in given.models.split(","):
        prepare(given.folder, model, given.quick)
        n = given.texts if model == "small" or given.quick else given.texts // 5
        for name in names:
            row: Row = {"gpu": gpu_name(given.device), "model": model, "contender": name, "texts": n}
            yield argparse.Namespace(**vars(given) | {"contender": name, "model": model, "texts": n}), row


def main() -> None:
    """Make the models that are not there."""
    given = arguments(__doc__, only="")
    for name in [given.only] if given.only else NAMES:
        print(prepare(given.folder, name, given.quick))


if __name__ == "__main__":
    main()
