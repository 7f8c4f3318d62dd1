"""What SIGHUP means for a server: read the keys again.

It is the end only where the terminal that the server was started from has gone, and nobody asked for it to
outlive that (`nohup`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from latebolt import system

SIGNAL: Final = system.signal_number("SIGHUP")  # Windows has none
_STREAMS: Final = (0, 1, 2)


class HangUp:
    """Made at the start, by the process that is started; from then the signal does nothing until `hear`."""

    def __init__(self) -> None:
        outlives = SIGNAL is None or signal.getsignal(SIGNAL) is signal.SIG_IGN
        self._terminals = [] if outlives else [stream for stream in _STREAMS if os.isatty(stream)]
        hear(lambda: None)

    def is_end(self) -> bool:
        """Whether the terminal is gone, and with it the server's reason to run."""
        return any(not os.isatty(stream) for stream in self._terminals)


def hear(act: Callable[[], None]) -> None:
    """Call a function at each such signal, in the main thread, whatever runs there."""

    def handle(_: int, __: FrameType | None) -> None:
        act()

    if SIGNAL is not None:
        signal.signal(SIGNAL, handle)
        system.block(SIGNAL, False)


@contextlib.contextmanager
def held_up() -> Iterator[None]:
    """Let such signals wait. A process that is started meanwhile begins so, and lives until it hears them."""
    if SIGNAL is None:
        yield
        return
    waited = system.block(SIGNAL, True)
    try:
        yield
    finally:
        system.block(SIGNAL, waited)
