"""The devices of a model and the threads that keep them busy: runs wait in one queue, of which each device
takes as it gets ready, so that a slow one takes less.

Two runs of a device are under way at a time: while one computes, the other's ids are bound or its vectors are
made ready. Where the memory of a device is too small for a run, its texts run in halves, and later runs are
smaller. Knows nothing of texts or graphs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from latebolt.encoder.batches import DEFAULT_TOKENS, LEAST_TOKENS, Run, halves
from latebolt.errors import InvalidInput, LateboltError, OutOfMemory, RuntimeUnavailable

logger = logging.getLogger(__name__)

LANES: Final = 2  # runs of a device at a time
HALVINGS: Final = 2  # times that a device's runs get smaller before it has too little memory

R = TypeVar("R")

WAYS_OUT: Final = (
    "Close other programs on it, or let a run need less: with_gpu_runs(tokens=...), shorter texts "
    '(max_length of encode_documents, passage_tokens of an index), another GPU, or device="cpu".'
)


@dataclass
class Worker(Generic[R]):
    """One device of a fleet.

    Args:
        name: "cuda:1".
        run: takes the texts of a run through the graph: (job, run) to one result a text. Called from
            several threads at once.
        tokens: of a run at most, as measured when they are first asked for.
    """

    name: str
    run: Callable[[object, Run], Sequence[R]]
    measure: Callable[[], int] = lambda: DEFAULT_TOKENS
    halvings: int = 0
    _tokens: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tokens(self) -> int:
        """Tokens of a run at most, now."""
        with self._lock:
            if self._tokens is None:
                self._tokens = self.measure()
            return max(LEAST_TOKENS, self._tokens >> self.halvings)

    def all_of(self, job: object, run: Run, planned: int) -> dict[int, R]:
        """The result of each text of a run, by its place; in smaller runs where memory asks for it.

        Args:
            planned: halvings that the run's length has seen already.
        Raises:
            OutOfMemory: memory is too little even so; names the device and the way out.
            RuntimeUnavailable: the device failed; names it.
        """
        found: dict[int, R] = {}
        todo = [(run, planned)]
        while todo:
            part, halved = todo.pop()
            alone = len(part.texts) == 1
            if halved < self.halvings and not alone:
                todo += [(half, halved + 1) for half in reversed(halves(part))]
                continue
            try:
                found.update(zip(part.texts, self.run(job, part), strict=True))
            except OutOfMemory as error:
                if alone or halved >= HALVINGS:
                    raise OutOfMemory(
                        f'device "{self.name}": too little memory for a run of {len(part.texts)} '
                        f"text{'s' * (not alone)}. {WAYS_OUT}"
                    ) from error
                self._shrink(halved + 1)
                todo.append((part, halved))
            except LateboltError:
                raise
            except Exception as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise RuntimeUnavailable(
                    f'device "{self.name}" failed: {reason}. "latebolt doctor" looks at it; leave it out of '
                    'device=..., or use device="cpu".'
                ) from error
        return found

    def _shrink(self, halvings: int) -> None:
        """Later runs are at least so many times half as long."""
        with self._lock:
            if self.halvings >= halvings:
                return
            self.halvings = halvings
        logger.warning(
            'device "%s": too little memory for a run; runs are half as long from here on', self.name
        )


class Fleet(Generic[R]):
    """Devices that take runs from one queue. Thread-safe; calls share it. A forked child needs its own."""

    def __init__(self, workers: Sequence[Worker[R]]) -> None:
        self.workers = tuple(workers)
        self._free = list(self.workers) * LANES  # in turns, so that few runs use all devices
        self._lock = threading.Lock()
        self._mine = threading.local()
        self._threads = ThreadPoolExecutor(len(self._free), "latebolt-gpu", self._begin)

    def _begin(self) -> None:
        """A thread of the pool belongs to one device."""
        with self._lock:
            self._mine.worker = self._free.pop(0)

    @property
    def tokens(self) -> int:
        """Tokens of a run that every device has room for."""
        return min(worker.tokens for worker in self.workers)

    @property
    def halvings(self) -> int:
        """Times that runs have had to become half as long."""
        return max(worker.halvings for worker in self.workers)

    def results(
        self,
        job: object,
        runs: Sequence[Run],
        planned: int = 0,
        each: Callable[[int, R], None] = lambda place, result: None,
    ) -> list[R]:
        """The result of every text of a job, by its place.

        Args:
            job: handed to the workers' `run`.
            runs: hold every place from 0 on once.
            planned: `halvings` when they were planned.
            each: called with each text's place and result as its run is done, by the thread of its device.
        Raises:
            InvalidInput: the fleet is closed.
            OutOfMemory, RuntimeUnavailable: see `Worker.all_of`; nothing of the job is begun after it, and
                none still runs.
        """

        def work(run: Run) -> dict[int, R]:
            found: dict[int, R] = self._mine.worker.all_of(job, run, planned)
            for place, result in found.items():
                each(place, result)
            return found

        futures: list[Future[dict[int, R]]] = []
        found: dict[int, R] = {}
        try:
            for run in runs:
                futures.append(self._submit(work, run))
            for future in futures:
                found.update(future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)
            raise
        return [found[place] for place in range(len(found))]

    def _submit(self, work: Callable[[Run], dict[int, R]], run: Run) -> Future[dict[int, R]]:
        try:
            return self._threads.submit(work, run)
        except RuntimeError as error:  # a pool that is shut down
            raise InvalidInput("this encoder is closed. Load it again.") from error

    def close(self) -> None:
        """End the threads once what they do is done; what waits is never begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)
