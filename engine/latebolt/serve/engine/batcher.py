"""The engine: threads that take texts of all requests through the graph, so many tokens at a time.

On the CPU every text runs alone on one thread (see `encoder`), so nothing has to wait for a batch to fill:
an idle server starts at once, and what a busy one makes wait is merged into the next take. `batch_tokens`
bounds a take, and so how long documents hold a thread; a query that comes while they hold all of them gets
one more. A text that is alone in the server gets all threads.

On a GPU the texts of a take share runs, and nothing waits there either: a take is what has come while the one
before it ran, up to a budget of tokens. A thread is a take under way, of which there are a few.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Final

from latebolt.arrays import Float32
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.text import TokenIds
from latebolt.serve import log, metrics
from latebolt.serve.engine.cache import VectorCache
from latebolt.serve.engine.lanes import LANES, Lane, Lanes, Waiting
from latebolt.serve.engine.together import vectors_together
from latebolt.serve.problems import Problem, overloaded

_FIRST_RATE: Final = 20_000.0  # tokens a second, until some have been counted


class Ticket:
    """Whether the work of a request is still wanted. Thread-safe."""

    def __init__(self) -> None:
        self._jobs: set[EncodeJob] = set()
        self._lock = threading.Lock()
        self.is_cancelled = False
        self.n_truncated = 0
        self.has_unread_script = False
        self.index = ""  # that the request names in its body; for the log

    def cancel(self) -> None:
        """Nobody waits for the answer any more: what has not begun never will."""
        with self._lock:
            self.is_cancelled = True
            jobs = list(self._jobs)
        for work in jobs:
            work.future.cancel()

    def _add(self, work: EncodeJob) -> None:
        with self._lock:
            if self.is_cancelled:
                raise CancelledError
            self._jobs.add(work)

    def _remove(self, work: EncodeJob) -> None:
        with self._lock:
            self._jobs.discard(work)


# The ticket of the request that this thread or task works for.
current_ticket: contextvars.ContextVar[Ticket | None] = contextvars.ContextVar("ticket", default=None)


def count_truncated(lane: Lane, n: int) -> None:
    """So many texts of this request have an end that the model does not read; for figures and the log."""
    ticket = current_ticket.get()
    if n and ticket is not None:
        ticket.n_truncated += n
    if n:
        metrics.count(metrics.TRUNCATED, lane, by=n)


def count_unread_script() -> None:
    """Most texts that this request adds are in a script that the model does not read; as above."""
    ticket = current_ticket.get()
    if ticket is not None:
        ticket.has_unread_script = True
    metrics.count(metrics.UNREAD_SCRIPT)


@dataclass(eq=False)
class EncodeJob:
    """Tokenised texts of a request, and what is made of each one's vectors."""

    encoder: Encoder
    lane: Lane
    tokens: Sequence[TokenIds]
    finish: Callable[[int, Float32], Any]
    begun: float
    future: Future[list[Any]] = field(default_factory=Future)
    results: list[Any] = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.results, self.missing = [None] * len(self.tokens), len(self.tokens)

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for it any more, or it has failed."""
        return self.future.done()


class Batcher:
    """Encodes for all requests of a process.

    Args:
        threads: of the encoder; on a GPU takes that are under way at a time.
        batch_tokens, queue_tokens: see `Settings`.
        shares_runs: whether the texts of a take run together, as on a GPU.
    """

    def __init__(
        self,
        threads: int,
        batch_tokens: int,
        queue_tokens: int,
        cache: VectorCache,
        shares_runs: bool = False,
    ) -> None:
        self._threads, self._batch_tokens, self._queue_tokens = threads, batch_tokens, queue_tokens
        # Threads of a CPU share what waits, so that all have work; a GPU is best off with all of it at once.
        self._shares_runs, self._takers = shares_runs, 1 if shares_runs else threads
        self._cache, self._lanes = cache, Lanes()
        self._changed = threading.Condition()
        self._busy = self._at_documents = 0  # threads that work, and those of them that work at documents
        self._closing = False
        self.is_whole = True  # no thread has ended before its time
        self._rate = _FIRST_RATE
        # One more than there are threads, for queries that come while documents hold all of them: a take of
        # documents lasts tens of milliseconds, and no search should wait for it.
        self._workers = [
            threading.Thread(
                target=self._serve, args=(i == threads,), name=f"latebolt-encode-{i}", daemon=True
            )
            for i in range(threads + 1)
        ]
        for worker in self._workers:
            worker.start()

    def submit(
        self,
        encoder: Encoder,
        lane: Lane,
        tokens: Sequence[TokenIds],
        finish: Callable[[int, Float32], Any],
    ) -> Future[list[Any]]:
        """Encode texts.

        Args:
            finish: makes the result of text i of its vectors, at once and in a thread of the encoder, so that
                nobody holds the vectors of a large request. The vectors are read-only.
        Returns:
            Results in order; cancelling it drops what has not begun, and so does the current ticket.
        Raises:
            Problem: 429, too many tokens wait; 503, the server is stopping.
        """
        work = EncodeJob(encoder, lane, tokens, finish, time.perf_counter())
        if not tokens:
            work.future.set_result([])
            return work.future
        ticket = current_ticket.get()
        if ticket is not None:
            ticket._add(work)
            work.future.add_done_callback(lambda _: ticket._remove(work))
        waiting = Waiting(work, lane, [len(each.ids) for each in tokens], time.monotonic())
        with self._changed:
            if self._closing:
                raise Problem(503, "the server is stopping.", "stopping", {"Retry-After": "1"})
            held = sum(self._lanes.tokens.values())
            if held and held + waiting.left > self._queue_tokens:
                raise overloaded(
                    f"{held} tokens wait for the encoder, as many as may. Try again later.", held / self._rate
                )
            self._lanes.put(waiting)
            self._show_queue()
            # The extra thread may be the one that is woken and has nothing to do.
            self._changed.notify(min(len(tokens), self._threads) + 1)
        work.future.add_done_callback(lambda _: self._forget(waiting))
        return work.future

    def runner(self, encoder: Encoder) -> Callable[[list[TokenIds], str], list[Float32]]:
        """What `Encoder.run_by` takes: this queue for callers in threads of their own, who wait."""

        def run(tokens: list[TokenIds], kind: str) -> list[Float32]:
            lane: Lane = "query" if kind == "query" else "document"
            return self.submit(encoder, lane, tokens, lambda _, vectors: vectors).result()

        return run

    @property
    def seconds_waiting(self) -> float:
        """About how long what waits will take."""
        return sum(self._lanes.tokens.values()) / self._rate

    def close(self) -> None:
        """Stop when nothing waits any more; take nothing new."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _serve(self, is_extra: bool) -> None:
        try:
            while (taken := self._next(is_extra)) is not None:
                batch, alone = taken
                are_documents = batch[0][0].lane == "document"
                try:
                    self._run(batch, None if alone else 1)
                except BaseException as error:  # noqa: BLE001 - whatever it is, this thread serves on
                    log.event("batch failed", logging.ERROR, **log.error_fields(error))
                    for work, _ in batch:
                        _settle(work.future, error=error)
                finally:
                    with self._changed:
                        self._busy -= 1
                        self._at_documents -= are_documents
        finally:
            self.is_whole = self.is_whole and self._closing

    def _next(self, is_extra: bool) -> tuple[list[tuple[EncodeJob, int]], bool] | None:
        """The next texts, and whether they are all there is to do; None when there will be no more."""
        with self._changed:
            while not (batch := self._take(is_extra)):
                if self._closing:
                    return None
                self._changed.wait()
            self._busy += 1
            self._at_documents += batch[0][0].lane == "document"
            if self._at_documents == self._threads and self._lanes.texts["query"]:
                self._changed.notify_all()  # the extra thread's turn
            alone = self._busy == 1 and not any(self._lanes.texts.values()) and len(batch) == 1
            self._show_queue()
        return batch, alone

    def _take(self, is_extra: bool) -> list[tuple[EncodeJob, int]]:
        if not is_extra:
            return self._lanes.take(self._batch_tokens, self._takers)
        if self._at_documents < self._threads:
            return []
        return self._lanes.take(self._batch_tokens, 1, "query")

    def _run(self, batch: list[tuple[EncodeJob, int]], threads: int | None) -> None:
        start = time.perf_counter()
        metrics.observe(metrics.BATCH_REQUESTS, len({id(work) for work, _ in batch}))
        n_tokens = self._run_together(batch) if self._shares_runs else self._run_each(batch, threads)
        metrics.observe(metrics.BATCH_TOKENS, n_tokens)
        if n_tokens:
            metrics.count(metrics.TOKENS, batch[0][0].lane, by=n_tokens)
            seconds = time.perf_counter() - start
            self._rate += 0.05 * (n_tokens / seconds * self._threads - self._rate)

    def _run_each(self, batch: list[tuple[EncodeJob, int]], threads: int | None) -> int:
        """One text after another; how many tokens were run."""
        n_tokens = 0
        for work, i in batch:
            if work.is_gone:
                continue
            _note_begin(work)
            tokens = work.tokens[i]
            try:
                vectors = self._known(work, i)
                if vectors is None:
                    vectors = work.encoder.vectors_of(tokens, threads)
                    n_tokens += len(tokens.ids)
                    self._keep(work, i, vectors)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer to its request
                _settle(work.future, error=error)
                continue
            self._finish(work, i, vectors)
        return n_tokens

    def _run_together(self, batch: list[tuple[EncodeJob, int]]) -> int:
        """As `_run_each`, those of an encoder together."""
        n_tokens, groups = 0, dict[Encoder, list[tuple[EncodeJob, int]]]()
        for work, i in batch:
            if work.is_gone:
                continue
            _note_begin(work)
            known = self._known(work, i)
            if known is None:
                groups.setdefault(work.encoder, []).append((work, i))
            else:
                self._finish(work, i, known)
        for encoder, group in groups.items():
            outcomes = vectors_together(encoder, [work.tokens[i] for work, i in group])
            for (work, i), outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    _settle(work.future, error=outcome)
                    continue
                n_tokens += len(work.tokens[i].ids)
                # Of its own: a view would keep all of its run.
                vectors = outcome.copy() if self._cache.most_bytes else outcome
                self._keep(work, i, vectors)
                self._finish(work, i, vectors)
        return n_tokens

    def _known(self, work: EncodeJob, i: int) -> Float32 | None:
        """The vectors of a text that was encoded lately."""
        if not self._cache.most_bytes:
            return None
        found = self._cache.get(self._cache.key(work.tokens[i], work.lane, work.encoder.dim))
        metrics.count(metrics.CACHE_MISSES if found is None else metrics.CACHE_HITS)
        return found

    def _keep(self, work: EncodeJob, i: int, vectors: Float32) -> None:
        if not self._cache.most_bytes:
            return
        vectors.flags.writeable = False  # others will get the same array
        self._cache.put(self._cache.key(work.tokens[i], work.lane, work.encoder.dim), vectors)
        metrics.show(metrics.CACHE_BYTES, self._cache.bytes)

    def _finish(self, work: EncodeJob, i: int, vectors: Float32) -> None:
        try:
            result = work.finish(i, vectors)
        except BaseException as error:  # noqa: BLE001 - as above
            _settle(work.future, error=error)
            return
        self._done(work, i, result)

    def _done(self, work: EncodeJob, i: int, result: Any) -> None:
        work.results[i] = result
        with self._changed:
            work.missing -= 1
            is_last = work.missing == 0
        if is_last:
            metrics.observe(metrics.STAGE_SECONDS, time.perf_counter() - work.begun, "encode")
            _settle(work.future, work.results)

    def _forget(self, waiting: Waiting) -> None:
        """Texts of a request that failed or is not wanted any more leave the queue with what they hold."""
        with self._changed:
            if waiting.next < len(waiting.tokens):
                self._lanes.remove(waiting)
                self._show_queue()

    def _show_queue(self) -> None:
        for lane in LANES:
            metrics.show(metrics.QUEUE_TEXTS, self._lanes.texts[lane], lane)
            metrics.show(metrics.QUEUE_TOKENS, self._lanes.tokens[lane], lane)


def _note_begin(work: EncodeJob) -> None:
    if work.missing == len(work.tokens):
        metrics.observe(metrics.STAGE_SECONDS, time.perf_counter() - work.begun, "queue")


def _settle(
    future: Future[list[Any]], results: list[Any] | None = None, error: BaseException | None = None
) -> None:
    """Give the outcome to whoever still waits; a future that was cancelled begins nothing."""
    with contextlib.suppress(InvalidStateError):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(results or [])
