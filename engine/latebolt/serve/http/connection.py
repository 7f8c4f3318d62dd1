"""An HTTP connection that has to come to the point: one whose head takes too long, or too much, is closed.

uvicorn bounds how long a connection rests between two requests, and nothing of a head. What follows a head is
bounded by the guard.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from latebolt.serve.http.half_closed import HalfClosing

_MOST_HEAD_BYTES: Final = 1 << 16


def connection_class(head_seconds: float) -> type[HalfClosing]:
    """The protocol that uvicorn runs for each connection.

    Args:
        head_seconds: from the connection, or from the first byte of a later request, to the end of the head.
    """

    class Connection(HalfClosing):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._head_timer: asyncio.TimerHandle | None = None
            self._head_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._begin_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_head()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            before = self._head_timer
            super().data_received(data)
            if before is not None and self._head_timer is before:  # all of it is head
                self._head_bytes += len(data)
                if self._head_bytes > _MOST_HEAD_BYTES:
                    self.transport.abort()
            elif self._head_timer is None and self.timeout_keep_alive_task is None and self._rests():
                self._begin_head()  # an empty line, which ends uvicorn's own patience

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._head_timer is None:
                self._begin_head()

        def on_headers_complete(self) -> None:
            self._end_head()
            super().on_headers_complete()

        def _rests(self) -> bool:
            return self.cycle is not None and self.cycle.response_complete and not self.transport.is_closing()

        def _begin_head(self) -> None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(head_seconds, self.transport.abort)

        def _end_head(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return Connection
