"""`AsyncCollection`: `adapters.qdrant.Collection` for programs that await, on an `AsyncQdrantClient`.

The same requests and the same points; texts are encoded in a thread, so that the event loop stays free. A
collection that one has made the other opens.

    client = AsyncQdrantClient(url="http://localhost:6333")
    collection = await AsyncCollection.open(client, "papers", encoder)
    hits = await collection.search("how do I unpack a zip file", k=5)
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

from latebolt.adapters.qdrant_common.points import DocumentPoints
from latebolt.adapters.qdrant_common.requests import Found, Request, Requests, creation, found_in, is_local
from latebolt.adapters.qdrant_common.retries import patiently
from latebolt.adapters.qdrant_common.shape import CANDIDATES, ID, NewPoint, batches, collection_spec, point_id
from latebolt.adapters.stages.base import Stage
from latebolt.encoder.encoder import Encoder
from latebolt.errors import RuntimeUnavailable
from latebolt.hits import Hit
from latebolt.index.index import Index
from latebolt.index.ingest.sources import Metadata
from latebolt.values import TokenVectors

try:
    import tenacity
    from qdrant_client import AsyncQdrantClient, models
except ImportError as error:
    raise RuntimeUnavailable(
        "qdrant-client is not installed. Run \"pip install 'latebolt[qdrant]'\"."
    ) from error

__all__ = ["AsyncCollection"]

T = TypeVar("T")


class AsyncCollection(DocumentPoints):
    """A collection of documents; made by `create` or `open`. Tasks of one event loop may share it.

    Arguments, results, errors and attributes are those of `Collection`. Of a call that is cancelled, requests
    that were sent may have been carried out; the same call again does it in whole.
    """

    most_values = (1 << 20) - 1

    def __init__(self, client: AsyncQdrantClient, name: str, found: Found, encoder: Encoder | None) -> None:
        super().__init__(f'Qdrant collection "{name}"', found.dim, encoder, found.stage, found.mark)
        self.client, self.name, self.patience = client, name, 120.0
        self._requests = Requests(name, found.using, self.passages, is_local(client))

    @classmethod
    async def create(
        cls,
        client: AsyncQdrantClient,
        name: str,
        encoder: Encoder | None = None,
        dim: int | None = None,
        like: Index | None = None,
        first_stage: str | Stage | None = None,
        quantization: str | models.QuantizationConfig | None = None,
        on_disk: bool | None = None,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        options: Mapping[str, Any] | None = None,
        storage: str = "float32",
        measured: Mapping[str, Any] | None = None,
    ) -> AsyncCollection:
        """Make an empty collection; see `Collection.create`."""
        spec = collection_spec(encoder, dim, like, first_stage, storage, quantization is not None, measured)
        more = {"shard_number": shard_number, "replication_factor": replication_factor, **(options or {})}
        requests, found = creation(name, spec, quantization, on_disk, more)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Payload indexes have no effect in the local")
            for request in requests:
                await getattr(client, request.method)(**request.arguments)
        return cls(client, name, found, encoder)

    @classmethod
    async def open(
        cls, client: AsyncQdrantClient, name: str, encoder: Encoder | None = None
    ) -> AsyncCollection:
        """A collection that exists; see `Collection.open`."""
        return cls(client, name, found_in(name, await client.get_collection(name)), encoder)

    def __repr__(self) -> str:
        return f"AsyncCollection({self.name!r}, dim {self.dim}, first_stage={self.first_stage!r})"

    async def count(self) -> int:
        """Documents; `len` cannot be awaited."""
        return int((await self._send(self._requests.count())).count)

    async def add(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadata: Iterable[Metadata] | None = None,
    ) -> list[str]:
        """Encode documents and write them, some hundred at a time; see `Points.add`.

        The iterables are read in a thread.
        """
        added: list[str] = []
        async for points in _in_thread(self.encoded(texts, ids, metadata)):
            await self._write(iter(points))
            added += [point.payload[ID] for point in points]
        return added

    async def add_vectors(
        self,
        ids: Sequence[str],
        token_vectors: TokenVectors,
        texts: Sequence[str] | None = None,
        metadata: Sequence[Metadata] | None = None,
    ) -> list[str]:
        """Write documents whose token vectors are there already; see `Points.add_vectors`."""
        names, points = await asyncio.to_thread(self.given, ids, token_vectors, texts, metadata)
        await self._write(points)
        return names

    async def _write(self, points: Iterator[NewPoint]) -> None:
        async for request in _in_thread(map(self._requests.upsert, batches(points))):
            await self._send(request)

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete documents; unknown ids are ignored."""
        for some in self.checked_deletions(ids):
            if self.passages:
                await self._send(self._requests.delete_documents(some))
            else:
                await self.delete_points([point_id(id_) for id_ in some])

    async def delete_points(self, point_ids: Sequence[str | int]) -> None:
        """Delete points by their UUIDs."""
        await self._send(self._requests.delete_points(point_ids))

    async def digests(self, point_ids: Sequence[str]) -> dict[str, str | None]:
        """The payload's digest of those of these points that exist."""
        return self._requests.digests_of(await self._send(self._requests.digests(point_ids)))

    async def point_ids(self) -> AsyncIterator[list[str | int]]:
        """All points' ids, UUIDs or the numbers that somebody else gave, some thousand at a time."""
        offset = None
        while True:
            ids, offset = self._requests.page_of(await self._send(self._requests.page(offset)))
            yield ids
            if offset is None:
                return

    async def search(
        self,
        query: str,
        k: int = 10,
        where: Any = None,
        exhaustive: bool = False,
        candidates: int = CANDIDATES,
        search_params: Any = None,
    ) -> list[Hit]:
        """The best documents for a query by MaxSim, best first; see `Points.search`."""
        matrix = await asyncio.to_thread(self.query_matrix, query)
        return await self.search_vectors(matrix, k, where, exhaustive, candidates, search_params)

    async def search_vectors(
        self,
        matrix: npt.ArrayLike,
        k: int = 10,
        where: Any = None,
        exhaustive: bool = False,
        candidates: int = CANDIDATES,
        search_params: Any = None,
    ) -> list[Hit]:
        """`search` with a query's token vectors, float32 [n_query >= 1, dim]."""
        wanted = self.asked(matrix, k, where, exhaustive, candidates, search_params)
        points = self._requests.points_of(await self._send(self._requests.find(wanted)))
        return [self.hit(point.id, point.payload, point.score) for point in points]

    async def _send(self, request: Request) -> Any:
        """One request, again while it fails for a reason that passes and `patience` lasts."""
        attempts = tenacity.AsyncRetrying(**patiently(self.place, self.patience))
        return await attempts(getattr(self.client, request.method), **request.arguments)


async def _in_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """What an iterator gives, each made in a thread."""
    none = object()
    while True:
        item: Any = await asyncio.to_thread(next, items, none)
        if item is none:
            return
        yield item
