"""`AsyncIndex` and `AsyncEncoder`: an index and an encoder for programs that await, as services do.

Each call runs in a thread of a pool of bounded size; the library lets go of Python's lock where it computes,
so the event loop stays free. Searches and additions have pools of their own: no search waits for an addition.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numpy.typing as npt

from latebolt.checks import whole_number
from latebolt.cpus import available_cpus
from latebolt.encoder.encoder import Encoder
from latebolt.errors import IndexUnusable, InvalidInput, LateboltError
from latebolt.hits import Explanation, Hit
from latebolt.index.filters.parse_dict import Where
from latebolt.index.index import Index
from latebolt.index.ingest.read_back import Entry
from latebolt.index.ingest.sync import SyncCounts
from latebolt.index.search.fusion import Mode
from latebolt.index.store.backup import Backup
from latebolt.values import TokenVectors

P = ParamSpec("P")
T = TypeVar("T")


class _Threads:
    """Threads that calls wait for. One that is cancelled before it begins never runs; one that runs ends by
    itself, and what it gives is dropped."""

    def __init__(self, threads: int, name: str, closed: Callable[[], LateboltError]) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._closed = closed

    async def run(self, function: Callable[P, T], *arguments: P.args, **settings: P.kwargs) -> T:
        """Call in a thread, with the caller's context variables.

        Raises:
            LateboltError: it is closed.
        """
        call = functools.partial(function, *arguments, **settings)
        try:
            future = self._pool.submit(contextvars.copy_context().run, call)
        except RuntimeError as error:
            raise self._closed() from error
        return await asyncio.wrap_future(future)

    def refuse(self) -> None:
        """Take nothing more."""
        self._pool.shutdown(wait=False)

    def wait(self) -> None:
        """Wait for what was taken, once nothing more is."""
        self._pool.shutdown()


async def _closing(close: Callable[[], None]) -> None:
    """Close in a thread of its own, to the end even where the caller is cancelled meanwhile."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="latebolt-close")
    closing = asyncio.wrap_future(pool.submit(close))
    pool.shutdown(wait=False)
    await asyncio.shield(closing)


class AsyncIndex:
    """An index whose methods are awaited; arguments, results and errors are those of `Index`.

    Tasks, and event loops of several threads, may share it. A call that is cancelled while it waits for a
    thread does not happen; a search that has begun is finished and dropped; an addition or deletion that has
    begun is finished and committed, since a commit is whole or not at all.
    """

    def __init__(self, index: Index, threads: int | None = None) -> None:
        """
        Args:
            index: belongs to this object from now on; `close` closes it.
            threads: searches at a time, one more than CPUs by default. Others wait.
        """
        if not isinstance(index, Index):
            raise InvalidInput(f"index should be an Index, got {type(index).__name__}. See AsyncIndex.open.")
        threads = available_cpus() + 1 if threads is None else whole_number(threads, "threads")
        self._index = index

        def closed() -> LateboltError:
            return IndexUnusable(f"{index.path}: this index was closed. Open it again.")

        self._reads = _Threads(threads, "latebolt-search", closed)
        # One is enough: writers of an index take turns.
        self._writes = _Threads(1, "latebolt-write", closed)

    @classmethod
    async def open(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        device: str | Sequence[str] = "cpu",
        threads: int | None = None,
        cache: str | Path | None = None,
        refresh: float | None = 60.0,
    ) -> AsyncIndex:
        """Open an index and load its model; see `Index.open`, which does the second when it is first needed.

        Args:
            threads: CPU threads of the model; see `Encoder.load`.
        """

        def opened() -> Index:
            index = Index.open(path, encoder, device, threads, cache, refresh)
            if index.model is not None or encoder is not None:
                index.encoder  # noqa: B018 - not by the first search, which others would wait for, too
            return index

        return cls(await asyncio.to_thread(opened))

    @classmethod
    async def open_or_create(
        cls,
        path: str | Path,
        encoder: Encoder | None,
        bits: int | None = None,
        dim: int | None = None,
        passage_tokens: int | None = None,
        passage_overlap: int | None = None,
        late_chunking: bool | None = None,
        device: str | Sequence[str] = "cpu",
        pool_factor: int | None = None,
        max_vectors: int | None = None,
    ) -> AsyncIndex:
        """See `Index.open_or_create`."""
        others = (passage_tokens, passage_overlap, late_chunking, device, pool_factor, max_vectors)
        return cls(await asyncio.to_thread(Index.open_or_create, path, encoder, bits, dim, *others))

    @property
    def index(self) -> Index:
        """The index, for all that is not here: its methods do not await."""
        return self._index

    def __repr__(self) -> str:
        return f"Async{self._index!r}"

    @overload
    async def search(
        self,
        query: str,
        k: int = ...,
        where: Where | None = ...,
        exhaustive: bool = ...,
        mode: Mode = ...,
        explain: Literal[False] = ...,
    ) -> list[Hit]: ...
    @overload
    async def search(
        self,
        query: str,
        k: int = ...,
        where: Where | None = ...,
        exhaustive: bool = ...,
        mode: Mode = ...,
        *,
        explain: Literal[True],
    ) -> Explanation: ...
    async def search(
        self,
        query: str,
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
        explain: bool = False,
    ) -> list[Hit] | Explanation:
        """See `Index.search`."""
        if explain:
            return await self._reads.run(self._index.search, query, k, where, exhaustive, mode, explain=True)
        return await self._reads.run(self._index.search, query, k, where, exhaustive, mode)

    async def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
    ) -> list[list[Hit]]:
        """See `Index.search_many`."""
        return await self._reads.run(self._index.search_many, queries, k, where, exhaustive, mode)

    async def search_vectors(
        self, matrix: npt.ArrayLike, k: int = 10, where: Where | None = None, exhaustive: bool = False
    ) -> list[Hit]:
        """See `Index.search_vectors`."""
        return await self._reads.run(self._index.search_vectors, matrix, k, where, exhaustive)

    async def get(self, ids: Sequence[str]) -> list[Entry | None]:
        """See `Index.get`."""
        return await self._reads.run(self._index.get, ids)

    async def info(self) -> dict[str, Any]:
        """See `Index.info`."""
        return await self._reads.run(self._index.info)

    async def add(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        timeout: float | None = None,
        device: str | Sequence[str] | None = None,
    ) -> list[str]:
        """See `Index.add`; iterables are read in another thread."""
        return await self._writes.run(self._index.add, texts, ids, metadata, timeout=timeout, device=device)

    async def sync(self, rows: Iterable[tuple[Any, ...]], **settings: Any) -> SyncCounts:
        """See `Index.sync`, whose settings it takes; rows are read in another thread."""
        return await self._writes.run(self._index.sync, rows, **settings)

    async def update_metadata(
        self,
        ids: Sequence[str] | None = None,
        where: Where | None = None,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] | None = None,
        replace: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """See `Index.update_metadata`."""
        return await self._writes.run(self._index.update_metadata, ids, where, set, unset, replace, timeout)

    async def delete(
        self, ids: Sequence[str] | None = None, timeout: float | None = None, where: Where | None = None
    ) -> int:
        """See `Index.delete`."""
        return await self._writes.run(self._index.delete, ids, timeout, where)

    async def compact(self, timeout: float | None = None) -> None:
        """See `Index.compact`."""
        await self._writes.run(self._index.compact, timeout)

    async def refresh(self) -> bool:
        """See `Index.refresh`."""
        return await self._writes.run(self._index.refresh)

    async def backup(self, path: str | Path, link: bool = True) -> Backup:
        """See `Index.backup`."""
        return await self._writes.run(self._index.backup, path, link)

    async def close(self) -> None:
        """Refuse what comes from now on, wait for what was asked before, and release the index's files."""
        self._reads.refuse()
        self._writes.refuse()

        def close() -> None:
            self._reads.wait()
            self._writes.wait()
            self._index.close()

        await _closing(close)

    async def __aenter__(self) -> AsyncIndex:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncEncoder:
    """An encoder whose methods are awaited; arguments, results and errors are those of `Encoder`."""

    def __init__(self, encoder: Encoder, threads: int | None = None) -> None:
        """
        Args:
            encoder: stays the caller's; `close` ends only the threads.
            threads: calls at a time, one more than CPUs by default. Others wait.
        """
        if not isinstance(encoder, Encoder):
            kind = type(encoder).__name__
            raise InvalidInput(f"encoder should be an Encoder, got {kind}. See Encoder.load.")
        threads = available_cpus() + 1 if threads is None else whole_number(threads, "threads")
        self._encoder = encoder
        self._threads = _Threads(
            threads, "latebolt-encode", lambda: InvalidInput("this encoder was closed. Make another one.")
        )

    async def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """See `Encoder.encode_queries`."""
        return await self._threads.run(self._encoder.encode_queries, texts)

    async def encode_documents(self, texts: Sequence[str], **settings: Any) -> TokenVectors:
        """See `Encoder.encode_documents`, whose settings it takes."""
        return await self._threads.run(self._encoder.encode_documents, texts, **settings)

    async def rerank(
        self, query: str, documents: Sequence[str | Mapping[str, Any]], k: int | None = None
    ) -> list[Hit[int]]:
        """See `Encoder.rerank`."""
        return await self._threads.run(self._encoder.rerank, query, documents, k)

    async def close(self) -> None:
        """Refuse what comes from now on, and wait for what was asked before."""
        self._threads.refuse()
        await _closing(self._threads.wait)

    async def __aenter__(self) -> AsyncEncoder:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
