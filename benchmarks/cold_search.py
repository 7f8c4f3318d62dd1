"""Where does the time of a cold `latebolt search INDEX QUERY` go, from the start of its process to its exit?

A process takes the command's steps one by one in the command's order and says when each has ended, for the
starter and for the model for many languages; beside it the command itself. The graph is loaded on a thread of
its own, so what the parts of loading a model take alone is measured in other processes, and with them what a
cache on disk of the optimised graph would save. Each process is fresh, kernels are compiled, files are in the
page cache; what both imports of a process wait for shows with `python -X importtime`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cold_start import QUERY, demo_index, small_index
from harness import arguments, record

# As `latebolt.cli.main` and `latebolt.cli.search` go; `done` after each step.
STEPS = """
import time
stamps = [("interpreter and site", time.perf_counter(), time.process_time())]
def done(step): stamps.append((step, time.perf_counter(), time.process_time()))
import os, sys
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
import latebolt.cli, latebolt.cli.search; done("the command line (click)")
import numpy; done("NumPy")
import msgspec, sqlite3, tokenizers; done("msgspec, sqlite3, tokenizers")
import onnxruntime; done("ONNX Runtime")
from latebolt.cli.search import _begun
loading = _begun({index!r}, "cpu", None); done("find the model and begin to load its graph")
from latebolt import Encoder, Index; Encoder, Index; done("latebolt's other modules")
from latebolt.encoder import few_texts
with few_texts.expected(): encoder = Encoder.of(loading)
done("tokenizer and llvmlite, and what is left of the graph")
index = Index.open({index!r}, encoder); done("open the index")
found = index.search({query!r}, explain=True)
search = sum(stage.ms for stage in found.stages if stage.name != "align words")
done("search, and the words that matched")
from latebolt.cli.search import _show
_show(found, False, 0.0); done("print")
import json
print(json.dumps([stamps, search]), file=sys.stderr)
sys.stderr.flush()
last = time.perf_counter()
os.write(2, str(last).encode())
if {at_once}: latebolt.cli._leave(0)
"""
# What loading a model consists of, each part alone in a process.
PARTS = """
import time, numpy, onnxruntime, tokenizers
from latebolt import Encoder
from latebolt.encoder import model_folder
folder = model_folder.find({model!r})
file, graph = folder.graph_file("int8")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
options.enable_mem_pattern = False
def load(file): onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
if {part!r} == "write":
    options.optimized_model_filepath = {optimised!r}
    load(file)
start = time.perf_counter()
if {part!r} == "graph":
    load(file)
elif {part!r} == "graph, optimised beforehand":
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    load({optimised!r})
elif {part!r} == "tokenizer":
    from latebolt.encoder import few_texts
    from latebolt.encoder.text import TextPipeline
    with few_texts.expected(): TextPipeline(folder.tokenizer(), folder.contract)
elif {part!r} == "tokenizer, all of it":
    from latebolt.encoder.text import TextPipeline
    TextPipeline(folder.tokenizer(), folder.contract)
elif {part!r} == "llvmlite and the key of the kernels":
    from latebolt.scoring import get_ready
    get_ready()
print(1e3 * (time.perf_counter() - start))
"""
ALONE = (
    "graph",
    "graph, optimised beforehand",
    "tokenizer",
    "tokenizer, all of it",
    "llvmlite and the key of the kernels",
)


def steps(index: str, at_once: bool) -> list[tuple[str, float, float]]:
    """(step, ms, processors' ms) of one process, in order; the last is its exit."""
    script = STEPS.format(index=index, query=QUERY, at_once=at_once)
    start = time.perf_counter()  # on Linux and macOS the clock is that of the child, too
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    end = time.perf_counter()
    stamps, search = json.loads(done.stderr.splitlines()[0])
    last = float(done.stderr.splitlines()[1])
    found, before, cpu_before = [], start, 0.0
    for step, at, cpu in stamps:
        ms, cpu_ms = 1e3 * (at - before), 1e3 * (cpu - cpu_before)
        if step == "search, and the words that matched":
            found += [("search", search, float("nan")), ("show which words matched", ms - search, cpu_ms)]
        else:
            found.append((step, ms, cpu_ms))
        before, cpu_before = at, cpu
    return [*found, ("exit", 1e3 * (end - last), float("nan"))]


def command(index: str) -> tuple[float, float]:
    """Ms and processors' ms of `latebolt search` in a process of its own."""
    start = time.perf_counter()
    line = [sys.executable, "-m", "latebolt", "search", index, QUERY]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    return 1e3 * wall, 1e3 * (usage.ru_utime + usage.ru_stime)


def rows_of(model: str, index: str, rounds: int, threads: int) -> list[dict[str, object]]:
    """A row a step, one for the command, and one for each part of loading the model alone."""
    rows: list[dict[str, object]] = []

    def row(part: str, what: str, values: list[float], cpu: list[float] | None = None) -> None:
        made: dict[str, object] = {"model": model, "part": part, "what": what}
        made |= {"ms": float(np.median(values)), "least_ms": min(values)}
        if cpu is not None and not np.isnan(cpu).any():
            made["cpu_ms"] = float(np.median(cpu))
        rows.append(made)

    command(index)  # compiles what is missing
    runs, slow, whole = [], [], []
    for _ in range(rounds):  # in turns, so that the machine's other work meets all of them
        runs.append(steps(index, True))
        slow.append(steps(index, False)[-1][1])
        whole.append(command(index))
    for i, (what, *_) in enumerate(runs[0]):
        row("step", what, [run[i][1] for run in runs], [run[i][2] for run in runs])
    row("exit", "exit, everything taken apart", slow)
    row("command", "`latebolt search`", [ms for ms, _ in whole], [cpu for _, cpu in whole])
    with tempfile.TemporaryDirectory() as folder:

        def alone(part: str) -> float:
            names = {"model": model, "part": part, "optimised": str(Path(folder) / "optimised.onnx")}
            script = PARTS.format(**names, threads=threads)
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
            return float(done.stdout)

        alone("write")
        times = [[alone(part) for part in ALONE] for _ in range(rounds)]
    for i, part in enumerate(ALONE):
        row("alone", part, [each[i] for each in times])
    return rows


def main() -> None:
    """Medians over fresh processes."""
    given = arguments(__doc__)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have theirs; so should ours
    rounds = 1 if given.quick else 7
    with tempfile.TemporaryDirectory() as folder:
        starter = small_index(folder, "starter") if given.quick else demo_index(folder)
        rows = rows_of("starter", starter, rounds, given.threads)
        if not given.quick:
            rows += rows_of("multilingual", small_index(folder, "multilingual"), rounds, given.threads)
    record("cold_search", rows, (), given.quick)


if __name__ == "__main__":
    main()
