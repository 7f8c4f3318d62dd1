"""Log lines to a file, pipe or terminal that may have no room for them, without waiting for room.

Whoever reads stderr may stop reading: a terminal that was paused, a supervisor that hangs. A write would then
wait, and with it every request of the server. What still waits is a write to which another process took the
last room of a pipe, between the look and the write.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from latebolt import system

_ATOMIC: Final = getattr(select, "PIPE_BUF", 512)  # bytes of which a pipe that has room takes all
_MOST_KEPT: Final = 1 << 20
_PATIENCE: Final = 1.0


class PatientLines(logging.Handler):
    """Keeps lines until there is room, and counts those that it cannot keep.

    Args:
        descriptor: where lines go.
        lost: the record that tells how many lines were lost; it is written before what comes after them.
        most_kept: bytes of lines that wait at most.
    """

    def __init__(
        self, descriptor: int, lost: Callable[[int], logging.LogRecord], most_kept: int = _MOST_KEPT
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._has_room = system.room_of(descriptor)
        self._lost_record = lost
        self._most_kept = most_kept
        self._waiting: deque[bytes] = deque()
        self._kept = self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        try:
            self._write(0.0)
            self._tell_lost()
            self._keep(record)
            self._write(0.0)
        except Exception:  # noqa: BLE001 (what logging asks of a handler)
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits, and wait a second for room at most."""
        self.acquire()
        try:
            self._write(_PATIENCE)
            self._tell_lost()
            self._write(0.0)
        except OSError:  # nobody is there to read
            self._lost += len(self._waiting)
            self._waiting.clear()
            self._kept = 0
        finally:
            self.release()

    def _tell_lost(self) -> None:
        if self._lost and not self._waiting:
            count, self._lost = self._lost, 0
            self._keep(self._lost_record(count))

    def _keep(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="backslashreplace") + b"\n"
        if self._lost or self._kept + len(line) > self._most_kept:
            self._lost += 1
            return
        self._waiting.append(line)
        self._kept += len(line)

    def _write(self, patience: float) -> None:
        end = time.monotonic() + patience
        while self._waiting and self._has_room(max(0.0, end - time.monotonic())):
            line = self._waiting.popleft()
            self._kept -= len(line)
            try:
                rest = line[os.write(self._descriptor, line[:_ATOMIC]) :]
            except BlockingIOError:  # of a descriptor that does not block: another process took the room
                rest = line
            if rest:
                self._waiting.appendleft(rest)
                self._kept += len(rest)
            if rest is line:
                return
