"""A connection whose client has closed its sending side: whoever still reads gets the answer.

Whoever has left looks the same at first, as the end of what comes in. A client of HTTP/1.1 is therefore sent
interim answers (100 Continue, which every one of them passes over) while its answer is made: where no program
reads any more, its system answers with a reset, and the connection is lost as if it had been torn. HTTP/1.0
knows none of that, and its clients get what is ready soon.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LOOK_SECONDS: Final = 0.2  # most answers are there before the first look
_OLD_SECONDS: Final = 10.0  # of HTTP/1.0, until a client counts as gone
_INTERIM: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class HalfClosing(HttpToolsProtocol):
    """uvicorn's protocol closes a connection at the end of what comes in, and with it what is under way."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._look_timer: asyncio.TimerHandle | None = None
        self._old_until = 0.0

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open: a request that is here as a whole waits for its answer."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False  # of several the last one, whose answer closes the connection
        self._old_until = self.loop.time() + _OLD_SECONDS
        self._look_later()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._look_timer is not None:
            self._look_timer.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._look_timer = self.loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if not self.pipeline:  # else an answer to an earlier request may be on its way
            if self.cycle.response_started:  # what is sent finds out by itself
                return
            if self.cycle.scope["http_version"] == "1.1":
                self.transport.write(_INTERIM)
            elif self.loop.time() > self._old_until:
                self.transport.abort()
                return
        self._look_later()
