"""Spreads work over threads of our own: kernels' (`run`) and long jobs' (`run_jobs`); both release the GIL.

A pool of ours instead of numba's: its `workqueue` layer aborts the process when two Python threads
enter a parallel kernel, which a server does. Long jobs have workers of their own, and a caller takes back
what nobody has begun, so that a kernel of less than a millisecond never waits for one of seconds.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from latebolt import system
from latebolt.cpus import available_cpus

T = TypeVar("T")

# Nanoseconds of work for each thread, below which waking another costs more than it saves.
LEAST_NS = 75_000

_pools: dict[tuple[str, int], ThreadPoolExecutor] = {}
_lock = threading.Lock()


def _forget_pools() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


system.after_fork(_forget_pools)


def _pool(kind: str, workers: int) -> ThreadPoolExecutor:
    """The shared pool of a kind with that many threads."""
    with _lock:
        if (kind, workers) not in _pools:
            _pools[kind, workers] = ThreadPoolExecutor(workers, thread_name_prefix=f"latebolt-{kind}")
        return _pools[kind, workers]


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

    What no other thread has begun when this one has done its own part, this one does too.

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
    workers = _pool("kernel", wanted)
    others = [(part, workers.submit(work, *part)) for part in ranges[1:]]
    try:
        work(*ranges[0])
        for part, other in reversed(others):
            if other.cancel():
                work(*part)
    finally:
        _settle([other for _, other in others])


def run_jobs(jobs: Iterable[T], work: Callable[[T], None], threads: int) -> None:
    """Call work(job) for every job, each long, on this thread and up to `threads` - 1 others.

    An error, or an interrupt of this thread, ends it all: no job is begun after it, and none still runs when
    this returns.

    Args:
        jobs: taken one by one, by whichever thread is free.
        threads: at least 1.
    """
    waiting = iter(list(jobs))  # whose `next` is atomic
    stop = threading.Event()

    def take() -> None:
        try:
            for job in waiting:
                if stop.is_set():
                    return
                work(job)
        except BaseException:
            stop.set()
            raise

    helpers = [_pool("bulk", threads - 1).submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        _settle(helpers)


def _settle(futures: Iterable[Future[None]]) -> None:
    """Wait for what has begun, let nothing else begin, and raise the first error."""
    left = [future for future in futures if not future.cancel()]
    wait(left)
    for future in left:
        future.result()
