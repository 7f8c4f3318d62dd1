"""Several processes that serve at one socket: one that dies is replaced, and on request all are, one by one.

A worker says when it accepts connections, and only then does the one that it replaces leave: at no time are
there fewer than before. Knows nothing of what they serve.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from signal import Signals
from typing import Final

from latebolt import system
from latebolt.serve import log

FAILED: Final = 3  # exit code of a process whose model cannot be loaded
# What is said to a worker: that the server may write now; that it should leave without losing a request.
WRITE: Final = "write"
LEAVE: Final = "leave"
ACCEPTS: Final = "accepts"  # what it says
_LOOK_SECONDS: Final = 0.5


@dataclass(eq=False)
class Worker:
    """A process and the way to it."""

    process: BaseProcess
    pipe: Connection
    accepts: bool = False
    is_heard: bool = True  # its end of the pipe is open
    leaves_until: float = float("inf")  # then it is killed

    def tell(self, message: str) -> None:
        """Say something to it; one that is gone is not told."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def hear(self) -> None:
        """Note what it says; to be called when there is something."""
        try:
            self.accepts = self.accepts or self.pipe.recv() == ACCEPTS
        except (EOFError, OSError):
            self.is_heard = False


class Workers:
    """Keeps so many workers running.

    Args:
        begin: starts one.
        gone: called with the process id of one that has ended.
        patience: seconds that one may take to leave.
    """

    def __init__(
        self, n: int, begin: Callable[[], Worker], gone: Callable[[int | None], None], patience: float
    ) -> None:
        self._begin, self._gone, self._patience = begin, gone, patience
        self._current = [begin() for _ in range(n)]
        self._old: list[Worker] = []  # of the current ones, those still to be replaced
        self._coming: Worker | None = None
        self._leaving: list[Worker] = []

    def run(self, stopping: threading.Event, renewing: threading.Event, look: Callable[[], None]) -> int:
        """Until `stopping`, or until no model can be loaded.

        Args:
            renewing: asks to replace all.
            look: called about twice a second.
        Returns:
            The exit code.
        """
        while not stopping.is_set():
            look()
            if renewing.is_set():
                renewing.clear()
                self._old = list(self._current)
                log.event("renewal begins", workers=len(self._old))
            self._renew()
            self._wait()
            if not stopping.is_set() and not self._replace_dead(stopping):
                return 1
        return 0

    def tell(self, message: str) -> None:
        """Say something to all."""
        for worker in self._all:
            worker.tell(message)

    def signal(self, number: Signals) -> None:
        """Send a signal to all."""
        for worker in self._all:
            if worker.process.pid is not None:
                system.send(worker.process.pid, number)  # it may be just being replaced

    def stop(self) -> None:
        """End all, and wait for it."""
        for worker in self._all:
            worker.process.terminate()
        end = time.monotonic() + self._patience
        for worker in self._all:
            worker.process.join(max(0.1, end - time.monotonic()))
            worker.process.kill()

    @property
    def _all(self) -> list[Worker]:
        return [*self._current, *self._leaving, *([] if self._coming is None else [self._coming])]

    def _renew(self) -> None:
        """The next step of replacing all, if there is one."""
        if self._coming is None and self._old and not self._leaving:
            self._coming = self._begin()
        if self._coming is not None and self._coming.accepts and self._old:
            old = self._old.pop(0)
            self._current[self._current.index(old)] = self._coming
            self._coming = None
            old.leaves_until = time.monotonic() + self._patience
            self._leaving.append(old)
            old.tell(LEAVE)

    def _wait(self) -> None:
        """Until something has happened, or for some time."""
        pipes = {worker.pipe: worker for worker in self._all if worker.is_heard}
        for ready in wait(
            [*pipes, *(worker.process.sentinel for worker in self._all)], timeout=_LOOK_SECONDS
        ):
            if isinstance(ready, Connection):  # the others are processes that have ended
                pipes[ready].hear()

    def _replace_dead(self, stopping: threading.Event) -> bool:
        """See to workers that have ended; whether there is a point in going on."""
        now = time.monotonic()
        for worker in list(self._leaving):
            if worker.process.exitcode is not None:
                self._leaving.remove(worker)
                self._gone(worker.process.pid)
                if not self._old and self._coming is None:
                    log.event("renewed")
            elif now > worker.leaves_until:
                worker.process.kill()
        if self._coming is not None and self._coming.process.exitcode is not None:
            self._gone(self._coming.process.pid)
            log.event("renewal failed", logging.ERROR, exit=self._coming.process.exitcode)
            self._coming, self._old = None, []
        for i, worker in enumerate(self._current):
            exitcode = worker.process.exitcode
            if exitcode is None:
                continue
            others = any(each.accepts for each in self._current if each is not worker)
            if exitcode == FAILED and not others:
                return False
            log.event("process died", logging.ERROR, died=worker.process.pid, exit=exitcode)
            self._gone(worker.process.pid)
            if not worker.accepts:  # one that dies at once must not keep a processor busy
                stopping.wait(1.0)
            self._current[i] = self._begin()
            if worker in self._old:
                self._old.remove(worker)
        if self._coming is not None and not self._old:  # all that it could replace have died
            self._coming.process.terminate()
            self._leaving.append(self._coming)
            self._coming = None
        return True
