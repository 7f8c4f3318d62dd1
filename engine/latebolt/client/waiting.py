"""How a client waits for additions in the background, and what it warns of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Final

from latebolt.client.answers import Job
from latebolt.errors import ServerError, ServerUnreachable

# Additions in the background that wait at the server at a time: it is never idle, and never too full.
JOBS_AT_A_TIME: Final = 3
CUT_QUERY: Final = "the query is longer than the server's model reads; what follows is not searched for."


def polls() -> Iterator[float]:
    """Seconds between two looks at a job."""
    return chain((0.05, 0.1, 0.2, 0.4, 0.8), repeat(1.0))


def is_done(job: Job, end: float | None) -> bool:
    """Whether a job is done.

    Raises:
        ServerError: it failed, was cancelled or was interrupted; says how much of it is on disk.
        ServerUnreachable: the time `end` is over.
    """
    if job.state == "done":
        return True
    if job.is_over:
        why = job.detail or "the server does not say why."
        kept = f" {job.committed} of its {job.documents} documents are on disk." if job.committed else ""
        raise ServerError(f"job {job.id}: {job.state}; {why}{kept}")
    if end is not None and time.monotonic() >= end:
        raise ServerUnreachable(f"job {job.id}: is still {job.state}. Wait again, it goes on.")
    return False
