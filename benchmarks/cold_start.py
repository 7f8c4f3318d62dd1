"""How long until a fresh process has answered, and how much memory does it take?

Steps of an embedded process (import, model, index, one query), each process fresh, kernels cached; and the
`latebolt search` command as a person types it. The index is the demo's, built on the first run.
"""

from __future__ import annotations

import json
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
BLANK = "import numpy; from latebolt.cli.common import resident_mb; print(resident_mb())"


def demo_index(folder: str) -> str:
    """The demo's index under `folder`."""
    subprocess.run(
        [sys.executable, "-m", "latebolt", "demo", "--json"], cwd=folder, check=True, capture_output=True
    )
    return str(Path(folder) / "latebolt-demo" / f"python-{platform.python_version()}-2bit")


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
        blank = subprocess.run([sys.executable, "-c", BLANK], capture_output=True, text=True, check=True)
    imported, opened, first, second, memory = np.median(steps, axis=0)
    rows = [
        {"what": "import latebolt", "ms": 1e3 * imported},
        {"what": "open the index and load the model", "ms": 1e3 * opened},
        {"what": "first search", "ms": 1e3 * first},
        {"what": "second search", "ms": 1e3 * second},
        {"what": "embedded process, start to exit", "ms": 1e3 * float(np.median(walls)), "peak_MB": memory},
        {"what": "`latebolt search`, start to exit", "ms": 1e3 * float(np.median(commands))},
        {"what": "a process that imports NumPy only", "peak_MB": float(blank.stdout)},
    ]
    record("cold_start", rows, (), given.quick)


if __name__ == "__main__":
    main()
