"""How many bytes of requests' bodies a process may hold at once, and which request holds how many.

A body counts from its arrival until nobody uses it: its request has been answered or given up, and no thread
works with it any more. The first bytes of each are free, so that small requests find room beside large ones.
"""

from __future__ import annotations

import contextvars
import threading
from typing import Final

FREE: Final = 1 << 16  # bytes of each body that do not count; `queue_requests` bounds how many those are


class Full(Exception):
    """There is no room for more."""


class Budget:
    """The bytes of a process. Thread-safe.

    Args:
        most: bytes held at once, beyond what is free.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._lock = threading.Lock()

    def change(self, bytes: int) -> None:
        """Take or give back.

        Raises:
            Full: it would be more than there may be.
        """
        with self._lock:
            if bytes > 0 and self.held + bytes > self.most:
                raise Full
            self.held += bytes


class Lease:
    """What one body takes of a budget, given back when its last user has let go. Thread-safe."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._bytes, self._counted, self._users = budget, 0, 0, 1
        self._lock = threading.Lock()

    def grow(self, bytes: int) -> None:
        """So many more have arrived.

        Raises:
            Full: there is no room for them.
        """
        self._bytes += bytes
        counted = max(0, self._bytes - FREE)
        self._budget.change(counted - self._counted)
        self._counted = counted

    def hold(self) -> None:
        """One more uses it."""
        with self._lock:
            self._users += 1

    def let_go(self) -> None:
        """One uses it no more."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._budget.change(-self._counted)


# The body that this thread or task works with.
current_lease: contextvars.ContextVar[Lease | None] = contextvars.ContextVar("lease", default=None)
