"""Does work ahead of whoever takes its results: so many jobs at a time on threads, results in order.

What waits is bounded, and an error, an interrupt or a consumer that leaves ends it all.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    jobs: Iterable[T], work: Callable[[T], R], in_flight: int, threads: int | None = None
) -> Generator[R, None, None]:
    """work(job) of every job, in the order of the jobs.

    Jobs are read by the caller's thread, so that their source needs no lock; a job is read when one of those
    before it has been taken. `work` sees the context variables of the caller.

    Args:
        in_flight: results that are being made or wait to be taken, at most; at least 1.
        threads: that work; one for each by default.
    Raises:
        What the source or `work` raises, where its result would stand; nothing is begun after it, and nothing
        still runs.
    """
    waiting: deque[Future[R]] = deque()
    workers = ThreadPoolExecutor(threads or in_flight, "latebolt-ahead")
    try:
        for job in jobs:
            waiting.append(workers.submit(contextvars.copy_context().run, work, job))
            if len(waiting) == in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)
        workers.shutdown(wait=True)
