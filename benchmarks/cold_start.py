"""How long until a fresh process has answered, and how much memory does it take?

Steps of an embedded process (import, model, index, one query), each process fresh, kernels cached; and the
`latebolt search` command as a person types it. The index is the demo's, built on the first run. Then what
the kernels alone cost: the first scores, search and index of a process on a machine whose cache of compiled
kernels is empty, and on one where it is full.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import arguments, record

EMBEDDED = """
import time; t = time.perf_counter()
import latebolt; a = time.perf_counter()
index = latebolt.Index.open({index!r}); encoder = index.encoder; b = time.perf_counter()
index.search("how do I read a zip file", k=3); c = time.perf_counter()
index.search("split a string on whitespace", k=3); d = time.perf_counter()
from latebolt.cli.common import resident_mb
import json
print(json.dumps([a - t, b - a, c - b, d - c, resident_mb()]))
"""
# What a first use waits for, beside Python and NumPy: no model is loaded, the vectors are given.
FIRST_USES = {
    "first MaxSim": """
vectors = latebolt.TokenVectors(random((4000, 128)), numpy.arange(0, 4001, 100))
latebolt.maxsim(vectors[0], vectors)
""",
    "first search of an index": """
latebolt.Index.open({index!r}).search_vectors(random((32, 128)))
""",
    "first index made and searched": """
index = latebolt.Index.create({folder!r}, None, dim=128)
index.add_vectors([str(i) for i in range(40)],
                  latebolt.TokenVectors(random((4000, 128)), numpy.arange(0, 4001, 100)))
index.search_vectors(random((32, 128)))
""",
}
TIMED = """
import numpy
def random(shape):
    made = numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)
    return made / numpy.linalg.norm(made, axis=1, keepdims=True)
import time; start = time.perf_counter()
import latebolt
{use}
print(time.perf_counter() - start)
"""
BLANK = "import numpy; from latebolt.cli.common import resident_mb; print(resident_mb())"


def demo_index(folder: str) -> str:
    """The demo's index under `folder`."""
    subprocess.run(
        [sys.executable, "-m", "latebolt", "demo", "--json"], cwd=folder, check=True, capture_output=True
    )
    return str(Path(folder) / "latebolt-demo" / f"python-{platform.python_version()}-2bit")


def first_use(use: str, index: str, cache: str) -> float:
    """Seconds that a fresh process needs for one of `FIRST_USES`, its import of latebolt included."""
    with tempfile.TemporaryDirectory() as folder:
        script = TIMED.format(use=use.format(index=index, folder=str(Path(folder) / "index")))
        environment = {**os.environ, "LATEBOLT_CACHE": cache}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
    return float(done.stdout)


def first_uses(index: str, rounds: int) -> list[dict[str, object]]:
    """A row a use: without compiled kernels, and with them."""
    rows: list[dict[str, object]] = []
    for name, use in FIRST_USES.items():
        without, compiled = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                without.append(1e3 * first_use(use, index, cache))
                compiled.append(1e3 * first_use(use, index, cache))
        rows.append({"what": f"{name}, no kernel compiled yet", "ms": float(np.median(without))})
        rows.append({"what": f"{name}, kernels compiled", "ms": float(np.median(compiled))})
    return rows


def main() -> None:
    """Medians over fresh processes."""
    given = arguments(__doc__)
    rounds = 3 if given.quick else 15
    with tempfile.TemporaryDirectory() as folder:
        index = demo_index(folder)
        steps, walls = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", EMBEDDED.format(index=index)],
                capture_output=True,
                text=True,
                check=True,
            )
            walls.append(time.perf_counter() - start)
            steps.append(json.loads(done.stdout))
        commands = []
        for _ in range(rounds):
            start = time.perf_counter()
            command = [sys.executable, "-m", "latebolt", "search", index, "read a zip file"]
            subprocess.run(command, capture_output=True, check=True)
            commands.append(time.perf_counter() - start)
        uses = first_uses(index, 1 if given.quick else 5)
        blank = subprocess.run([sys.executable, "-c", BLANK], capture_output=True, text=True, check=True)
    imported, opened, first, second, memory = np.median(steps, axis=0)
    rows = [
        {"what": "import latebolt", "ms": 1e3 * imported},
        {"what": "open the index and load the model", "ms": 1e3 * opened},
        {"what": "first search", "ms": 1e3 * first},
        {"what": "second search", "ms": 1e3 * second},
        {"what": "embedded process, start to exit", "ms": 1e3 * float(np.median(walls)), "peak_MB": memory},
        {"what": "`latebolt search`, start to exit", "ms": 1e3 * float(np.median(commands))},
        *uses,
        {"what": "a process that imports NumPy only", "peak_MB": float(blank.stdout)},
    ]
    record("cold_start", rows, (), given.quick)


if __name__ == "__main__":
    main()
