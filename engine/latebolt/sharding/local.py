"""`LocalShard`: a shard in this process, which threads of its own work for."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from latebolt.encoder.encoder import Encoder
from latebolt.errors import IndexUnusable
from latebolt.sharding.protocol import READS, Method
from latebolt.sharding.service import ShardService

READERS: Final = 8  # calls at a time, of one shard; others wait


class LocalShard:
    """A shard of a folder in this process. Reads and writes have threads of their own: neither waits for the
    other.

    Args:
        place, encoder_of, settings: see `ShardService`.
        readers: reads at a time.
    """

    def __init__(
        self,
        place: str | Path,
        encoder_of: Callable[[], Encoder] | None = None,
        readers: int = READERS,
        **settings: Any,
    ) -> None:
        self.service, self._place = ShardService(place, encoder_of, **settings), place
        self._reads = ThreadPoolExecutor(readers, thread_name_prefix="latebolt-shard")
        self._writes = ThreadPoolExecutor(1, thread_name_prefix="latebolt-shard-write")

    def call(self, method: Method, *arguments: Any) -> Future[Any]:
        """See `protocol.Shard`."""
        pool = self._reads if method in READS else self._writes
        try:
            return pool.submit(contextvars.copy_context().run, getattr(self.service, method), *arguments)
        except RuntimeError as error:
            raise IndexUnusable(f"{self._place}: this shard was closed. Open it again.") from error

    def close(self) -> None:
        """Take no more calls, and release the files when those that have begun have ended."""
        self._reads.shutdown(wait=False, cancel_futures=True)
        self._writes.shutdown(wait=False, cancel_futures=True)
        self.service.close()
