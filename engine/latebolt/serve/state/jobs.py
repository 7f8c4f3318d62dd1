"""Additions in the background. State and documents of a job are files, so any process can tell it or run it.

A job is committed some documents at a time, and holds its index for these commits only. How far it is stands
in the index's commits: after a restart it goes on behind the last one, in whichever process comes to it.
Jobs of one index are run in their order. In the folder: ID.json, the state; ID.documents, until it ends;
ID.cancel, where it shall end; INDEX.lock, held by the process that runs the index's jobs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from latebolt.errors import IndexInaccessible, IndexNotFound, LateboltError
from latebolt.file_lock import FileLock
from latebolt.index.documents.checked import CheckedDocument
from latebolt.index.format import files
from latebolt.index.format.layout import DRAFT_SUFFIX
from latebolt.index.ingest.long_addition import Progress
from latebolt.serve import log, metrics
from latebolt.serve.engine.batcher import Ticket, current_ticket
from latebolt.serve.problems import Problem, folder_missing, overloaded, problem_of
from latebolt.serve.state.indexes import Indexes, check_wanted

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

_ID: Final = re.compile(r"[0-9a-f]{32}")
_KEPT: Final = 1000  # jobs remembered
_MOST_WAITING: Final = 200_000_000  # bytes of documents that wait in the folder
_LOOK_SECONDS: Final = 1.0  # between two looks for jobs whose process has ended
_POLL_SECONDS: Final = 0.05
_REQUESTED: Final = "it was cancelled by a request."
_DELETED: Final = "its index was deleted."
_LOST: Final = "its documents are not on disk any more. Send them again."


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
    committed: int = 0
    code: str | None = None  # of a job that failed, as an answer would have it

    def record(self) -> dict[str, Any]:
        """As answers show it."""
        fields = msgspec.structs.asdict(self)
        del fields["process"]  # the rest is for answers
        if self.state == "done":
            fields["committed"] = self.documents  # of a job of an earlier version too
        return {"object": "job", **fields}


class _Mark(msgspec.Struct):
    """That a job shall end, why, and when that was said."""

    detail: str
    at: float


_Row = tuple[str, str | None, str | None]  # of a document: id, text, metadata as JSON
# Made under the import's lock; see `contract`.
_DECODER: Final = msgspec.json.Decoder(Job)
_MARKS: Final = msgspec.json.Decoder(_Mark)
_ROWS: Final = msgspec.json.Decoder(_Row)
_LINES: Final = msgspec.json.Encoder()


class _Stopping(Exception):
    """The server stops; the job goes on after the next start."""


class Jobs:
    """The jobs of a data folder; after `start` this process runs them, one at a time."""

    def __init__(
        self,
        folder: Path,
        indexes: Indexes,
        problem_of: Callable[[Exception, float], Problem] = lambda error, begun: problem_of(error),
    ) -> None:
        self._folder, self._indexes, self._problem_of = folder, indexes, problem_of
        self._lock = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._running: tuple[str, Ticket] | None = None

    def start(self) -> None:
        """Run jobs from now on, those that an earlier process has left first."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._work, name="latebolt-job", daemon=True)
                self._thread.start()

    def begin(self, index: str, documents: Sequence[CheckedDocument]) -> dict[str, Any]:
        """Queue an addition; it is on disk when this returns.

        Raises:
            IndexNotFound: there is no such index.
            Problem: 429, too much waits.
            StorageFull: there is no room for the documents.
        """
        self._indexes.get(index)
        size = sum(document.size for document in documents)
        job = Job(uuid.uuid4().hex, index, "queued", len(documents), time.time(), os.getpid())
        with self._lock:
            waiting = sum(_size(path) for path in self._folder.glob("*.documents"))
            if waiting and waiting + size > _MOST_WAITING:
                raise overloaded("too many documents wait to be added. Try again later.", 30)
            rows = [(document.id, document.text, document.metadata) for document in documents]
            try:
                self._publish(self._path(job.id, "documents"), _LINES.encode_lines(rows))
                self._write(job)
            except BaseException:
                self._path(job.id, "documents").unlink(missing_ok=True)
                raise
        try:
            self._indexes.get(index)
        except IndexNotFound:  # deleted meanwhile, by somebody who may not have seen this job
            self._cancel_one(job.id, _DELETED)
            raise
        finally:
            self._wake.set()
        self._prune()
        return job.record()

    def get(self, id: str) -> dict[str, Any]:
        """A job.

        Raises:
            Problem: 404; 503, the folder has gone.
        """
        return self._get(id).record()

    def all(self) -> list[dict[str, Any]]:
        """All jobs that are remembered, newest first.

        Raises:
            Problem: 503, the folder has gone.
        """
        self._check_folder()
        jobs = [job for path in self._folder.glob("*.json") if (job := self._read(path.stem)) is not None]
        return [job.record() for job in sorted(jobs, key=lambda job: -job.created)]

    def cancel(self, id: str) -> dict[str, Any]:
        """End a job, unless it has ended, and give its last state. What is committed of it stays.

        Raises:
            Problem: 404.
        """
        job = self._get(id)
        if job.ended is None:
            self._cancel_one(id, _REQUESTED)
        # One that is run ends before the next of its commits, in whichever process.
        while (job := self._get(id)).ended is None:
            with self._claimed(job.index) as claimed:
                if claimed:
                    self._end_marked(id)
                    continue
            check_wanted()
            time.sleep(_POLL_SECONDS)
        stored = self._stored(id)
        if stored is not None and stored.ended is not None:  # maybe just before it was to be cancelled
            self._path(id, "cancel").unlink(missing_ok=True)
        return job.record()

    def delete_index(self, name: str) -> None:
        """Delete an index, which ends its jobs.

        Raises:
            IndexNotFound, Problem: see `Indexes.delete`.
        """

        def end_jobs() -> None:
            for job in self._unfinished():
                if job.index == name:
                    self._cancel_one(job.id, _DELETED)

        self._indexes.delete(name, end_jobs)

    def tidy(self) -> None:
        """Clear away what processes that were killed have left. For the time when no other one is there."""
        for draft in self._folder.glob(f"*{DRAFT_SUFFIX}"):
            draft.unlink(missing_ok=True)
        for path in [*self._folder.glob("*.documents"), *self._folder.glob("*.cancel")]:
            job = self._stored(path.stem)
            if job is None or job.ended is not None:
                path.unlink(missing_ok=True)
        for path in self._folder.glob("*.json"):
            job = self._stored(path.stem)
            if job is not None and job.ended is None and not self._path(job.id, "documents").exists():
                self._end(job, "interrupted", _LOST)

    def close(self, seconds: float) -> None:
        """Let the job that runs commit what it works at, for some time, then give it up; it goes on later."""
        with self._lock:
            self._closing.set()
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            running = self._running
            if running is not None:
                running[1].cancel()
            self._thread.join()

    # Running

    def _work(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                has_run = self._run_next()
            except Exception as error:  # noqa: BLE001 - whatever it is, other jobs are to be run
                log.event("jobs not run", logging.ERROR, **log.error_fields(error))
                has_run = False
            if not has_run and not self._closing.is_set():
                self._wake.wait(_LOOK_SECONDS)

    def _run_next(self) -> bool:
        """Run the oldest job of an index that no other process runs one of; whether there was any."""
        for index in dict.fromkeys(job.index for job in self._unfinished()):
            with self._claimed(index) as claimed:
                # Looked at again: another process may have ended it before.
                job = (
                    next((job for job in self._unfinished() if job.index == index), None) if claimed else None
                )
                if job is not None:
                    self._run(job)
                    return True
        return False

    def _unfinished(self) -> list[Job]:
        """Jobs that have documents to add, oldest first."""
        jobs = [
            job for path in self._folder.glob("*.documents") if (job := self._stored(path.stem)) is not None
        ]
        return sorted((job for job in jobs if job.ended is None), key=lambda job: (job.created, job.id))

    @contextlib.contextmanager
    def _claimed(self, index: str) -> Iterator[bool]:
        """Whether the jobs of an index are this thread's to run and to end, until the block ends."""
        lock = FileLock(self._path(index, "lock"))
        try:
            try:
                claimed = lock.acquire()
            except FileNotFoundError as error:
                raise folder_missing("jobs", "jobs_missing") from error
            yield claimed
        finally:
            lock.release()

    def _run(self, job: Job) -> None:
        ticket = Ticket()
        current_ticket.set(ticket)
        self._running = job.id, ticket

        def wanted() -> None:
            if ticket.is_cancelled or self._path(job.id, "cancel").exists():
                raise CancelledError

        def committed(progress: Progress) -> None:
            job.committed = progress.documents
            self._write(job)
            if self._closing.is_set() and job.committed < job.documents:
                raise _Stopping

        begun = time.monotonic()
        try:
            wanted()
            job.state, job.process = "running", os.getpid()
            self._write(job)
            documents = self._documents(job)
            _, job.truncated, job.unread_script = self._indexes.add_long(
                job.index, documents, job.id, wanted, committed
            )
            self._end(job, "done")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the job ended
            mark = self._mark(job.id)
            if mark is not None:
                self._end(job, "cancelled", mark.detail)
            elif isinstance(error, _Stopping) or (self._closing.is_set() and ticket.is_cancelled):
                job.state = "queued"
                self._write(job)
            elif (problem := self._problem_of(error, begun)).code == "data_missing":
                # It goes on when the folder is back, whose files say so even where this cannot be written.
                job.state = "queued"
                self._write(job)
            elif isinstance(error, IndexNotFound):
                self._end(job, "cancelled", _DELETED)
            elif isinstance(error, _Lost):
                self._end(job, "interrupted", _LOST)
            else:
                if problem.status >= 500:
                    fields = {"job": job.id, "index": job.index, "code": problem.code}
                    log.event("job failed", logging.ERROR, **fields, **log.error_fields(error))
                job.code = problem.code
                self._end(job, "failed", problem.detail)
        finally:
            self._running = None

    def _documents(self, job: Job) -> list[CheckedDocument]:
        try:
            rows = _ROWS.decode_lines(self._path(job.id, "documents").read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _Lost from error
        if len(rows) != job.documents:
            raise _Lost
        return [CheckedDocument(*row) for row in rows]

    # Ending

    def _cancel_one(self, id: str, detail: str) -> None:
        """Say that a job shall end; for a reason that was given before, too."""
        with contextlib.suppress(FileExistsError), self._path(id, "cancel").open("xb") as file:
            file.write(msgspec.json.encode(_Mark(detail, time.time())))
        running = self._running
        if running is not None and running[0] == id:
            running[1].cancel()

    def _end_marked(self, id: str) -> None:
        """End a job that shall, and that nobody runs any more."""
        job, mark = self._stored(id), self._mark(id)
        if job is not None and job.ended is None and mark is not None:
            with contextlib.suppress(LateboltError):  # gone, or not to be read: the job's own word stays
                job.committed = self._indexes.progress(job.index, id).documents or job.committed
            self._end(job, "cancelled", mark.detail)

    def _mark(self, id: str) -> _Mark | None:
        try:
            content = self._path(id, "cancel").read_bytes()
        except OSError:
            return None
        try:
            return _MARKS.decode(content)
        except msgspec.DecodeError:  # being written
            return _Mark(_REQUESTED, time.time())

    def _end(self, job: Job, state: State, detail: str | None = None) -> None:
        job.state, job.detail, job.ended = state, detail, time.time()
        try:
            self._write(job)
        except (LateboltError, OSError):  # of a full disk: the documents make room
            self._path(job.id, "documents").unlink(missing_ok=True)
            self._write(job)
        for kind in ("documents", "cancel"):
            self._path(job.id, kind).unlink(missing_ok=True)
        metrics.count(metrics.JOBS, state)

    # Files

    def _path(self, name: str, kind: str) -> Path:
        return self._folder / f"{name}.{kind}"

    def _write(self, job: Job) -> None:
        """For who has claimed its index, or has just made it: there is one at a time."""
        self._publish(self._path(job.id, "json"), msgspec.json.encode(job))

    def _publish(self, path: Path, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            Problem: 503, the folder has gone.
            OSError: the system refuses it otherwise.
        """
        try:
            files.publish(path, content)
        except IndexInaccessible as error:  # what it says of an index is not meant
            self._check_folder(error)
            raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from None

    def _check_folder(self, cause: Exception | None = None) -> None:
        if not self._folder.is_dir():
            raise folder_missing("jobs", "jobs_missing") from cause

    def _get(self, id: str) -> Job:
        job = self._read(id) if _ID.fullmatch(id) else None
        if job is None:
            self._check_folder()
            raise Problem(404, "there is no job of that id.", "job_not_found")
        return job

    def _stored(self, id: str) -> Job | None:
        try:
            return _DECODER.decode(self._path(id, "json").read_bytes())
        except (OSError, msgspec.DecodeError):  # not there yet, pruned meanwhile, or cut short by a power cut
            return None

    def _read(self, id: str) -> Job | None:
        """A job as it is, whether or not somebody has come to write that down."""
        job = self._stored(id)
        if job is None or job.ended is not None:
            return job
        mark = self._mark(id)
        if mark is not None and job.state == "queued":  # whoever comes to it looks for the mark first
            job.state, job.detail, job.ended = "cancelled", mark.detail, mark.at
        elif not self._path(id, "documents").exists():
            job = self._stored(id)  # it may have ended between the two looks
            if job is not None and job.ended is None:
                job.state, job.detail, job.ended = "interrupted", _LOST, job.created
        return job

    def _prune(self) -> None:
        paths = list(self._folder.glob("*.json"))
        if len(paths) <= _KEPT:
            return
        ended = {
            path: job.ended for path in paths if (job := self._stored(path.stem)) and job.ended is not None
        }
        for path in sorted(ended, key=ended.__getitem__)[: len(paths) - _KEPT]:
            path.unlink(missing_ok=True)


class _Lost(Exception):
    """A job's documents are not there any more, or not as they were."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it has ended meanwhile
        return 0
