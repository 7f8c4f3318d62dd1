"""Additions in the background. A job's state is a file: every process can tell it, after a restart too.

A job's documents wait in memory. They are on disk when it is "done", all of them; until then none is, and a
job that its process did not live to finish is "interrupted": send its documents again.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from latebolt.index.documents.checked import CheckedDocument
from latebolt.serve import log, metrics
from latebolt.serve.engine.batcher import Ticket, current_ticket
from latebolt.serve.problems import Problem, overloaded, problem_of
from latebolt.serve.state.indexes import Indexes

State = Literal["queued", "running", "done", "failed", "interrupted"]

_ID: Final = re.compile(r"[0-9a-f]{32}")
_KEPT: Final = 1000  # jobs remembered
_MOST_WAITING: Final = 200_000_000  # characters and bytes of documents that wait in memory


class Job(msgspec.Struct):
    """An addition in the background, as its file holds it."""

    id: str
    index: str
    state: State
    documents: int
    created: float
    process: int
    ended: float | None = None
    detail: str | None = None
    truncated: int | None = None
    unread_script: bool | None = None

    def record(self) -> dict[str, Any]:
        """As answers show it."""
        fields = msgspec.structs.asdict(self)
        del fields["process"]  # the rest is for answers
        return {"object": "job", **fields}


_DECODER: Final = msgspec.json.Decoder(Job)  # made under the import's lock; see `contract`


class Jobs:
    """The jobs of a data folder; this process runs its own, one at a time."""

    def __init__(self, folder: Path, indexes: Indexes) -> None:
        self._folder, self._indexes = folder, indexes
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="latebolt-job")
        self._ticket = Ticket()
        self._waiting = 0
        self._lock = threading.Lock()

    def begin(self, index: str, documents: Sequence[CheckedDocument]) -> dict[str, Any]:
        """Queue an addition.

        Raises:
            IndexNotFound: there is no such index.
            Problem: 429, too much waits.
        """
        self._indexes.get(index)
        size = sum(document.size for document in documents)
        with self._lock:
            if self._waiting and self._waiting + size > _MOST_WAITING:
                raise overloaded("too many documents wait to be added. Try again later.", 30)
            self._waiting += size
        job = Job(uuid.uuid4().hex, index, "queued", len(documents), time.time(), os.getpid())
        self._write(job)
        self._prune()
        self._runner.submit(self._run, job, documents, size)
        return job.record()

    def get(self, id: str) -> dict[str, Any]:
        """A job.

        Raises:
            Problem: 404.
        """
        job = self._read(self._folder / f"{id}.json") if _ID.fullmatch(id) else None
        if job is None:
            raise Problem(404, "there is no job of that id.", "job_not_found")
        return job.record()

    def all(self) -> list[dict[str, Any]]:
        """All jobs that are remembered, newest first."""
        jobs = [job for path in self._folder.glob("*.json") if (job := self._read(path)) is not None]
        return [job.record() for job in sorted(jobs, key=lambda job: -job.created)]

    def interrupt_unfinished(self) -> None:
        """Mark what an earlier server left unfinished. For the time before a start."""
        for path in self._folder.glob("*.json"):
            job = self._read(path)
            if job is not None and job.ended is None:
                self._end(job, "interrupted", "the server stopped before it was finished. Send it again.")

    def close(self, seconds: float) -> None:
        """Let the jobs that run or wait finish for some time, then give them up."""
        stopped = threading.Thread(target=self._runner.shutdown, daemon=True)
        stopped.start()
        stopped.join(seconds)
        if stopped.is_alive():
            self._ticket.cancel()
            stopped.join()

    def _run(self, job: Job, documents: Sequence[CheckedDocument], size: int) -> None:
        current_ticket.set(self._ticket)
        try:
            if self._ticket.is_cancelled:
                self._end(job, "interrupted", "the server stopped before it began. Send it again.")
                return
            job.state = "running"
            self._write(job)
            _, job.truncated, job.unread_script = self._indexes.add(job.index, documents)
            self._end(job, "done")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the job ended
            if self._ticket.is_cancelled:
                self._end(job, "interrupted", "the server stopped before it was finished. Send it again.")
                return
            problem = problem_of(error)
            if problem.status >= 500:
                log.event("job failed", logging.ERROR, job=job.id, **log.error_fields(error))
            self._end(job, "failed", problem.detail)
        finally:
            with self._lock:
                self._waiting -= size

    def _end(self, job: Job, state: State, detail: str | None = None) -> None:
        job.state, job.detail, job.ended = state, detail, time.time()
        self._write(job)
        metrics.count(metrics.JOBS, state)

    def _write(self, job: Job) -> None:
        path = self._folder / f"{job.id}.json"
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(job))
        draft.replace(path)

    @staticmethod
    def _read(path: Path) -> Job | None:
        try:
            job = _DECODER.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError):  # pruned meanwhile, or cut short by a power cut
            return None
        if job.ended is None and not _is_alive(job.process):
            job.state, job.detail = "interrupted", "its process ended before it was finished. Send it again."
        return job

    def _prune(self) -> None:
        paths = list(self._folder.glob("*.json"))
        if len(paths) <= _KEPT:
            return
        ended = {path: job.ended for path in paths if (job := self._read(path)) and job.ended is not None}
        for path in sorted(ended, key=ended.__getitem__)[: len(paths) - _KEPT]:
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
