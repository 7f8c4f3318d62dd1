"""AsyncIndex and AsyncEncoder: many calls at once, cancelled and failing ones, and what a closed one says."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from latebolt import Encoder, Index
from latebolt.aio import AsyncEncoder, AsyncIndex
from latebolt.errors import IndexNotFound, IndexUnusable, InvalidInput

TEXTS = ["a cat sleeps", "bread is baked", "trains run late"]


@pytest.fixture
def folder(tmp_path: Path, encoder: Encoder) -> Path:
    with Index.create(tmp_path / "i", encoder) as index:
        index.add(TEXTS, ids=["cat", "bread", "train"], metadata=[{"n": 1}, {"n": 2}, None])
    return tmp_path / "i"


@asynccontextmanager
async def opened(folder: Path, encoder: Encoder, threads: int | None = None) -> AsyncIterator[AsyncIndex]:
    async with AsyncIndex(Index.open(folder, encoder), threads) as index:
        yield index


class Gate:
    """Texts, of which the second is given only when the gate is open."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def texts(self) -> Iterator[str]:
        yield "a new document"
        self.reached.set()
        assert self.open.wait(30)
        yield "and one more"

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


def test_it_gives_what_the_index_gives(folder: Path, encoder: Encoder):
    async def main() -> None:
        async with opened(folder, encoder) as index:
            own = index.index
            for settings in ({}, {"k": 1}, {"where": "n = 2"}, {"mode": "bm25"}, {"exhaustive": True}):
                assert await index.search("fresh bread", **settings) == own.search("fresh bread", **settings)
            explained = await index.search("fresh bread", k=1, explain=True)
            assert explained.alignments == own.search("fresh bread", k=1, explain=True).alignments
            assert await index.search_many(["cats", "bread"], 1) == own.search_many(["cats", "bread"], 1)
            matrix = encoder.encode_queries(["bread"])[0]
            assert await index.search_vectors(matrix, 1) == own.search_vectors(matrix, 1)
            assert await index.add(["ovens are hot"], ids=["oven"], metadata=[{"n": 3}]) == ["oven"]
            assert await index.get(["oven", "none"]) == [("oven", "ovens are hot", {"n": 3}), None]
            assert await index.delete(["oven", "none"]) == 1
            await index.compact()
            assert (await index.info())["documents"] == 3
            assert await index.update_metadata(["cat"], set={"n": 7}) == 1
            counts = await index.sync([("cat", TEXTS[0], {"n": 7}), ("new", "a new one", None)])
            assert (counts.added, counts.kept) == (1, 1)
            assert await index.delete(where="n = 7") == 1 and len(own) == 3
            assert repr(index) == f"Async{own!r}"

    asyncio.run(main())


def test_it_opens_with_its_model(folder: Path):
    async def main() -> None:
        async with await AsyncIndex.open(folder, threads=1) as index:
            assert index.index._encoder is not None
            assert (await index.search("kitten", k=1))[0].id == "cat"
        with pytest.raises(IndexNotFound):
            await AsyncIndex.open(folder / "none")

    asyncio.run(main())


def test_many_searches_beside_an_addition(folder: Path, encoder: Encoder):
    async def main() -> None:
        async with opened(folder, encoder, threads=2) as index:
            gate = Gate()
            adding = asyncio.create_task(index.add(gate.texts(), ids=["x", "y"]))
            await gate.wait()
            found = await asyncio.gather(*(index.search("kitten", k=1) for _ in range(50)))
            assert [hits[0].id for hits in found] == ["cat"] * 50 and not adding.done()
            gate.open.set()
            assert await adding == ["x", "y"] and len(index.index) == 5

    asyncio.run(main())


def test_the_loop_stays_free_and_threads_are_bounded(
    folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
):
    running, most, lock = 0, 0, threading.Lock()

    def slow(*_: object, **__: object) -> list[object]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return []

    async def main() -> None:
        async with opened(folder, encoder, threads=3) as index:
            monkeypatch.setattr(index.index, "search", slow)
            searches = asyncio.gather(*(index.search("a") for _ in range(12)))
            turns = 0
            while not searches.done():
                await asyncio.sleep(0.001)
                turns += 1
            assert turns > 12 and most == 3

    asyncio.run(main())


def test_what_is_cancelled_before_it_begins_does_not_happen(folder: Path, encoder: Encoder):
    async def main() -> None:
        async with opened(folder, encoder) as index:
            gate = Gate()
            first = asyncio.create_task(index.add(gate.texts(), ids=["x", "y"]))
            await gate.wait()
            second = asyncio.create_task(index.add(["never"], ids=["never"]))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.open.set()
            await first
            assert await index.get(["never"]) == [None]

    asyncio.run(main())


def test_what_is_cancelled_when_it_has_begun_is_finished(folder: Path, encoder: Encoder):
    async def main() -> None:
        async with opened(folder, encoder) as index:
            gate = Gate()
            adding = asyncio.create_task(index.add(gate.texts(), ids=["x", "y"]))
            await gate.wait()
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
            gate.open.set()
            await index.add(["next"], ids=["next"])  # takes its turn behind it
            entries = await index.get(["x", "y", "next"])
            assert all(entries) and len(index.index) == 6
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await index.search("kitten")
            assert (await index.search("kitten", k=1))[0].id == "cat"

    asyncio.run(main())


def test_errors_come_out_as_they_are(folder: Path, encoder: Encoder):
    def texts() -> Iterator[str]:
        yield "one"
        raise ZeroDivisionError

    async def main() -> None:
        async with opened(folder, encoder) as index:
            with pytest.raises(InvalidInput, match="the query is empty"):
                await index.search(" ")
            with pytest.raises(ZeroDivisionError):
                await index.add(texts())
            assert len(index.index) == 3 and (await index.search("kitten", k=1))[0].id == "cat"

    asyncio.run(main())


def test_closing_waits_for_what_was_asked_before(folder: Path, encoder: Encoder):
    async def main() -> None:
        index = AsyncIndex(Index.open(folder, encoder))
        gate = Gate()
        adding = asyncio.create_task(index.add(gate.texts(), ids=["x", "y"]))
        await gate.wait()
        behind = asyncio.create_task(index.add(["z"], ids=["z"]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(index.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        for call in (index.search("a"), index.add(["a"]), index.info()):
            with pytest.raises(IndexUnusable, match="was closed"):
                await call
        closing.cancel()  # it goes on all the same
        gate.open.set()
        assert await adding == ["x", "y"] and await behind == ["z"]
        with pytest.raises(asyncio.CancelledError):
            await closing
        await index.close()
        with pytest.raises(IndexUnusable):
            index.index.search("a")
        with Index.open(folder, encoder) as again:
            assert len(again) == 6

    asyncio.run(main())


def test_context_variables_go_along(folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def main() -> None:
        async with opened(folder, encoder) as index:
            monkeypatch.setattr(index.index, "info", lambda: {"variable": variable.get()})

            async def ask(value: int) -> None:
                variable.set(value)
                assert await index.info() == {"variable": value}

            await asyncio.gather(*(ask(value) for value in range(10)))

    asyncio.run(main())


def test_loops_of_several_threads_may_share_one(folder: Path, encoder: Encoder):
    index, found = AsyncIndex(Index.open(folder, encoder)), []

    async def ask() -> None:
        found.extend(hits[0].id for hits in await asyncio.gather(*(index.search("kitten") for _ in range(5))))

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    asyncio.run(index.close())
    assert found == ["cat"] * 20


def test_an_encoder(encoder: Encoder):
    async def main() -> None:
        async with AsyncEncoder(encoder, threads=2) as own:
            queries = await asyncio.gather(*(own.encode_queries([text]) for text in TEXTS))
            assert [q.values.tolist() for q in queries] == [
                encoder.encode_queries([text]).values.tolist() for text in TEXTS
            ]
            documents = await own.encode_documents(TEXTS, pool_factor=2)
            expected = encoder.encode_documents(TEXTS, pool_factor=2)
            assert documents.values.tolist() == expected.values.tolist()
            assert await own.rerank("kitten", TEXTS, 1) == encoder.rerank("kitten", TEXTS, 1)
        with pytest.raises(InvalidInput, match="was closed"):
            await own.rerank("kitten", TEXTS)
        assert encoder.encode_queries(["still there"]).n_tokens

    asyncio.run(main())


def test_signatures_are_the_librarys(tmp_path: Path, encoder: Encoder):
    for kind, own in ((AsyncIndex, Index), (AsyncEncoder, Encoder)):
        for name, method in vars(kind).items():
            others = ("close", "open", "open_or_create", "index", "encode_documents", "sync")
            if name[0] == "_" or name in others:
                continue
            theirs = inspect.signature(getattr(own, name)).parameters
            ours = inspect.signature(method).parameters
            assert [p.default for p in ours.values()] == [theirs[p].default for p in ours], name
            assert list(ours) == [p for p in theirs if p in ours], name
    for wrong in (lambda: AsyncIndex("folder"), lambda: AsyncEncoder("starter")):
        with pytest.raises(InvalidInput, match="should be an"):
            wrong()
    with pytest.raises(InvalidInput, match="threads"):
        AsyncEncoder(encoder, threads=0)
