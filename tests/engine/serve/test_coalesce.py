"""Searches that wait are answered together, each with its own answer."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from latebolt.serve.engine import coalesce
from latebolt.serve.engine.coalesce import Coalescer

current = contextvars.ContextVar("current", default="nobody")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test need not wait for it."""
    monkeypatch.setattr(coalesce, "_LINGER_SECONDS", 0)


class Runs:
    """Answers queries when `go` is called, and remembers which were answered together."""

    def __init__(self, runs: int = 1) -> None:
        self.seen: list[tuple[str, list[str]]] = []
        self.contexts: list[str] = []
        self._gates: list[asyncio.Future[None]] = []
        self.coalescer = Coalescer(self._run, runs)

    async def _run(self, key: str, queries: list[str]) -> list[str]:
        self.seen.append((key, queries))
        self.contexts.append(current.get())
        gate = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        await gate
        if "fails" in queries:
            raise ValueError("no")
        return [f"{key}: {query}" for query in queries]

    def ask(self, key: str, query: str) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.coalescer.ask(key, query))

    async def go(self) -> None:
        await asyncio.sleep(0.001)
        gates, self._gates = self._gates, []
        for gate in gates:
            gate.set_result(None)
        await asyncio.sleep(0.001)


def test_what_waits_is_answered_together_in_turn():
    async def main() -> None:
        runs = Runs()
        asked = [runs.ask("a", "1"), runs.ask("a", "2"), runs.ask("b", "3"), runs.ask("a", "4")]
        await asyncio.sleep(0.001)
        assert runs.seen == [("a", ["1"])]  # an idle server waits for nobody
        await runs.go()
        await runs.go()
        await runs.go()
        assert runs.seen == [("a", ["1"]), ("a", ["2", "4"]), ("b", ["3"])]
        assert await asyncio.gather(*asked) == ["a: 1", "a: 2", "b: 3", "a: 4"]

    asyncio.run(main())


def test_a_key_that_many_ask_for_leaves_the_others_their_turn(monkeypatch):
    monkeypatch.setattr(coalesce, "_MOST", 2)

    async def main() -> None:
        runs = Runs()
        asked = [runs.ask("a", str(i)) for i in range(6)] + [runs.ask("b", "x")]
        for _ in range(5):
            await runs.go()
        assert [key for key, _ in runs.seen] == ["a", "a", "b", "a", "a"]
        assert max(len(queries) for _, queries in runs.seen) == 2
        assert (await asyncio.gather(*asked))[-1] == "b: x"

    asyncio.run(main())


def test_an_error_is_the_answer_to_its_run_only():
    async def main() -> None:
        runs = Runs()
        asked = [runs.ask("a", "1"), runs.ask("a", "fails"), runs.ask("a", "2"), runs.ask("b", "3")]
        for _ in range(4):
            await runs.go()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert (found[0], found[3]) == ("a: 1", "b: 3")
        assert isinstance(found[1], ValueError) and isinstance(found[2], ValueError)

    asyncio.run(main())


def test_who_leaves_is_dropped_and_takes_nobody_along():
    async def main() -> None:
        runs = Runs()
        current.set("first")
        asked = [runs.ask("a", "1"), runs.ask("a", "2"), runs.ask("a", "3"), runs.ask("b", "4")]
        await asyncio.sleep(0.001)
        for gone in (asked[0], asked[1], asked[3]):
            gone.cancel()
        for _ in range(3):
            await runs.go()
        assert runs.seen == [("a", ["1"]), ("a", ["3"])]
        assert runs.contexts == ["nobody", "nobody"]
        assert await asked[2] == "a: 3"
        with pytest.raises(asyncio.CancelledError):
            await asked[0]

    asyncio.run(main())


def test_as_many_run_as_may_and_one_of_a_kind():
    async def main() -> None:
        runs = Runs(2)
        asked = [runs.ask(key, query) for key, query in ("a1", "a2", "b3", "c4", "b5")]
        await asyncio.sleep(0.001)
        assert runs.seen == [("a", ["1"]), ("b", ["3"])]
        for _ in range(3):
            await runs.go()
        assert sorted(runs.seen[2:]) == [("a", ["2"]), ("b", ["5"]), ("c", ["4"])]
        await asyncio.gather(*asked)

    asyncio.run(main())


def test_a_run_waits_a_moment_for_as_many_as_the_one_before(monkeypatch):
    monkeypatch.setattr(coalesce, "_LINGER_SECONDS", 0.05)

    async def main() -> None:
        runs = Runs(2)
        asked = [runs.ask("a", query) for query in "123"]
        await runs.go()
        await runs.go()
        assert [queries for _, queries in runs.seen] == [["1"], ["2", "3"]]
        asked.append(runs.ask("a", "4"))
        asked.append(runs.ask("b", "x"))  # another key waits for nobody
        await asyncio.sleep(0.001)
        assert runs.seen[2:] == [("b", ["x"])]
        asked.append(runs.ask("a", "5"))  # now there are as many as before
        await asyncio.sleep(0.001)
        assert runs.seen[3:] == [("a", ["4", "5"])]
        await runs.go()
        asked.append(runs.ask("a", "6"))
        await asyncio.sleep(0.001)
        assert len(runs.seen) == 4
        await asyncio.sleep(0.08)  # nobody else came
        assert runs.seen[4:] == [("a", ["6"])]
        await runs.go()
        asked.append(runs.ask("a", "7"))
        await asyncio.sleep(0.001)
        assert runs.seen[5:] == [("a", ["7"])]  # who is alone waits no longer
        await runs.go()
        await asyncio.gather(*asked)

    asyncio.run(main())
