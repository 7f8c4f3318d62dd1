"""`AsyncClient`: what `Client` does, for programs that await. The two have the same methods."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from latebolt.checks import check_many, check_timeout
from latebolt.client import calls
from latebolt.client.answers import Added, Document, IndexInfo, Job, ModelInfo, SnapshotInfo
from latebolt.client.calls import BATCH_DOCUMENTS, READ_DOCUMENTS, Call, Mode, Where
from latebolt.client.library import Settings
from latebolt.client.reading import pause, read, refusal
from latebolt.client.waiting import CUT_QUERY, JOBS_AT_A_TIME, is_done, polls
from latebolt.errors import ServerError, ServerUnreachable
from latebolt.hits import Explanation, Hit, PartialHits

T = TypeVar("T")

logger = logging.getLogger("latebolt")


class AsyncClient:
    """A running server. Tasks of one event loop may share it; close it, or use it as a context manager.

    A request is sent again, after growing pauses or those that the server asks for, when it was refused for
    now (429, 503) or did not get there. One whose answer was lost on the way is sent again too, unless it
    makes or deletes an index.
    """

    def __init__(
        self, url: str, api_key: str | None = None, timeout: float | None = 60.0, retries: int = 3
    ) -> None:
        """
        Args:
            url: such as http://127.0.0.1:8080, with the path below which a proxy has put the server.
            api_key: one of the server's keys.
            timeout: seconds for an answer; None to wait for ever.
            retries: how often a request is sent again; 0 for never.
        Raises:
            InvalidInput: an argument does not fit.
            RuntimeUnavailable: httpx2 is not installed.
        """
        self._settings = Settings(url, api_key, timeout, retries)
        self._http = self._settings.library.AsyncClient(**self._settings.options())

    def __repr__(self) -> str:
        return f"AsyncClient({self._settings.url!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def health(self) -> str:
        """ "ok" from a server that runs."""
        return (await self._ask(calls.HEALTH)).status

    async def is_ready(self) -> bool:
        """Whether the server can be reached and its model is loaded. Asks once."""
        try:
            await self._ask(calls.READY, retries=0)
        except ServerUnreachable:
            return False
        except ServerError as error:
            if error.status == 503:
                return False
            raise
        return True

    async def model(self) -> ModelInfo:
        """The served model."""
        return (await self._ask(calls.MODELS)).data[0]

    async def list_indexes(self) -> list[IndexInfo]:
        """All indexes, by name."""
        return (await self._ask(calls.INDEXES)).data

    async def create_index(
        self,
        name: str,
        bits: int = 2,
        dimensions: int | None = None,
        passage_tokens: int | None = None,
        passage_overlap: int | None = None,
        pool_factor: int = 1,
        max_vectors: int | None = None,
    ) -> IndexInfo:
        """Make an empty index; see `latebolt.Index.create`."""
        return await self._ask(
            calls.create_index(
                name, bits, dimensions, passage_tokens, passage_overlap, pool_factor, max_vectors
            )
        )

    async def open_or_create_index(
        self,
        name: str,
        bits: int | None = None,
        dimensions: int | None = None,
        passage_tokens: int | None = None,
        passage_overlap: int | None = None,
        pool_factor: int | None = None,
        max_vectors: int | None = None,
    ) -> IndexInfo:
        """The index of that name, made where there is none; see `latebolt.Index.open_or_create`.

        Raises:
            InvalidInput: it has another setting than the one that is given.
        """
        asked = (bits, dimensions, passage_tokens, passage_overlap, pool_factor, max_vectors)
        try:
            return calls.fitting(await self.index_info(name), *asked)
        except ServerError as error:
            if error.code != "index_not_found":
                raise
        try:
            return await self.create_index(
                name,
                2 if bits is None else bits,
                *asked[1:4],
                1 if pool_factor is None else pool_factor,
                max_vectors,
            )
        except ServerError as error:
            if error.code != "index_exists":
                raise
        return calls.fitting(await self.index_info(name), *asked)  # made by somebody else since we asked

    async def index_info(self, name: str) -> IndexInfo:
        """An index in figures."""
        return await self._ask(calls.index_info(name))

    async def delete_index(self, name: str) -> None:
        """Delete an index with all it holds."""
        await self._ask(calls.delete_index(name))

    async def snapshot_index(self, name: str, snapshot: str | None = None) -> SnapshotInfo:
        """Copy an index as of its last commit, there, while others write; see `latebolt.Index.backup`.

        Args:
            snapshot: its name, of a-z, 0-9, _ and -; the time by default.
        """
        return await self._ask(calls.snapshot_index(name, snapshot))

    async def list_snapshots(self) -> list[SnapshotInfo]:
        """All snapshots, by index and name."""
        return (await self._ask(calls.SNAPSHOTS)).data

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot of an index, which may be gone itself."""
        await self._ask(calls.delete_snapshot(name, snapshot))

    async def add_documents(
        self,
        name: str,
        documents: Iterable[Mapping[str, Any]],
        background: bool = False,
        batch_documents: int = BATCH_DOCUMENTS,
    ) -> Added:
        """Add documents, or replace those of the same ids, some at a time; each time is one commit.

        When one is refused, those before it are on disk, which a note of the error says.

        Args:
            documents: dicts of "id", "text" and maybe "metadata"; any number, read as they are sent.
            background: as jobs of the server, which may take longer than `timeout`; returns when all are
                done.
            batch_documents: at most so many at a time.
        """
        total = Added()
        waiting: deque[Job] = deque()
        try:
            for _, body in calls.batches(documents, batch_documents):
                if not background:
                    total += await self._ask(calls.add(name, body))
                    continue
                if len(waiting) >= JOBS_AT_A_TIME:
                    total += (await self.wait(waiting.popleft())).added
                waiting.append(await self._ask(calls.begin_addition(name, body)))
            while waiting:
                total += (await self.wait(waiting.popleft())).added
        except Exception as error:
            error.add_note(f"{total.added} documents are known to have been added before.")
            raise
        return total

    async def get_documents(self, name: str, ids: Iterable[str]) -> list[Document | None]:
        """The documents of these ids, in this order; None for one that is not there."""
        check_many(ids, "ids")
        wanted, found = list(ids), list[Document | None]()
        for start in range(0, len(wanted), READ_DOCUMENTS):
            some = await self._ask(calls.get_documents(name, wanted[start : start + READ_DOCUMENTS]))
            found += some.documents
        return found

    async def update_metadata(
        self,
        name: str,
        ids: Iterable[str] | None = None,
        where: Where | None = None,
        set: Mapping[str, Any] | None = None,
        unset: Iterable[str] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> int:
        """Change documents' metadata in one commit; says of how many. See `latebolt.Index.update_metadata`.

        Raises:
            RequestInvalid: a filter or another argument does not fit.
        """
        call = calls.update_metadata(name, ids, where, set, unset, replace)
        return (await self._ask(call)).updated

    async def delete_documents(
        self, name: str, ids: Iterable[str] | None = None, where: Where | None = None
    ) -> int:
        """Delete documents; says how many there were. See `latebolt.Index.delete`."""
        return (await self._ask(calls.delete_documents(name, ids, where))).deleted

    async def jobs(self) -> list[Job]:
        """Additions in the background, newest first."""
        return (await self._ask(calls.JOBS)).data

    async def job(self, id: str) -> Job:
        """One of them."""
        return await self._ask(calls.job(id))

    async def cancel_job(self, id: str) -> Job:
        """End one of them, and give its last state; one that has ended stays as it is.

        When this returns, nothing more of it will be committed; what is (`Job.committed`) stays.
        """
        return await self._ask(calls.cancel_job(id))

    async def wait(self, job: Job, timeout: float | None = None) -> Job:
        """Wait until a job is done.

        Args:
            timeout: seconds; None for as long as it takes.
        Raises:
            ServerError: it failed, was cancelled or was interrupted.
            ServerUnreachable: the time is up.
        """
        end = None if timeout is None else time.monotonic() + check_timeout(timeout)
        for seconds in polls():
            if is_done(job, end):
                break
            await asyncio.sleep(seconds)
            job = await self.job(job.id)
        return job

    @overload
    async def search(
        self,
        name: str,
        query: str,
        k: int = ...,
        where: Where | None = ...,
        exhaustive: bool = ...,
        mode: Mode = ...,
        explain: Literal[False] = ...,
        partial: bool = ...,
    ) -> PartialHits: ...
    @overload
    async def search(
        self,
        name: str,
        query: str,
        k: int = ...,
        where: Where | None = ...,
        exhaustive: bool = ...,
        mode: Mode = ...,
        *,
        explain: Literal[True],
        partial: bool = ...,
    ) -> Explanation: ...
    async def search(
        self,
        name: str,
        query: str,
        k: int = 10,
        where: Where | None = None,
        exhaustive: bool = False,
        mode: Mode = "late",
        explain: bool = False,
        partial: bool = False,
    ) -> PartialHits | Explanation:
        """The best documents of an index for a query; arguments and results are those of `Index.search`.

        Args:
            partial: where a shard of an index on several machines gives no answer, take the others' hits,
                whose `missing` names it. Otherwise that is a ServerError. Servers of before know no shards.
        Raises:
            RequestInvalid: a filter or another argument does not fit.
        """
        found = await self._ask(calls.search(name, query, k, where, exhaustive, mode, explain, partial))
        if found.truncated:
            logger.warning(CUT_QUERY)
        return found.explained(query) if explain else found.plain()

    async def rerank(self, query: str, documents: Sequence[str], k: int | None = None) -> list[Hit[int]]:
        """Passages by a query, best first; `id` is the position. See `Encoder.rerank`."""
        return (await self._ask(calls.rerank(query, documents, k))).hits(list(documents))

    async def _ask(self, call: Call[T], retries: int | None = None) -> T:
        most = self._settings.retries if retries is None else retries
        url, tries = self._settings.url + call.path, 0
        while True:
            tries += 1
            try:
                answer = await self._http.request(**self._settings.request(call))
            except self._settings.library.TransportError as lost:
                error, again = self._settings.lost(lost, call)
                seconds = pause(error, tries, most) if again else None
                if seconds is None:
                    raise error from lost
            else:
                if answer.is_success:
                    return read(answer.content, call.answer, url)
                error = refusal(answer.status_code, answer.headers, answer.content, url)
                seconds = pause(error, tries, most)
                if seconds is None:
                    raise error
            await asyncio.sleep(seconds)
