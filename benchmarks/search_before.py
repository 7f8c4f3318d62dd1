"""How long does a search take beside an earlier commit, and what of the best ten does each find?

Processes of both trees have the same vectors (those of `search.py`, at LATEBOLT_DATA), an index each that
they made themselves, and answer the same questions in turn, so that what else the machine does meets both. Of
each question the least of four times counts, after one that is not counted. Questions are those of
`search.py`: rare words, and stretches of 2, 4, 8 and 16 words of documents. The share of the best ten is that
of the same tree's exhaustive search.

`git worktree add ../before 649e45c; python benchmarks/search_before.py --before ../before` compares with the
commit before searches were made to score more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import THREAD_VARIABLES, arguments, record
from search import COLLECTIONS, LENGTHS, Data, K, build, prepare

ROUNDS = 4
HERE = Path(__file__).resolve().parent


def answer(root: Path, place: Path, threads: int) -> None:
    """A process of one tree: for each line (words, number of a question) its ms, and the share it finds."""
    from latebolt import Index

    data = Data(root)
    build("latebolt 2 bit", data, place)
    index = Index.open(place, threads=threads)
    for line in sys.stdin:
        words, number = json.loads(line)
        query = data.by_length[words][number]
        hits = index.search_vectors(query, k=K)
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            index.search_vectors(query, k=K)
            times.append(time.perf_counter() - start)
        best = {hit.id for hit in index.search_vectors(query, k=K, exhaustive=True)}
        print(json.dumps([1e3 * min(times), len(best & {hit.id for hit in hits}) / K]), flush=True)


def started(tree: Path, root: Path, name: str, threads: int) -> subprocess.Popen[str]:
    """The process of a tree."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    environment["PYTHONPATH"] = os.pathsep.join([str(tree / "engine"), str(HERE)])
    code = "import sys; from pathlib import Path; from search_before import answer; "
    code += f"answer(Path({str(root)!r}), Path({str(root / name)!r}), {threads})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=environment, **pipes)


def ask(process: subprocess.Popen[str], words: int, number: int) -> list[float]:
    """Its answer to a question."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{json.dumps([words, number])}\n")
    process.stdin.flush()
    found: list[float] = json.loads(process.stdout.readline())
    return found


def main() -> None:
    """A row a length of questions."""
    given = arguments(__doc__, before="")
    if not given.before:
        raise SystemExit("--before should name a checkout of an earlier commit.")
    trees = {"before": Path(given.before).resolve(), "now": HERE.parent}
    line = ["git", "-C", str(trees["before"]), "log", "-1", "--format=%h"]
    commit = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        facts = (
            prepare(root, 20, 20, COLLECTIONS[-1:]) if given.quick else prepare(root, 250, 20, COLLECTIONS)
        )
        processes = {name: started(tree, root, name, given.threads) for name, tree in trees.items()}
        questions = Data(root).by_length
        for name, process in processes.items():
            ask(process, LENGTHS[0], 0)
            print(name, "is ready", file=sys.stderr)
        for words in LENGTHS:
            found: dict[str, list[list[float]]] = {name: [] for name in processes}
            for number in range(len(questions[words])):
                for name, process in processes.items():
                    found[name].append(ask(process, words, number))
            row: dict[str, Any] = {"words": words, "before": commit}
            for name, answers in found.items():
                times, shares = np.array(answers).T
                row |= {f"{name}, p50 ms": float(np.median(times)), f"{name}, mean ms": float(times.mean())}
                row[f"{name}, of the best ten"] = float(shares.mean())
            for what in ("mean", "p50"):
                row[f"times as long, {what}"] = row[f"now, {what} ms"] / row[f"before, {what} ms"]
            rows.append(row | {name: facts[name] for name in ("documents", "tokens")})
        for process in processes.values():
            process.communicate()
    record("search_before", rows, (), given.quick)


if __name__ == "__main__":
    main()
