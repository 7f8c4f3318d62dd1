"""How many documents a second become token vectors, beside FastEmbed, plain ONNX Runtime and PyTorch?

The same weights (all-MiniLM-L6-v2 with the built-in model's heads), texts, machine and thread budget; one
child process a contender, so that peak memory is its own. Texts of mixed lengths come from the collections
at LATEBOLT_DATA, or from the standard library's docstrings where there are none. Contenders that are not
installed are left out: `pip install fastembed torch transformers` beside `latebolt[export]`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs

from harness import HERE, THREAD_VARIABLES, peak_mb, record

ASSETS = Path(platformdirs.user_cache_dir("latebolt", appauthor=False)) / "benchmarks" / "encode"
CONTENDERS = (
    "latebolt int8",
    "latebolt fp32",
    "FastEmbed fp32, batch 256 (its default)",
    "FastEmbed fp32, batch 32",
    "FastEmbed fp32, batch 8",
    "FastEmbed fp32, batch 1",
    "ONNX Runtime fp32, padded batches of 32",
    "torch fp32",
    "torch bf16",
)
MAX_TOKENS = 512


def texts(n: int) -> list[str]:
    """`n` real texts of mixed lengths, shuffled."""
    root = Path(os.environ.get("LATEBOLT_DATA", HERE.parents[1] / "shared" / "data"))
    found: list[str] = []
    for name in ("squad", "cosqa", "pubmedqa"):
        path = root / name / "corpus.jsonl.gz"
        if path.exists():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                found += [json.loads(line)["text"] for line in file]
    if not found:
        from latebolt.cli.stdlib_corpus import read_stdlib

        found = [document.text for document in read_stdlib()]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order[:n]]


def prepare() -> None:
    """Export the model at fp32 and int8, and lay the weights out as FastEmbed reads them; once a machine."""
    if not (ASSETS / "model" / "latebolt.json").exists():
        from importlib import resources

        from latebolt_export import checkpoint, graph, heads, module
        from latebolt_export.starter import build_starter, weights_folder

        ASSETS.mkdir(parents=True, exist_ok=True)
        build_starter(ASSETS / "model", precisions=("fp32", "int8"), overwrite=True)
        shutil.rmtree(ASSETS / "fastembed", ignore_errors=True)
        (ASSETS / "fastembed").mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
            shutil.copy(weights_folder() / name, ASSETS / "fastembed" / name)
        # The graph FastEmbed's users have: as traced; ONNX Runtime fuses what it can when it loads it.
        with resources.as_file(
            resources.files("latebolt_export") / "data" / "starter_head.safetensors"
        ) as head:
            found = checkpoint.load(weights_folder(), [head])
        graph.trace(
            module.build(found, heads.choose(found.projections, (128,))), ASSETS / "fastembed" / "model.onnx"
        )


Encode = Callable[[list[str]], int]  # texts -> token vectors made


def latebolt(precision: str, threads: int) -> Encode:
    from latebolt import Encoder

    encoder = Encoder.load(ASSETS / "model", precision=precision, threads=threads)
    encoder.warmup()
    return lambda some: encoder.encode_documents(some).n_tokens


def fastembed(batch: int, threads: int) -> Encode:
    from fastembed.late_interaction.colbert import Colbert

    model = Colbert("colbert-ir/colbertv2.0", threads=threads, specific_model_path=str(ASSETS / "fastembed"))
    return lambda some: sum(len(vectors) for vectors in model.embed(some, batch_size=batch))


def _tokenizer():  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ASSETS / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


def padded_onnx(threads: int) -> Encode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(ASSETS / "model" / "onnx" / "model.onnx"), options)
    tokenizer = _tokenizer()

    def encode(some: list[str]) -> int:
        total = 0
        for start in range(0, len(some), 32):
            batch = tokenizer.encode_batch(some[start : start + 32])
            mask = np.array([e.attention_mask for e in batch])
            session.run(
                ["embeddings_128"], {"input_ids": np.array([e.ids for e in batch]), "attention_mask": mask}
            )
            total += int(mask.sum())
        return total

    return encode


def torch_module(dtype: str, threads: int, device: str = "cpu", batch_size: int = 16) -> Encode:
    """transformers' BertModel with SDPA, texts sorted by length; on CPUs 16 a batch is best of 1 to 64."""
    import torch
    from transformers import BertModel

    from latebolt_export.starter import weights_folder

    torch.set_num_threads(threads)
    model = BertModel.from_pretrained(weights_folder(), attn_implementation="sdpa").eval()
    model = model.to(device, getattr(torch, dtype))
    head = torch.nn.Linear(384, 128, bias=False, device=device, dtype=getattr(torch, dtype))
    tokenizer = _tokenizer()

    def encode(some: list[str]) -> int:
        total = 0
        ordered = sorted(some, key=len)
        with torch.inference_mode():
            for start in range(0, len(ordered), batch_size):
                batch = tokenizer.encode_batch(ordered[start : start + batch_size])
                mask = torch.tensor([e.attention_mask for e in batch], device=device)
                ids = torch.tensor([e.ids for e in batch], device=device)
                vectors = head(model(ids, attention_mask=mask).last_hidden_state)
                torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
                total += int(mask.sum())
        return total

    return encode


def contender(name: str, threads: int) -> Encode:
    """The encoder behind a row's name."""
    if name.startswith("latebolt"):
        return latebolt(name.split()[1], threads)
    if name.startswith("FastEmbed"):
        return fastembed(int(name.split("batch ")[1].split()[0]), threads)
    if name.startswith("ONNX"):
        return padded_onnx(threads)
    return torch_module({"fp32": "float32", "bf16": "bfloat16"}[name.split()[1]], threads)


def run_child(name: str, threads: int, n: int, rounds: int) -> None:
    """Print one JSON row: median over rounds, after one round that is not counted."""
    try:
        encode = contender(name, threads)
    except ImportError as error:
        print(json.dumps({"contender": name, "left out": str(error)}))
        return
    some = texts(n)
    encode(some[: max(8, n // 10)])
    times, tokens = [], 0
    for _ in range(rounds):
        start = time.perf_counter()
        tokens = encode(some)
        times.append(time.perf_counter() - start)
    single = []
    for text in [t[:120] for t in some[:40]]:  # about a 25-token query, one at a time
        start = time.perf_counter()
        encode([text])
        single.append(1e3 * (time.perf_counter() - start))
    seconds = float(np.median(times))
    row = {
        "contender": name,
        "threads": threads,
        "documents_per_s": n / seconds,
        "tokens_per_s": tokens / seconds,
        "one_short_text_ms": float(np.median(single)),
        "peak_MB": peak_mb(),
    }
    print(json.dumps(row))


def main() -> None:
    """Every contender in turn, twice round, medians; speed-ups over FastEmbed's best batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few texts; keeps no record")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    n, rounds = (24, 1) if given.quick else (given.texts, 3)
    if given.child:
        run_child(given.child, given.threads, n, rounds)
        return
    prepare()
    rows = []
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(given.threads))}
    for name in CONTENDERS:
        command = [
            sys.executable,
            __file__,
            "--child",
            name,
            "--threads",
            str(given.threads),
            "--texts",
            str(n),
        ]
        command += ["--quick"] if given.quick else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    measured = [row for row in rows if "documents_per_s" in row]
    for peer, prefix in (("x FastEmbed's best", "FastEmbed"), ("x torch fp32", "torch fp32")):
        best = max(
            (r["documents_per_s"] for r in measured if r["contender"].startswith(prefix)), default=None
        )
        for row in measured:
            row[peer] = row["documents_per_s"] / best if best else None
    record("encode", rows, ("fastembed", "torch", "transformers"), given.quick)


if __name__ == "__main__":
    main()
