"""On one GPU: how much of encoding's speed is left when texts become a finished index?

Texts to an index that is committed and open for searches, 2 bits a dimension: tokenizing, encoding, learning
the codec, codes, files. Beside it encoding alone, and an index whose codes are made on the CPU. Models with
random weights as in `encode_gpu.py`.

Before anything is timed, an index of each kind is made of some texts, and the best ten by every one of the
questions are compared: what share of them is the same stands in the rows.

    python benchmarks/index_gpu.py --device cpu         # all of it without a GPU, at the smallest sizes
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import gpu_machine
import gpu_models
from gpu_machine import Row, measured, refuse_without_gpu, rows_of
from harness import folder_bytes, peak_mb

ENCODING, ON_DEVICE, ON_CPU = "encoding alone", "texts to index", "texts to index, codes on the CPU"
CONTENDERS = (ENCODING, ON_DEVICE, ON_CPU)
QUESTIONS = 20
CHUNK = 8192
LEAST = 0.9  # of the best ten, with codes of the device and of the CPU


def run(given: argparse.Namespace) -> Row:
    """One contender, after a round of a part that is not counted."""
    from latebolt import Encoder

    some = gpu_machine.texts(given.texts)
    folder = given.folder / ("quick" if given.quick else "whole")
    encoder = Encoder.load(folder / given.model, "fp16", device=given.device)
    encoder.warmup()
    row: Row = {}
    with tempfile.TemporaryDirectory(dir=given.work or None) as temporary:
        if given.contender == ENCODING:
            encoding(encoder, some[: CHUNK // 4])
            seconds, n_tokens = encoding(encoder, some)
        else:
            device = given.device if given.contender == ON_DEVICE else "cpu"
            row["same of the best ten"] = check(encoder, some, Path(temporary), given.device)
            start = time.perf_counter()
            index = made(Path(temporary) / "timed", encoder, some, device)
            seconds, n_tokens = time.perf_counter() - start, index.info()["tokens"]
            row["bytes_per_token"] = folder_bytes(Path(temporary) / "timed") / n_tokens
    row |= {"documents_per_s": len(some) / seconds, "tokens_per_s": n_tokens / seconds}
    return row | {"peak_MB": peak_mb()}


def encoding(encoder: Any, some: list[str]) -> tuple[float, int]:
    """Seconds and token vectors of encoding in the pieces that an index takes."""
    start = time.perf_counter()
    n_tokens = sum(part.n_tokens for part in encoder.iter_documents(some, chunk=CHUNK))
    return time.perf_counter() - start, n_tokens


def made(folder: Path, encoder: Any, some: list[str], device: str) -> Any:
    """A finished index."""
    from latebolt import Index

    index = Index.create(folder, encoder, bits=2, device=device)
    index.add(some)
    return index


def check(encoder: Any, some: list[str], folder: Path, device: str) -> float:
    """The share of the best ten that codes of the device and of the CPU have in common."""
    part = some[:2000]
    questions = [" ".join(text.split()[:8]) or "a" for text in part[:QUESTIONS]]
    found = []
    for name, where in (("there", device), ("here", "cpu")):
        index = made(folder / name, encoder, part, where)
        found.append([{hit.id for hit in index.search(q, k=10, exhaustive=True)} for q in questions])
        shutil.rmtree(folder / name)
    pairs = list(zip(*found, strict=True))
    share = sum(len(a & b) for a, b in pairs) / sum(len(b) for _, b in pairs)
    if share < LEAST:
        raise SystemExit(f"codes of the device find {share:.3f} of what the CPU's find; nothing is timed")
    return share


def main() -> None:
    """Every contender of every model in turn; one record."""
    given = gpu_machine.arguments(__doc__, contender="", model="", texts=60_000, work="", models="small,full")
    if given.quick:
        given.texts = min(given.texts, 24 if given.dry else 96)
    if given.child:
        print(json.dumps(run(given)))
        return
    refuse_without_gpu("index_gpu", given.device)
    with rows_of("index_gpu", given.quick, ("model", "contender")) as add:
        alone = 0.0
        for one, row in gpu_models.contenders(given, CONTENDERS):
            row |= measured(__file__, run, one)
            if one.contender == ENCODING:  # each model's first
                alone = row.get("documents_per_s", 0.0)
            if alone and "documents_per_s" in row:
                row["share of encoding"] = row["documents_per_s"] / alone
            add(row)


if __name__ == "__main__":
    main()
