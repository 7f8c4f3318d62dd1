"""How fast is MaxSim over stored token vectors, beside NumPy and maxsim-cpu, on the same data?

32 query tokens x 128 dimensions, documents of 60-240 tokens. One child process a thread count, so that every
library gets the same budget. `pip install maxsim-cpu` to have the peer in the table.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise

import numpy as np

from harness import arguments, child, measure, peak_int8, record
from latebolt.codec.restore import untrained
from latebolt.kernels.centroids import centroid_scores, maxsim_centroids
from latebolt.kernels.maxsim import ResidualArrays, maxsim_arrays, maxsim_residual, residual_query

N_QUERY, DIM, N_CENTROIDS = 32, 128, 4096
# Documents: 4.6 MB (a rerank call), 23 MB and 300 MB of float32.
SIZES = {"60 documents": 60, "in cache": 300, "out of cache": 4000}


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.standard_normal(shape, dtype=np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def sgemm_peak(threads: int) -> float:
    """Best GFLOP/s of NumPy's float32 matrix product here."""
    a, b = np.ones((1536, 1536), np.float32), np.ones((1536, 1536), np.float32)
    return 2 * 1536**3 / measure(lambda: a @ b, 7)["p10_ms"] / 1e6


def copy_bandwidth() -> float:
    """GB/s read by a sum over 256 MB."""
    a = np.ones(1 << 26, np.float32)
    return a.nbytes / measure(lambda: a.max(), 5)["p10_ms"] / 1e6


def rows_of(threads: int, quick: bool) -> list[dict[str, object]]:
    """One row a kernel and size; every kernel's scores are checked before it is timed."""
    rng = np.random.default_rng(0)
    peak, byte_peak, bandwidth = sgemm_peak(threads), peak_int8(threads), copy_bandwidth()
    rows: list[dict[str, object]] = []
    for size, full in SIZES.items():
        n_docs = min(full, 150) if quick else full
        lengths = rng.integers(60, 240, n_docs)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        n = int(offsets[-1])
        values, query = unit(rng, n, DIM), unit(rng, N_QUERY, DIM)
        exact = np.maximum.reduceat(values @ query.T, offsets[:-1], axis=0).sum(axis=1)

        def numpy_maxsim(values=values, query=query, offsets=offsets) -> np.ndarray:
            return np.maximum.reduceat(values @ query.T, offsets[:-1], axis=0).sum(axis=1)

        contenders: dict[str, tuple[object, float | None]] = {
            "NumPy sgemm + reduceat": (numpy_maxsim, 4 * DIM)
        }
        try:
            import maxsim_cpu

            documents = [values[a:b] for a, b in pairwise(offsets)]
            contenders["maxsim-cpu"] = (
                lambda documents=documents, query=query: maxsim_cpu.maxsim_scores_variable(query, documents),
                4 * DIM,
            )
        except ImportError:
            pass
        half = values.astype(np.float16)
        contenders["latebolt float32"] = (
            lambda v=values, o=offsets, q=query: maxsim_arrays(q, v, o, n_threads=threads), 4 * DIM,
        )  # fmt: skip
        contenders["latebolt float16"] = (
            lambda v=half, o=offsets, q=query: maxsim_arrays(q, v, o, n_threads=threads), 2 * DIM,
        )  # fmt: skip
        int8 = untrained(DIM, 8)
        columns = int8.encode(values)
        contenders["latebolt bytes (u8 x s8 tile)"] = (
            lambda c=columns, o=offsets, q=query, i=int8: i.scorer(q, threads).exact(c, o),
            int8.bytes_per_token(),
        )  # fmt: skip
        for bits in (1, 2, 4):
            store = random_store(rng, n, bits)
            centroids, spread = unit(rng, N_CENTROIDS, DIM), np.full(DIM, 0.001, np.float32)
            prepared_codes = residual_query(query, centroids, spread)
            contenders[f"latebolt residual {bits} bit"] = (
                lambda s=store, b=bits, o=offsets, q=prepared_codes: maxsim_residual(
                    q, s, b, o, n_threads=threads
                ),
                DIM * bits / 8 + 3,
            )
        cells = random_store(rng, n, 1).cells
        prepared = centroid_scores(unit(rng, N_CENTROIDS, DIM) @ query.T)
        contenders["latebolt centroids only (u8 table)"] = (
            lambda p=prepared, c=cells, o=offsets: maxsim_centroids(p, c, o, n_threads=threads), 2.0,
        )  # fmt: skip

        for name, (run, bytes_a_token) in contenders.items():
            got = np.asarray(run())  # type: ignore[operator]
            if "residual" not in name and "centroids" not in name:  # those score other, random vectors
                np.testing.assert_allclose(got, exact, rtol=0.02)
            time.sleep(0 if quick else 0.2)  # the threads of the library before spin on for a while
            times = measure(run, *((5, 2, 0.0) if quick else (25, 2, 0.3)))  # type: ignore[arg-type]
            ns = times["median_ms"] * 1e6 / n
            rows.append(
                {
                    "kernel": name,
                    "size": size,
                    "threads": threads,
                    "ns_a_token": ns,
                    "p10_ns": times["p10_ms"] * 1e6 / n,
                    "sgemm_peak_percent": 100 * 2 * N_QUERY * DIM / ns / peak,
                    "int8_peak_percent": byte_peak and 100 * 2 * N_QUERY * DIM / ns / byte_peak,
                    "GB/s": bytes_a_token / ns,
                    "machine_sgemm_GFLOPs": peak,
                    "machine_int8_GOPs": byte_peak,
                    "machine_GB/s": bandwidth,
                }
            )
    return rows


def random_store(rng: np.random.Generator, n: int, bits: int) -> ResidualArrays:
    """Residual codes of no particular vectors: speed does not depend on what they say."""
    levels = np.zeros(16, np.uint8)
    levels[: 2**bits] = np.linspace(1, 127, 2**bits)
    return ResidualArrays(
        rng.integers(0, 256, (n, DIM * bits // 8), dtype=np.uint8),
        rng.integers(0, N_CENTROIDS, n).astype(np.uint16),
        rng.integers(0, 256, n, dtype=np.uint8),
        rng.uniform(0.9, 1.1, (256, 2)).astype(np.float32),
        levels,
    )


def main() -> None:
    """Children with 1 and 2 threads; the table gets each kernel's speed-up over NumPy and maxsim-cpu."""
    given = arguments(__doc__)
    if given.child:
        print(json.dumps(rows_of(given.threads, given.quick)))
        return
    rows = []
    for threads in (2,) if given.quick else (1, 2):
        rows += child(__file__, ["--quick"] if given.quick else [], threads)
    for row in rows:
        for peer in ("NumPy sgemm + reduceat", "maxsim-cpu"):
            other = [
                r
                for r in rows
                if r["kernel"] == peer and (r["size"], r["threads"]) == (row["size"], row["threads"])
            ]
            if other:
                row[f"x {peer.split()[0]}"] = other[0]["ns_a_token"] / row["ns_a_token"]
    record("maxsim", rows, ("maxsim-cpu",), given.quick)


if __name__ == "__main__":
    main()
