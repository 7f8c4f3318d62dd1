"""Tells in the log when a process has as many files and connections open as it may.

The event loop closes connections that it has no descriptor for and says nothing, so one is asked for now and
then. Requests that want a file are answered for by `problems`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from latebolt.serve import log, metrics
from latebolt.serve.problems import DESCRIPTORS

_EVERY_S: Final = 1.0
_TOLD_EVERY_S: Final = 10.0
_WAY_OUT: Final = "raise the limit of open files: ulimit -n, LimitNOFILE of a systemd unit"


async def watch_descriptors() -> None:
    """Until it is cancelled."""
    told = -_TOLD_EVERY_S
    while True:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno in DESCRIPTORS:
                metrics.count(metrics.OUT_OF_DESCRIPTORS)
                if time.monotonic() - told >= _TOLD_EVERY_S:
                    told = time.monotonic()
                    fields = log.error_fields(error)
                    log.event("no descriptor for connections", logging.ERROR, **fields, way_out=_WAY_OUT)
        await asyncio.sleep(_EVERY_S)
