"""On one GPU: how long does an exhaustive search of all codes take, and how near the memory's speed is it?

Passages of 64 tokens, 128 dimensions, 2 bits, a query of 32 tokens, the best ten. The codes are random
numbers (every figure's row says so): what a search reads and computes is that of real ones, and ten
million passages need no encoding. Centroids are as many as an index of that size has. Beside it
PyTorch's brute force in bf16 (a product and maxima, in blocks), and flash-maxsim and late-interaction-
kernels where they are installed, on random vectors, as far as the device's memory holds 256 bytes a
token.

Before a size is timed, its hits on the device are compared with the CPU's exhaustive search of the same
index, ids and scores; the peers' scores with PyTorch's. "of the bandwidth" is the bytes of codes that
every search has to read over its time, beside what a copy within the device's memory moves a second,
measured in the same process. Batch searches ask sixteen queries in one call.

    python benchmarks/search_gpu.py --device cpu        # all of it without a GPU, at the smallest size
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gpu_machine
from gpu_machine import Row, copy_bandwidth, gpu_name, measured, refuse_without_gpu, rows_of, settle
from harness import folder_bytes, measure, peak_mb

DIM, BITS, N_QUERY, TOKENS, K = 128, 2, 32, 64, 10
CHUNK = 20_000  # passages written at a time
BATCH = 16
CHECKED = 2  # queries
OURS, PEERS = "latebolt 2 bit", ("torch bf16", "flash-maxsim bf16", "late-interaction-kernels bf16")
CONTENDERS = (OURS, *PEERS)
BLOCK = 100_000  # passages that PyTorch scores at a time: 13 GB of products would be written for all


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random unit vectors, float32."""
    values = rng.standard_normal(shape, dtype=np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def queries() -> list[np.ndarray]:
    """The same for all contenders."""
    rng = np.random.default_rng(7)
    return [unit(rng, N_QUERY, DIM) for _ in range(BATCH)]


def build(folder: Path, n: int, seed: int = 0) -> None:
    """An index of `n` passages with random codes."""
    from latebolt.codec.residual_codec import ResidualCodec, default_n_centroids
    from latebolt.index.documents.checked import check_documents
    from latebolt.index.store.store import Column, Store

    rng = np.random.default_rng(seed)
    learnt = ResidualCodec.train(unit(rng, 4096, DIM), BITS, n_centroids=64)
    centroids = unit(rng, default_n_centroids(n * TOKENS), DIM)
    codec = ResidualCodec(
        centroids, learnt.levels, learnt.spread, learnt.factors, BITS, learnt.unit, learnt.far
    )
    with Store.create(folder, dim=DIM, bits=BITS).writer() as writer:
        writer.set_codec(*codec.state())
        segment = writer.new_segment([Column(*spec) for spec in codec.columns])
        for first in range(0, n, CHUNK):
            size = min(CHUNK, n - first)
            names = [str(i) for i in range(first, first + size)]
            lengths = np.full(size, TOKENS, np.int64)
            segment.append(check_documents(size, names, None, None), lengths, random_codes(rng, codec, size))
        segment.finish()
        writer.commit()


def random_codes(rng: np.random.Generator, codec: Any, size: int) -> dict[str, np.ndarray]:
    """The columns of so many passages."""
    made, n = {}, size * TOKENS
    for name, dtype, *shape in codec.columns:
        width = int(np.prod(shape[0])) if shape and shape[0] else 1
        most = {"cell": len(codec.centroids), "norm": len(codec.factors)}.get(name, 256)
        values = rng.integers(0, most, (n, width), dtype=np.dtype(dtype))
        made[name] = values if shape and shape[0] else values[:, 0]
    return made


def ours(given: argparse.Namespace) -> Row:
    """Exhaustive searches of an index that lives on the device."""
    from latebolt import Index

    with tempfile.TemporaryDirectory(dir=given.work or None) as temporary:
        folder = Path(temporary) / "index"
        build(folder, given.passages)
        n_bytes, asked = folder_bytes(folder), queries()
        on_cpu = Index.open(folder)
        expected = [on_cpu.search_vectors(query, k=K, exhaustive=True) for query in asked[:CHECKED]]
        on_cpu.close()
        index = Index.open(folder, device=given.device)
        found = [index.search_vectors(query, k=K, exhaustive=True) for query in asked[:CHECKED]]
        same(found, expected)
        turn = iter(range(1 << 30))

        def one() -> None:
            index.search_vectors(asked[next(turn) % BATCH], k=K, exhaustive=True)

        row = figures(measure(one, 5 if given.quick else 50, 3), given, index.info()["bytes_per_token"])
        together = measure(lambda: index.search_vectors_many(asked, k=K, exhaustive=True), 5, 1)
        row[f"ms_a_query_of_{BATCH}"] = together["median_ms"] / BATCH
    return row | {
        "index_GB": n_bytes / 1e9,
        "checked": f"{CHECKED} queries: the hits of the CPU's exhaustive search",
    }


def same(found: list[Any], expected: list[Any]) -> None:
    """Exit unless hits are equal, ids and scores."""
    for mine, theirs in zip(found, expected, strict=True):
        ids = [[hit.id for hit in hits] for hits in (mine, theirs)]
        scores = [[hit.score for hit in hits] for hits in (mine, theirs)]
        if ids[0] != ids[1] or not np.allclose(*scores, rtol=1e-5):
            raise SystemExit(f"hits differ from the CPU's: {ids[0]} and {ids[1]}; nothing is timed")


def peer(given: argparse.Namespace) -> Row:
    """Brute force over bf16 vectors on the device."""
    import torch

    n = given.passages
    generator = torch.Generator(given.device).manual_seed(0)
    documents = torch.empty(n * TOKENS, DIM, dtype=torch.bfloat16, device=given.device)
    for first in range(0, len(documents), BLOCK * TOKENS):
        part = documents[first : first + BLOCK * TOKENS]
        values = torch.randn(part.shape, generator=generator, device=given.device)
        part.copy_(torch.nn.functional.normalize(values, dim=-1))
    asked = [torch.from_numpy(query).to(given.device, torch.bfloat16) for query in queries()]
    score = scorer(given, documents)
    brute = torch_scorer(documents)
    for query in asked[:CHECKED]:
        difference = float((score(query).float() - brute(query).float()).abs().max())
        if not difference < 0.02 * N_QUERY:
            raise SystemExit(f"scores differ from PyTorch's by {difference:.3f}; nothing is timed")
    turn = iter(range(1 << 30))

    def one() -> None:
        torch.topk(score(asked[next(turn) % BATCH]), min(K, n))
        settle(given.device)

    return figures(measure(one, 5 if given.quick else 30, 3), given, 2 * DIM)


def torch_scorer(documents: Any) -> Callable[[Any], Any]:
    """MaxSim as a product and maxima, in blocks."""
    import torch

    def score(query: Any) -> Any:
        found = []
        for first in range(0, len(documents), BLOCK * TOKENS):
            part = documents[first : first + BLOCK * TOKENS] @ query.T
            found.append(part.view(-1, TOKENS, N_QUERY).amax(1).float().sum(-1))
        return torch.cat(found)

    return score


def scorer(given: argparse.Namespace, documents: Any) -> Callable[[Any], Any]:
    """The scores of all passages by the contender's own way."""
    import torch

    if given.contender.startswith("torch"):
        return torch_scorer(documents)
    starts = torch.arange(0, len(documents) + 1, TOKENS, dtype=torch.int32, device=given.device)
    if given.contender.startswith("flash"):
        from flash_maxsim import flash_maxsim_packed

        return lambda query: flash_maxsim_packed(query, documents, starts, TOKENS)
    from late_interaction_kernels import maxsim_varlen

    ends = torch.tensor([0, N_QUERY], dtype=torch.int32, device=given.device)
    return lambda query: maxsim_varlen(query, documents, ends, starts, N_QUERY, TOKENS)[0]


def figures(times: dict[str, float], given: argparse.Namespace, bytes_per_token: float) -> Row:
    """Milliseconds, and the bytes that had to be read beside what the memory moves."""
    read = given.passages * TOKENS * bytes_per_token
    gb_s, moved = read / times["median_ms"] / 1e6, copy_bandwidth(given.device)
    return {
        "p50_ms": times["median_ms"],
        "p90_ms": times["p90_ms"],
        "bytes_per_token": bytes_per_token,
        "GB_per_s": gb_s,
        "copy_GB_per_s": moved,
        "of the bandwidth": gb_s / moved,
        "peak_MB": peak_mb(),
    }


def run(given: argparse.Namespace) -> Row:
    """One contender at one size."""
    return ours(given) if given.contender == OURS else peer(given)


def fits(given: argparse.Namespace, contender: str) -> bool:
    """Whether the device has room for a peer's vectors, and as much again to work with."""
    from latebolt.devices import parse
    from latebolt.gpu import nvml

    if contender == OURS or given.dry:
        return True
    found = nvml.gpu(parse(given.device)[0].number)
    return found is None or given.passages * TOKENS * 2 * DIM * 1.3 < found.total


def main() -> None:
    """Every size and contender in turn; one record."""
    given = gpu_machine.arguments(
        __doc__, contender="", passages=0, sizes="100000,1000000,10000000", work="", only=""
    )
    if given.child:
        print(json.dumps(run(given)))
        return
    refuse_without_gpu("search_gpu", given.device)
    sizes = [2000] if given.quick else [int(size) for size in given.sizes.split(",")]
    with rows_of("search_gpu", given.quick, ("passages", "contender")) as add:
        for passages in sizes:
            for name in CONTENDERS:
                one = argparse.Namespace(**vars(given) | {"contender": name, "passages": passages})
                if given.only not in name or not fits(one, name):
                    continue
                row = {"gpu": gpu_name(given.device), "passages": passages, "contender": name}
                add(row | {"codes": "random"} | measured(__file__, run, one))


if __name__ == "__main__":
    main()
