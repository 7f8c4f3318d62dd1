"""One step of one contender, in a process of its own: `python -m contenders.child '{"step": "build", ...}'`.

Prints what it measured as its last line, as JSON. The process keeps to as many processors as it is given
threads and, so that a wrong estimate ends a contender and not the machine, to a limit of memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from contenders import CONTENDERS
from contenders.base import Documents, Search, Setting
from harness import status_mb

AT_LEAST = 10  # queries of a group, however long they take


def main() -> None:
    """Do what the argument says."""
    given = json.loads(sys.argv[1])
    keep_to(given["threads"], given["memory"])
    documents = Documents(Path(given["folder"]), given.get("first"))
    contender = CONTENDERS[given["contender"]]
    index, threads = Path(given["index"]), given["threads"]
    start = time.perf_counter()
    if given["step"] == "build":
        assert contender.build is not None
        contender.build(documents, index, threads)
        answer: dict[str, Any] = {"build_s": time.perf_counter() - start}
    else:
        search = contender.open(documents, index, threads)
        load_s = time.perf_counter() - start
        with np.load(given["queries"]) as kept:
            groups = {name: split(kept[name], kept[f"{name} starts"]) for name in given["groups"]}
            batch = split(kept["batch"], kept["batch starts"])
        answer = {"load_s": load_s, "settings": []}
        for name in given["settings"]:
            measured = measure(search, len(documents), groups, batch, contender.settings[name], given)
            answer["settings"].append({"setting": name, **measured})
        answer |= {"resident_MB": status_mb("VmRSS"), "own_MB": status_mb("RssAnon")}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # libraries' threads and buffers: nothing that is worth waiting for


def keep_to(threads: int, memory: float) -> None:
    """So many processors, and so many bytes of its own; systems that have neither are left as they are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if sys.platform == "linux":
        import resource

        # RLIMIT_DATA counts what is private and writable, not mapped files, which RLIMIT_AS would.
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))


def split(values: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Float32 [n_query, dim] of each query, C-contiguous."""
    return [np.ascontiguousarray(values[a:b], np.float32) for a, b in pairwise(starts)]


def measure(
    search: Search,
    n_documents: int,
    groups: dict[str, list[np.ndarray]],
    batch: list[np.ndarray],
    setting: Setting,
    given: dict[str, Any],
) -> dict[str, Any]:
    """Milliseconds and findings of each group's queries, one after another, and queries a second of a batch.

    A group ends after given["seconds"], a batch is cut to what takes about given["batch_seconds"], as whoever
    scores everything would take an hour otherwise: each says how many queries it had.
    """
    k = given["k"]

    def asked(queries: Sequence[np.ndarray]) -> list[list[int]]:
        found = search(queries, k, setting)
        for hits in found:
            assert len(hits) == len(set(hits)) <= k and all(0 <= i < n_documents for i in hits), hits
        return found

    measured = {}
    for name, queries in groups.items():
        asked(queries[:1])
        measured[name] = timed(asked, queries, given["seconds"])
    typical = np.median(list(measured.values())[-1]["ms"]) / 1e3
    n = min(len(batch), max(AT_LEAST, int(given["batch_seconds"] * given["threads"] / typical)))
    asked(batch[:2])
    start = time.perf_counter()
    found = asked(batch[:n])
    per_second = len(found) / (time.perf_counter() - start)
    return {"groups": measured, "batch_queries": n, "batch_queries_per_s": per_second}


def timed(
    asked: Callable[[Sequence[np.ndarray]], list[list[int]]], queries: list[np.ndarray], seconds: float
) -> dict[str, Any]:
    """Each query once, in order, until the time is over."""
    times: list[float] = []
    found = []
    for query in queries:
        if sum(times) > 1e3 * seconds and len(times) >= AT_LEAST:
            break
        start = time.perf_counter()
        found += asked([query])
        times.append(1e3 * (time.perf_counter() - start))
    return {"ms": times, "found": found}


if __name__ == "__main__":
    main()
