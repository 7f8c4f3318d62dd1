"""What the benchmarks on a GPU share: the device, children with a time limit, records that survive a limit.

`--device cpu` takes every benchmark through all that can run without a GPU, at the smallest sizes, and keeps
nothing. `gpu.sh` runs them all on a machine that has one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import harness

Row = dict[str, Any]
# Contenders that take part where they are installed.
OPTIONAL = ("FastEmbed", "flash-maxsim", "late-interaction-kernels")
PACKAGES = ("onnxruntime-gpu", "torch", "transformers", "triton", "numba-cuda", "nvidia-ml-py")


def arguments(description: str | None, **extra: Any) -> argparse.Namespace:
    """As `harness.arguments`, with --device, --limit and --folder; without a GPU a dry run is a quick one."""
    folder = str(Path(os.environ.get("LATEBOLT_GPU_ASSETS", harness.HERE.parent / ".gpu-assets")))
    given = harness.arguments(description, device="cuda", limit=120, folder=folder, **extra)
    given.folder, given.dry = Path(given.folder), given.device == "cpu"
    given.quick = given.quick or given.dry
    return given


def refuse_without_gpu(name: str, device: str) -> None:
    """End with one line unless a session starts on the device, and torch sees one."""
    if device == "cpu":
        return
    from latebolt.devices import parse
    from latebolt.gpu import finding, libraries

    found, number = finding.find(), parse(device)[0].number
    if libraries.faults(found, number):
        sys.exit(f"{name}: {libraries.why_not(found, number)} (A dry run without a GPU: --device cpu.)")
    import torch

    if not torch.cuda.is_available():
        sys.exit(f"{name}: torch sees no CUDA device here. Install a torch with CUDA beside a GPU driver.")


def gpu_name(device: str) -> str:
    """The GPU's own name; "none: a dry run" for the CPU."""
    if device == "cpu":
        return "none: a dry run"
    from latebolt.devices import parse
    from latebolt.gpu import nvml

    found = nvml.gpu(parse(device)[0].number)
    return "unknown" if found is None else found.name


def measured(script: str, run: Callable[[argparse.Namespace], Row], given: argparse.Namespace) -> Row:
    """What `run(given)` finds, in a child process, which prints it as its last line; or what "failed", if
    that does or takes longer than --limit. A dry run, which measures nothing, saves the process."""
    if given.dry:
        try:
            return run(given)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as of a child
            return {"failed": f"{type(error).__name__}: {error}"[:300]}
    command = [sys.executable, script, "--child"]
    for name, value in vars(given).items():
        if name not in ("child", "quick", "dry"):
            command += [f"--{name.replace('_', '-')}", str(value)]
    return in_child(command + ["--quick"] * given.quick, given.limit)


def in_child(command: list[str], limit: float) -> Row:
    """The last line that a command prints, as JSON, or what "failed".

    Args:
        limit: seconds.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {limit:.0f} s"}
    sys.stderr.write(done.stderr)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        row: Row = json.loads(lines[-1])
        return row
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": (said[-1] if said else f"exit code {done.returncode}")[:300]}


@contextlib.contextmanager
def rows_of(name: str, quick: bool, own: tuple[str, ...]) -> Iterator[Callable[[Row], None]]:
    """Takes rows one by one, prints each at once, and records what there is at the end, however it comes:
    `timeout` ends a run with SIGTERM.

    Ends with exit code 1 where a contender failed that was not merely left out.

    Args:
        own: what tells rows apart; others of the last record on the same GPU stay.
    """
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped at its time limit"))
    try:
        yield add
    finally:
        signal.signal(signal.SIGTERM, before)
        if rows:
            kept = [] if quick else harness.kept_rows(name, rows, own, ("gpu",))
            harness.record(name, rows + kept, PACKAGES, quick)
    failed = [row for row in rows if "failed" in row and not str(row["contender"]).startswith(OPTIONAL)]
    if failed:
        sys.exit(f"{name}: {len(failed)} failed, {failed[0]['contender']} first: {failed[0]['failed']}")


def settle(device: str) -> None:
    """Wait until torch's work on the device is done."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def copy_bandwidth(device: str) -> float:
    """GB/s that the device's memory moves, bytes read and written counted, in a copy of 4 GB."""
    import torch

    n = 1 << (32 if device != "cpu" else 24)
    source = torch.zeros(n, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)
        settle(device)

    return 2 * n / harness.measure(run, 5)["p10_ms"] / 1e6


def texts(n: int) -> list[str]:
    """Texts of mixed lengths: the collections' where they are at hand, else docstrings of the standard
    library; again and again where there are too few."""
    import encode

    some = encode.texts(n)
    order = np.random.default_rng(1).permutation(n)
    return [some[i % len(some)] for i in order]


def least_cosine(found: Any, expected: Any) -> float:
    """The smallest cosine of a token's vector with what it should be.

    Args:
        found, expected: float [n_tokens, dim] of each text, unit length.
    """
    pairs = zip(found, expected, strict=True)
    return float(min((np.asarray(a) * np.asarray(b)).sum(1).min() for a, b in pairs))
