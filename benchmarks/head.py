"""Does the starter's head generalise to questions it was not fitted on?

Fits the head as it was fitted, but with every second query of each collection left out, and measures nDCG@10
on those: before training (principal components of the documents' token vectors) and after. Exact float32
vectors. Takes about half an hour; needs `latebolt[export]` and the collections at LATEBOLT_DATA.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import data_folder, record

COLLECTIONS = ("squad", "cosqa", "pubmedqa")
# The same, but the graph that vectors come from is compared on few texts.
QUICKLY = (
    "-c",
    "from latebolt_export import fit_head; from latebolt_export.judge import parity; parity.TEXTS = 8; "
    "fit_head.main()",
)


def main() -> None:
    """One row a collection and head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 steps on pubmedqa; keeps no record")
    parser.add_argument("--log", type=Path, help="read what an earlier run of fit_head printed instead")
    given = parser.parse_args()
    root = data_folder()
    if given.log:
        printed = given.log.read_text()
    else:
        names = ("pubmedqa",) if given.quick else COLLECTIONS
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, *(QUICKLY if given.quick else ("-m", "latebolt_export.fit_head"))]
            command += [str(root / name) for name in names]
            command += ["--hold-out", "--out", f"{folder}/head.safetensors"]
            # One thread: beside other tests, torch's threads wait for each other by spinning.
            command += ["--steps", "3", "--threads", "1"] if given.quick else []
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = []
    for line in printed.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            figures = {f"nDCG@10, dim {dim}": value for dim, value in found.pop("nDCG@10").items()}
            rows.append({**found, **figures})
    record("head", rows, ("torch",), given.quick)


if __name__ == "__main__":
    main()
