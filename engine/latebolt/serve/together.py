"""Searches that wait are answered together: one run for those that ask the same index in the same way.

An idle server runs a search at once, by itself and with all threads. While as many run as may, what arrives
waits and makes the next runs, in which a query costs less: they are encoded and scored side by side.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

# Queries of a run: more cost no less each, and everyone waits for the last.
_MOST: Final = 16


class Together:
    """Of one event loop.

    Args:
        run: answers queries that have a key in common; its error is the answer to all of them.
        runs: at a time.
    """

    def __init__(self, run: Callable[[Any, list[str]], Awaitable[list[Any]]], runs: int) -> None:
        self._run, self._free = run, runs
        # Of each key those who wait, the longest first; keys take turns.
        self._waiting: OrderedDict[Hashable, list[tuple[str, asyncio.Future[Any]]]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, key: Hashable, query: str) -> Any:
        """The answer to one query; cancelling it drops it while it waits."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((query, future))
        self._begin()
        return await future

    def _begin(self) -> None:
        while self._free and self._waiting:
            key, waiting = self._waiting.popitem(last=False)
            wanted = [each for each in waiting if not each[1].done()]
            if len(wanted) > _MOST:
                self._waiting[key] = wanted[_MOST:]
            if wanted:
                self._free -= 1
                # In a context of its own: whoever asked first may leave without taking the others along.
                task = asyncio.create_task(self._answer(key, wanted[:_MOST]), context=contextvars.Context())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, key: Hashable, asked: list[tuple[str, asyncio.Future[Any]]]) -> None:
        try:
            answers = await self._run(key, [query for query, _ in asked])
            for (_, future), found in zip(asked, answers, strict=True):
                if not future.done():
                    future.set_result(found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who asked
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
        finally:
            self._free += 1
            self._begin()
