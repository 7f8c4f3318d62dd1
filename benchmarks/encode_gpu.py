"""On one GPU: how many documents a second does the fp16 graph encode, beside PyTorch in bf16 with SDPA?

The same weights, texts and machine, one child process a contender. PyTorch runs batches of 16, 64 and 256
texts sorted by length; latebolt runs one text after another, as `encode_documents` does. Needs
`pip install 'latebolt[gpu,export]'` and a torch that sees the GPU.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import numpy as np

import encode
from harness import arguments, peak_mb, record

MODEL = encode.ASSETS / "gpu"
BATCHES = (16, 64, 256)
CONTENDERS = ("latebolt fp16", *(f"torch bf16, batch {batch}" for batch in BATCHES))


def refuse_without_gpu() -> None:
    """End with one line unless ONNX Runtime and PyTorch both see a CUDA device."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        sys.exit(
            "encode_gpu: onnxruntime has no CUDA provider here. Run it on a machine with a GPU, with "
            "onnxruntime-gpu in place of onnxruntime."
        )
    import torch

    if not torch.cuda.is_available():
        sys.exit("encode_gpu: torch sees no CUDA device here. Install a torch with CUDA beside a GPU driver.")


def prepare() -> None:
    """Export the starter at fp16, once a machine."""
    if not (MODEL / "latebolt.json").exists():
        from latebolt_export.starter import build_starter

        shutil.rmtree(MODEL, ignore_errors=True)
        MODEL.parent.mkdir(parents=True, exist_ok=True)
        build_starter(MODEL, precisions=("fp16",))


def contender(name: str) -> encode.Encode:
    """The encoder behind a row's name."""
    if name.startswith("torch"):
        return encode.torch_module("bfloat16", 1, "cuda", int(name.rpartition(" ")[2]))
    from latebolt import Encoder

    encoder = Encoder.load(MODEL, "fp16", device="cuda")
    encoder.warmup()
    return lambda some: encoder.encode_documents(some).n_tokens


def run_child(name: str, n: int, rounds: int) -> None:
    """Print one JSON row: median over rounds, after one round that is not counted."""
    run, some = contender(name), encode.texts(n)
    run(some)
    times, tokens = [], 0
    for _ in range(rounds):
        start = time.perf_counter()
        tokens = run(some)
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times))
    row = {"contender": name, "documents_per_s": n / seconds, "tokens_per_s": tokens / seconds}
    print(json.dumps(row | {"peak_MB": peak_mb()}))


def gpu_name() -> str:
    """The GPU's own name."""
    import torch

    return str(torch.cuda.get_device_name())


def main() -> None:
    """Every contender in turn; one record."""
    given = arguments(__doc__, contender="", texts=2000)
    refuse_without_gpu()
    n, rounds = (64, 1) if given.quick else (given.texts, 5)
    if given.child:
        run_child(given.contender, n, rounds)
        return
    prepare()
    rows = []
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--child", "--contender", name, "--texts", str(n)]
        command += ["--quick"] if given.quick else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append({"gpu": gpu_name(), **json.loads(done.stdout.splitlines()[-1])})
    record("encode_gpu", rows, ("onnxruntime-gpu", "torch", "transformers"), given.quick)


if __name__ == "__main__":
    main()
