"""What does a document token take on each instruction set of this processor, on one thread?

A process an instruction set (`LATEBOLT_ISA`) answers in turn, so that what else the machine does meets all of
them; of each the least of several rounds counts. 1.2 million tokens of 128 dimensions in documents of 60 to
180, their codes against 8,192 centroids: an exhaustive search of a small corpus. Every process says what it
found, which has to be the same to the last bit of a product of bytes. The nearest centroid is looked for of
4,096 vectors among 4,096.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import THREAD_VARIABLES, arguments, record
from latebolt.kernels import isa
from latebolt.kernels.centroids import centroid_levels, nearest
from latebolt.kernels.maxsim import ResidualArrays, maxsim_bytes, maxsim_residual, residual_query

DIM, CENTROIDS, QUERIES, ROUNDS = 128, 8192, (8, 16, 32, 64), 7
Work = tuple[dict[str, Any], int, Callable[[], Any]]  # what a row says of it, how many tokens, a call


def works(quick: bool) -> Iterator[Work]:
    """What is timed; the same numbers in every process."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(60, 181, 100 if quick else 10_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    n, centroids = int(offsets[-1]), rng.standard_normal((CENTROIDS, DIM)).astype(np.float32)
    spread = (rng.random(DIM) / 50 + 1e-3).astype(np.float32)
    cells, norms = rng.integers(0, CENTROIDS, n).astype(np.uint16), rng.integers(0, 256, n).astype(np.uint8)
    factors = rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32)
    for bits in (1, 2, 4):
        levels = np.zeros(16, np.uint8)
        levels[: 2**bits] = np.linspace(8, 120, 2**bits)
        codes = rng.integers(0, 256, (n, DIM * bits // 8)).astype(np.uint8)
        store = ResidualArrays(codes, cells, norms, factors, levels)
        for n_query in QUERIES:
            query = residual_query(rng.standard_normal((n_query, DIM)).astype(np.float32), centroids, spread)
            yield (
                {"kernel": f"residual codes, {bits} bit", "query tokens": n_query},
                n,
                lambda q=query, s=store, b=bits: maxsim_residual(q, s, b, offsets, None, 1),
            )
    values, scales = rng.integers(0, 128, (n, DIM)).astype(np.uint8), rng.random(n).astype(np.float32)
    query_ = rng.standard_normal((32, DIM)).astype(np.float32)
    yield (
        {"kernel": "a byte a dimension", "query tokens": 32},
        n,
        lambda: maxsim_bytes(query_, values, scales, offsets, None, 1),
    )
    some = rng.standard_normal((256 if quick else 4096, DIM)).astype(np.float32)
    prepared = centroid_levels(centroids[:4096])
    yield {"kernel": "nearest of 4,096 centroids"}, len(some), lambda: nearest(some, prepared, 1)


def answer(quick: bool) -> None:
    """A process: for each line (a number of a work) its ns a token and what it found."""
    each = list(works(quick))
    for line in sys.stdin:
        _, n, run = each[int(line)]
        start = time.perf_counter()
        found = run()
        took = time.perf_counter() - start
        print(json.dumps([1e9 * took / n, np.asarray(found, np.float64)[:1000].tolist()]), flush=True)


def started(name: str, quick: bool) -> subprocess.Popen[str]:
    """The process of an instruction set."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "LATEBOLT_ISA": name}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    )
    code = f"from instruction_sets import answer; answer({quick})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=environment, **pipes)


def asked(process: subprocess.Popen[str], number: int) -> tuple[float, list[float]]:
    """What a process answers."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    took, found = json.loads(process.stdout.readline())
    return took, found


def main() -> None:
    """Time all instruction sets that this machine has."""
    given = arguments(__doc__)
    sets = [name for name in isa.available() if name != "portable" or given.quick]
    processes = {name: started(name, given.quick) for name in sets}
    rows = []
    for number, (about, _, _) in enumerate(works(True)):
        least = dict.fromkeys(sets, float("inf"))
        answers: dict[str, list[float]] = {}
        for _ in range(2 if given.quick else ROUNDS + 1):  # the first one compiles and reads
            for name, process in processes.items():
                took, answers[name] = asked(process, number)
                least[name] = min(least[name], took)
        for name in sets:
            np.testing.assert_allclose(answers[name], answers[sets[0]], rtol=1e-5, atol=1e-4)
            rows.append({**about, "instruction set": name, "ns_a_token": least[name]})
    for process in processes.values():
        process.communicate()
    record("instruction_sets", rows, quick=given.quick)


if __name__ == "__main__":
    main()
