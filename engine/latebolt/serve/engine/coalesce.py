"""Searches that wait are answered together: one run for those that ask the same index in the same way.

An idle server runs a search at once, by itself and with all threads. What arrives while that runs waits, and
makes the next run, in which a query costs less: they are encoded and scored side by side. Whoever has just
been answered together mostly asks again, so the next run waits for as many, but only for a moment.
Searches that ask something else run beside it, so that a long one holds up nobody but its own kind.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

# Queries of a run: more cost hardly less each, and everyone waits for the last.
_MOST: Final = 64
# Seconds that a run may wait for as many queries as the one before it had.
_LINGER_SECONDS: Final = 0.004


class Coalescer:
    """Of one event loop.

    Args:
        run: answers queries that have a key in common; its error is the answer to all of them.
        runs: at a time; one of a key.
    """

    def __init__(self, run: Callable[[Any, list[str]], Awaitable[list[Any]]], runs: int) -> None:
        self._run, self._runs = run, runs
        self._running: set[Hashable] = set()
        # Of each key those who wait, the longest first; keys take turns.
        self._waiting: dict[Hashable, list[tuple[str, asyncio.Future[Any]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Of each key whose next run waits: for how many queries, and the timer that ends it.
        self._lingering: dict[Hashable, tuple[int, asyncio.TimerHandle]] = {}

    async def ask(self, key: Hashable, query: str) -> Any:
        """The answer to one query; cancelling it drops it while it waits."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((query, future))
        self._begin()
        return await future

    def _begin(self) -> None:
        for key in [key for key in self._waiting if key not in self._running and not self._lingers(key)]:
            if len(self._running) == self._runs:
                return
            wanted = [each for each in self._waiting.pop(key) if not each[1].done()]
            if len(wanted) > _MOST:
                self._waiting[key] = wanted[_MOST:]
            if wanted:
                self._running.add(key)
                # In a context of its own: whoever asked first may leave without taking the others along.
                task = asyncio.create_task(self._answer(key, wanted[:_MOST]), context=contextvars.Context())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _lingers(self, key: Hashable) -> bool:
        """Whether the next run of a key waits for more queries."""
        if key not in self._lingering:
            return False
        wanted, timer = self._lingering[key]
        if len(self._waiting[key]) < wanted:
            return True
        timer.cancel()
        del self._lingering[key]
        return False

    def _linger(self, key: Hashable, wanted: int) -> None:
        def give_up() -> None:
            del self._lingering[key]
            self._begin()

        self._lingering[key] = wanted, asyncio.get_running_loop().call_later(_LINGER_SECONDS, give_up)

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
            self._running.remove(key)
            if len(asked) > 1:
                self._linger(key, len(asked))
            self._begin()
