"""Spreads a kernel's work over threads of our own; kernels release the GIL, so plain threads do.

A pool of ours instead of numba's: its `workqueue` layer aborts the process when two Python threads
enter a parallel kernel, which a server does.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

# Nanoseconds of work for each thread, below which waking another costs more than it saves.
LEAST_NS = 75_000

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def available_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget_pools() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def pool(workers: int) -> ThreadPoolExecutor:
    """The shared pool with that many threads."""
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="latebolt")
        return _pools[workers]


def plan_ranges(ends: npt.NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """Cut items into at most `parts` neighbouring ranges of about equal weight.

    Args:
        ends: int64 [n_items + 1], ascending: item i weighs ends[i + 1] - ends[i].
        parts: at least 1.
    """
    first, last = int(ends[0]), int(ends[-1])
    cuts = [0]
    for goal in (first + (last - first) * i / parts for i in range(1, parts)):
        cut = int(np.searchsorted(ends, goal))  # the end before may be nearer
        cuts.append(cut - 1 if cut > cuts[-1] and goal - ends[cut - 1] < ends[cut] - goal else cut)
    cuts.append(len(ends) - 1)
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def run(
    ends: npt.NDArray[np.int64],
    ns_a_unit: float,
    work: Callable[[int, int], None],
    threads: int | None = None,
) -> None:
    """Call work(first, last) over ranges that cover all items, on several threads when it pays.

    Args:
        ends: int64 [n_items + 1], ascending: where each item's units of work begin and end.
        ns_a_unit: about how many nanoseconds a unit takes on one thread.
        threads: at most so many; the CPUs of this process by default.
    """
    wanted = threads or available_cpus()
    parts = min(wanted, int(float(ends[-1] - ends[0]) * ns_a_unit / LEAST_NS))
    if parts <= 1 or len(ends) <= 2:
        if len(ends) > 1:
            work(0, len(ends) - 1)
        return
    ranges = plan_ranges(ends, parts)
    others = [pool(wanted).submit(work, first, last) for first, last in ranges[1:]]
    try:
        work(*ranges[0])
    finally:
        for other in others:
            other.result()
