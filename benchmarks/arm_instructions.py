"""How many instructions do the kernels take on ARM, a document token, with and without dot products of bytes?

Counted, not timed: QEMU runs the kernels as a Cortex-A57 (Raspberry Pi 4 and 3 are such) and a Cortex-A76
(Raspberry Pi 5), and a plugin adds up what they run. Each kernel is called for N tokens and for 2 N, so that
what a call costs besides falls out. A count says what a change of the code saves, not how long an instruction
takes.

Wants what `make test-arm` wants, and Debian 12's QEMU, which is built with plugins; both are fetched.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import HERE, record

sys.path.insert(0, str(HERE.parent / "tests"))

from latebolt.kernels import isa
from latebolt.kernels.centroids import centroid_levels, centroid_scores, maxsim_centroids, nearest
from latebolt.kernels.maxsim import (
    ResidualArrays,
    maxsim_arrays,
    maxsim_bytes,
    maxsim_residual,
    residual_query,
)
from latebolt.kernels.residual import encode_residual

MARK = 5000  # the system call at which the plugin writes its count
MACHINES = (("cortex-a57", "portable"), ("cortex-a57", "neon"), ("cortex-a76", "neon_dot"))
DIMS = (128, 96, 64)
QUERIES = (32, 4)  # tokens: what a model makes of a query, and a short one
TOKENS = 600  # of documents of 60
CENTROIDS = 256

Kernel = tuple[dict[str, Any], Callable[[int], Any]]  # what a row says of it, and a call for so many tokens


def kernels(dims: tuple[int, ...]) -> Iterator[Kernel]:
    """Every kernel whose work is by the document token."""
    for dim in dims:
        rng = np.random.default_rng(dim)

        def unit(*shape: int, rng: np.random.Generator = rng) -> np.ndarray:
            values = rng.standard_normal(shape)
            return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)

        values, centroids = unit(2 * TOKENS, dim), unit(CENTROIDS, dim)
        cells = rng.integers(0, CENTROIDS, 2 * TOKENS).astype(np.uint16)
        prepared = centroid_levels(centroids)
        yield {"kernel": "nearest_centroid", "dim": dim}, lambda n, v=values, p=prepared: nearest(v[:n], p, 1)
        for n_query in QUERIES:
            query = unit(n_query, dim)
            about = {"dim": dim, "query tokens": n_query}
            for dtype in (np.float32, np.float16):
                some = values.astype(dtype)
                yield (
                    {"kernel": f"maxsim_{np.dtype(dtype)}", **about},
                    lambda n, q=query, s=some: maxsim_arrays(q, s[:n], offsets(n), None, 1),
                )
            some, scales = (
                rng.integers(0, 128, values.shape).astype(np.uint8),
                np.ones(len(values), np.float32),
            )
            yield (
                {"kernel": "maxsim_bytes", **about},
                lambda n, q=query, s=some, c=scales: maxsim_bytes(q, s[:n], c[:n], offsets(n), None, 1),
            )
            table = centroid_scores(centroids @ query.T)
            yield (
                {"kernel": "maxsim_centroids", **about},
                lambda n, t=table, c=cells: maxsim_centroids(t, c[:n], offsets(n), None, 1),
            )
            for bits in (1, 2, 4):
                store = ResidualArrays(
                    rng.integers(0, 256, (2 * TOKENS, dim * bits // 8)).astype(np.uint8), cells,
                    rng.integers(0, 256, 2 * TOKENS).astype(np.uint8),
                    rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32), np.arange(16).astype(np.uint8) * 8,
                )  # fmt: skip
                ready = residual_query(query, centroids, np.full(dim, 0.01, np.float32), 1)
                yield (
                    {"kernel": "maxsim_residual", **about, "bits": bits},
                    lambda n, r=ready, s=store, b=bits: maxsim_residual(r, s, b, offsets(n), None, 1),
                )
        for bits in (1, 2, 4):
            tables = np.full(dim, 0.01, np.float32), np.arange(2**bits) - 2.0 ** (bits - 1), 3.0
            factors = rng.uniform(0.8, 1.2, (256, 2)).astype(np.float32)
            yield (
                {"kernel": "encode_residual", "dim": dim, "bits": bits},
                lambda n, v=values, c=cells, k=centroids, t=tables, f=factors: encode_residual(
                    v[:n], c[:n].astype(np.int64), k, *t, f, 1
                ),
            )


def offsets(n: int) -> np.ndarray:
    """Documents of 60 tokens."""
    return np.arange(0, n + 1, 60)


def inside(dims: tuple[int, ...]) -> None:
    """On the ARM machine: call each kernel between two marks, and print what it was."""
    mark = ctypes.CDLL(None).syscall
    for about, call in kernels(dims):
        call(60)  # loaded, or compiled, before it counts
        for n in (TOKENS, 2 * TOKENS):
            mark(MARK)
            call(n)
            mark(MARK)
        print(json.dumps({"instruction set": isa.active(), **about}), flush=True)


def counted(folder: Path, cpu: str, name: str, dims: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row a kernel, on an ARM machine with that CPU and instruction set."""
    from arm.run import environment

    with tempfile.TemporaryDirectory() as scratch:
        counts = Path(scratch) / "counts"
        command = [
            folder / "counting/qemu", "-plugin", f"file={folder / 'counting/count.so'},out={counts}",
            "-cpu", cpu, "-L", folder / "root", folder / "root/usr/bin/python3.11", __file__, "--child",
            "--dims", ",".join(map(str, dims)),
        ]  # fmt: skip
        there = {
            **environment(folder, cpu),
            "LATEBOLT_ISA": name,
            "LATEBOLT_ARM_PYTHON": str(folder / "python"),
        }
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=there, check=True)
        marks = np.array(counts.read_text().split(), np.int64).reshape(-1, 2, 2)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    taken = np.diff(marks, axis=2)[:, :, 0]
    each = (taken[:, 1] - taken[:, 0]) / TOKENS
    return [
        {"cpu": cpu, **row, "instructions a token": round(float(n), 1)}
        for row, n in zip(rows, each, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one width; keeps no record")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dims", default=",".join(map(str, DIMS)))
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".arm", help="where the ARM machine is")
    given = parser.parse_args()
    dims = tuple(int(dim) for dim in given.dims.split(","))
    if given.child:
        inside(dims)
        return
    from arm.counting import make_counter
    from arm.machine import NoMachine, make
    from arm.run import build_kernels

    folder = given.folder.resolve()
    try:
        make(folder)
        make_counter(folder, HERE / "arm_instructions.c")
    except NoMachine as reason:
        sys.exit(f"arm_instructions: no ARM machine that counts: {reason}")
    build_kernels(folder, Path(sys.executable))
    rows: list[dict[str, Any]] = []
    for cpu, name in MACHINES:
        rows += counted(folder, cpu, name, dims[-1:] if given.quick else dims)
    record("arm_instructions", rows, ("ziglang",), given.quick)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
