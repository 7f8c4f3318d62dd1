"""What every benchmark shares: timing, the machine in words, child processes with a thread budget, records.

A record is one JSON file under results/ with date, commit, machine, versions and rows; README and REPORT are
made from records, never typed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import latebolt  # noqa: F401 - it switches ONNX Runtime's reports off, of other libraries' processes too

if TYPE_CHECKING:
    from latebolt.corpus.documents import Document

HERE = Path(__file__).parent
RESULTS = HERE / "results"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def measure(
    run: Callable[[], Any], rounds: int = 15, warmup: int = 2, settle_s: float = 0.0
) -> dict[str, float]:
    """Milliseconds a call: median, 10th and 90th percentile.

    settle_s: call it for so long before the calls that count. Threads that have just been woken share a
    processor until the system has spread them, which takes some tens of milliseconds.
    """
    end = time.perf_counter() + settle_s
    while time.perf_counter() < end:
        run()
    times = []
    for i in range(warmup + rounds):
        start = time.perf_counter()
        run()
        if i >= warmup:
            times.append(1e3 * (time.perf_counter() - start))
    low, middle, high = np.percentile(times, (10, 50, 90))
    return {"median_ms": float(middle), "p10_ms": float(low), "p90_ms": float(high), "rounds": rounds}


def peak_mb() -> float:
    """Largest resident memory of this process, in MB; not its parent's, which getrusage would include."""
    from latebolt.cli.common import resident_mb

    return resident_mb()


def peak_int8(threads: int) -> float | None:
    """Most GOP/s of ONNX Runtime's product of bytes (uint8 x int8), over shapes that encoders have.

    None without the onnx package, which writes the one-node graph.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    random, best = np.random.default_rng(0), 0.0
    for width, inner in ((1024, 4096), (4096, 1024)):
        weight = numpy_helper.from_array(random.integers(-64, 64, (width, inner), np.int8), "w")
        node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
        x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", width])
        y = helper.make_tensor_value_info("y", TensorProto.INT32, ["n", inner])
        graph = helper.make_graph([node], "peak", [x], [y], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        for rows in (128, 256, 512):
            values = {"x": random.integers(0, 255, (rows, width), np.uint8)}
            times = measure(lambda s=session, v=values: s.run(None, v), 30)
            best = max(best, 2.0 * rows * width * inner / times["median_ms"] / 1e6)
    return best


def status_mb(name: str) -> float:
    """A size that Linux tells of this process, in MB; NaN on other systems.

    Args:
        name: VmRSS, resident now; VmHWM, at its most; RssAnon, now without pages of files.
    """
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(n.split()[1]) * 1024 / 1e6 for n in lines if n.startswith(name + ":")), float("nan"))


def folder_bytes(folder: Path) -> int:
    """What its files take, sparse ones by their blocks."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(min(file.st_size, 512 * file.st_blocks) for file in files)


def data_folder() -> Path:
    """Where the real collections are, a folder each in the BEIR layout: LATEBOLT_DATA, or ../shared/data."""
    return Path(os.environ.get("LATEBOLT_DATA", HERE.parents[1] / "shared" / "data"))


def read_stdlib() -> list[Document]:
    """What `latebolt.corpus.stdlib` reads, which takes 2 s of a processor; tests hand on what they have read,
    as [id, text, metadata] in the file LATEBOLT_STDLIB."""
    from latebolt.corpus import stdlib
    from latebolt.corpus.documents import Document

    given = os.environ.get("LATEBOLT_STDLIB")
    if given is None:
        return stdlib.read_stdlib()
    return [Document(*fields) for fields in json.loads(Path(given).read_text(encoding="utf-8"))]


def cpu_name() -> str:
    """The CPU's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def machine(packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """CPU, cores as enforced, Python, and versions of the packages that took part."""
    from latebolt.kernels import isa

    versions = {}
    for name in ("numpy", "numba", "llvmlite", "onnxruntime", "tokenizers", *packages):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": isa.active(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def commit() -> str:
    """The commit that was measured, with + when the tree had changes."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, cwd=HERE
    )
    return run.stdout.strip() or "unknown"


def child(script: str, arguments: list[str], threads: int) -> list[dict[str, Any]]:
    """Rows printed as JSON by `script --child`, run with a thread budget of its own."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    done = subprocess.run(
        [sys.executable, script, "--child", "--threads", str(threads), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def record(
    name: str, rows: list[dict[str, Any]], packages: tuple[str, ...] = (), quick: bool = False
) -> None:
    """Print the rows as a table; keep them under results/ unless the run was a quick one."""
    print(table(rows))
    if quick:
        return
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": name,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(packages),
        "rows": rows,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"kept as {path}")


def recorded_rows(name: str) -> list[dict[str, Any]]:
    """Rows of the last record of a benchmark, each with its commit, day and processor; or none."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    measured = {"commit": content["commit"], "date": content["date"], "cpu": content["machine"]["cpu"]}
    return [{**measured, **row} for row in content["rows"]]


def kept_rows(
    name: str, rows: list[dict[str, Any]], own: tuple[str, ...], same: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Rows of the last record of contenders that did not take part this time; each names its commit.

    Args:
        rows: of this run.
        own: what tells contenders apart.
        same: what a kept row must have in common with the first of `rows`, to be comparable; "cpu" is this
            machine's.
    """
    have = {tuple(row.get(each) for each in own) for row in rows}
    first = {"cpu": cpu_name(), **rows[0]}
    return [
        row
        for row in recorded_rows(name)
        if tuple(row.get(each) for each in own) not in have
        and all(row.get(each) == first.get(each) for each in same)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arguments(description: str | None, **extra: Any) -> argparse.Namespace:
    """--quick, --child, --threads, and more options as name=default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under a minute; keeps no record")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    for name, default in extra.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()
