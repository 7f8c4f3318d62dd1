"""On one GPU: how many documents a second become token vectors, and how long is a query, beside PyTorch?

Two architectures with random weights (`gpu_models.py`): MiniLM's size and jina-colbert-v2's full size.
latebolt runs its fp16 graph in each form in which texts share a run (padded, equal, ragged). PyTorch
runs the same checkpoint by scaled_dot_product_attention in bf16, texts sorted by length as sentence-
transformers and PyLate do, in batches of several sizes of which the best counts, and once more through
torch.compile. FastEmbed's CUDA path takes part where it is installed.

One child process a contender. Before any is timed its vectors are compared with PyTorch's in float32 on
the same device: the least cosine of a token stands in its row, and one below --least is a failure, no
figure. Texts in, vectors on the host: tokenizing is in it, for every contender by the same tokenizer.
The query is one of 32 tokens, median of 200.

    python benchmarks/encode_gpu.py --device cpu        # all of it without a GPU, at the smallest sizes
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpu_machine
import gpu_models
from gpu_machine import Row, least_cosine, measured, refuse_without_gpu, rows_of
from harness import measure, peak_mb

FORMS = ("padded", "equal", "ragged")
BATCHES = (32, 128, 512)
CONTENDERS = (
    *(f"latebolt fp16, {form}" for form in FORMS),
    *(f"torch bf16, batch {batch}" for batch in BATCHES),
    f"torch bf16, compiled, batch {BATCHES[1]}",
    f"FastEmbed fp32, batch {BATCHES[1]}",
)
CHECKED = 48  # texts whose vectors are compared
LEAST = 0.99

Vectors = Sequence[np.ndarray]


class Contender(NamedTuple):
    """documents: texts to vectors on the host; query: one text likewise, None where it is not asked."""

    documents: Callable[[list[str]], Vectors]
    query: Callable[[str], Any] | None


def latebolt(model: Path, form: str, device: str) -> Contender:
    """Our encoder in one form of shared runs; its queries by a recorded graph, too, where there is a GPU."""
    from latebolt import Encoder

    encoder = Encoder.load(model, "fp16", device=device).with_gpu_runs(form=form)
    encoder.warmup()
    captured = encoder.with_gpu_runs(captured=True)
    return Contender(encoder.encode_documents, lambda text: captured.encode_queries([text]))


def torch(folder: Path, name: str, dtype: str, batch: int, compiled: bool, device: str) -> Contender:
    """PyTorch with our tokenizer."""
    from torch_peer import Runner

    encoder, runner = tokenizer(folder / name), _runner(Runner, folder, name, dtype, device, compiled)

    def run(texts: list[str], kind: str) -> Vectors:
        return runner.vectors(encoder.tokenize(texts, kind), batch)

    return Contender(lambda texts: run(texts, "document"), lambda text: run([text], "query"))


def _runner(kind: Any, folder: Path, name: str, dtype: str, device: str, compiled: bool) -> Any:
    return kind(gpu_models.checkpoint(folder, name), gpu_models.DIM, dtype, device, compiled)


def tokenizer(model: Path) -> Any:
    """An encoder that only tokenizes, on the CPU."""
    from latebolt.encoder import model_folder
    from latebolt.encoder.text import TextPipeline

    folder = model_folder.find(model)
    return TextPipeline(folder.tokenizer(), folder.contract)


def fastembed(folder: Path, name: str, batch: int, device: str) -> Contender:
    """FastEmbed's Colbert on a plain fp32 graph, as its users have one."""
    from fastembed.late_interaction.colbert import Colbert

    plain = folder / f"{name}-plain"
    if not plain.exists():
        from torch_peer import export_plainly

        export_plainly(gpu_models.checkpoint(folder, name), gpu_models.DIM, plain)
    model = Colbert("colbert-ir/colbertv2.0", specific_model_path=str(plain), cuda=device != "cpu")
    return Contender(lambda texts: list(model.embed(texts, batch_size=batch)), None)


def contender(given: argparse.Namespace) -> Contender:
    """The encoder behind a row's name."""
    name, folder = given.contender, given.folder / ("quick" if given.quick else "whole")
    if name.startswith("latebolt"):
        return latebolt(folder / given.model, name.rpartition(" ")[2], given.device)
    batch = int(name.rpartition(" ")[2])
    if name.startswith("FastEmbed"):
        return fastembed(folder, given.model, batch, given.device)
    return torch(folder, given.model, "bfloat16", batch, "compiled" in name, given.device)


def run(given: argparse.Namespace) -> Row:
    """One contender: checked, then the median over rounds, after one that is not counted."""
    some, asked = gpu_machine.texts(given.texts), contender(given)
    row: Row = {"least cosine to fp32": check(asked, given, some[:CHECKED])}
    asked.documents(some)
    times, n_tokens = [], 0
    for _ in range(1 if given.quick else 3):
        start = time.perf_counter()
        made = asked.documents(some)
        times.append(time.perf_counter() - start)
        n_tokens = sum(map(len, made))
    seconds = float(np.median(times))
    row |= {"documents_per_s": len(some) / seconds, "tokens_per_s": n_tokens / seconds}
    if asked.query is not None:
        found = measure(
            lambda: asked.query("what is a query"), 2 if given.quick else 200, 1 if given.quick else 10
        )
        row |= {"query_p50_ms": found["median_ms"], "query_p90_ms": found["p90_ms"]}
    return row | {"peak_MB": peak_mb()}


def check(asked: Contender, given: argparse.Namespace, some: list[str]) -> float | None:
    """The least cosine with PyTorch in float32, None of FastEmbed; raises where that is too little."""
    if given.contender.startswith("FastEmbed"):
        return None  # its markers and skipped tokens are its own: vectors of other texts
    folder = given.folder / ("quick" if given.quick else "whole")
    exact = exactly(folder, given.model, given.device, tuple(some))
    least = least_cosine(asked.documents(some), exact)
    if not least >= given.least:
        raise SystemExit(f"{given.contender}: least cosine to float32 {least:.6f}; it is not timed")
    return least


@functools.cache  # a dry run asks for all contenders in one process
def exactly(folder: Path, name: str, device: str, some: tuple[str, ...]) -> Vectors:
    """PyTorch's vectors in float32."""
    return torch(folder, name, "float32", 16, False, device).documents(list(some))


def main() -> None:
    """Every contender of every model in turn; one record."""
    given = gpu_machine.arguments(
        __doc__, contender="", model="", texts=20_000, least=LEAST, only="", models="small,full"
    )
    if given.quick:
        given.texts = min(given.texts, 12 if given.dry else 64)
    if given.child:
        print(json.dumps(run(given)))
        return
    refuse_without_gpu("encode_gpu", given.device)
    with rows_of("encode_gpu", given.quick, ("model", "contender")) as add:
        for one, row in gpu_models.contenders(given, [name for name in CONTENDERS if given.only in name]):
            if one.model == "small" or not one.contender.startswith("FastEmbed"):
                add(row | measured(__file__, run, one))


if __name__ == "__main__":
    main()
