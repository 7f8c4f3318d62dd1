"""`Collection`: documents in a Qdrant collection of token vectors, searched by Qdrant's MaxSim.

Texts in and hits out as with `latebolt.Index`, on any `QdrantClient`: `url=`, `path=` or `":memory:"`.
`qdrant_common.shape` says what a point holds. A collection made by hand opens too, if it has a MAX_SIM
multivector.

For documents that outgrow one machine. A collection of several shards is spread over the machines of a Qdrant
cluster, each of which searches its own shards and keeps them in its own memory; with several replicas a shard
is on as many machines, and the collection is searched and written while one of them is down:

    client = QdrantClient(url="https://qdrant.example.org:6333", api_key=...)
    collection = Collection.create(
        client, "papers", encoder, first_stage="mean", quantization="scalar", on_disk=True,
        shard_number=6, replication_factor=2, options={"write_consistency_factor": 1},
    )

Twice as many shards as machines leave room to grow: shards move between machines, their number stays (in
Qdrant Cloud it may change). At 4 bytes a value, a document of 150 tokens at 128 dimensions takes 77 kB;
`on_disk=True` keeps these on disk and quantised copies in memory ("scalar" 1 byte a value, "binary" 1 bit),
and the first stage looks at one vector a document, so that MaxSim reads a few hundred documents a search.

Surface: qdrant-client 1.20 (and 1.16 on, which brought the metadata of collections).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latebolt.adapters.qdrant_common.points import Points
from latebolt.adapters.qdrant_common.requests import Found, Request, Requests, creation, found_in, is_local
from latebolt.adapters.qdrant_common.retries import connect, is_transient, patiently, readable_errors
from latebolt.adapters.qdrant_common.shape import NewPoint, PointQuery, collection_spec
from latebolt.adapters.stages.base import Stage
from latebolt.encoder.encoder import Encoder
from latebolt.errors import RuntimeUnavailable
from latebolt.hits import Hit
from latebolt.index.index import Index

try:
    import tenacity
    from qdrant_client import QdrantClient, models
except ImportError as error:
    raise RuntimeUnavailable(
        "qdrant-client is not installed. Run \"pip install 'latebolt[qdrant]'\"."
    ) from error

__all__ = ["Collection", "connect", "is_transient", "readable_errors"]


class Collection(Points):
    """A collection of documents; made by `create` or `open`. As thread-safe as its client.

    A server refuses multivectors of 1,048,576 values or more. Of a document with as many (8,192 tokens at 128
    dimensions), the neighbouring token vectors that are most alike are joined until it has fewer.

    Attributes:
        client, name: as given.
        patience: seconds that a request is tried again for, while the server cannot be reached or says
            that it is busy; with growing pauses, or those the server asks for.
    """

    most_values = (1 << 20) - 1

    def __init__(self, client: QdrantClient, name: str, found: Found, encoder: Encoder | None) -> None:
        super().__init__(f'Qdrant collection "{name}"', found.dim, encoder, found.stage, found.mark)
        self.client, self.name, self.patience = client, name, 120.0
        self._requests = Requests(name, found.using, self.passages, is_local(client))

    @classmethod
    def create(
        cls,
        client: QdrantClient,
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
    ) -> Collection:
        """Make an empty collection.

        Args:
            encoder: what texts will be encoded with; the collection's metadata names it, and `open` holds
                other encoders to it. None, with `dim` or `like`, for vectors only.
            dim: size of the token vectors, the encoder's by default.
            like: an index that will be copied into it (`adapters.qdrant_common.push`), whose width, model and
                cutting of texts it takes.
            first_stage: "mean" keeps the mean of a document's token vectors beside them and "pooled" an
                eighth of the vectors, clustered; a search asks an HNSW graph of these for candidates and
                MaxSim for their order, and the token vectors themselves have no graph. "pooled" loses less
                and costs more. Or a `Stage` of `adapters.stages`, such as a `LearnedStage`. None: one unnamed
                multivector, of which Qdrant makes a graph; MaxSim is exact over it with `exhaustive=True`.
            quantization: of the token vectors, beside the originals: "scalar" (int8), "binary", "turbo", or
                a `QuantizationConfig`.
            on_disk: token vectors are read from disk instead of being held in memory.
            shard_number, replication_factor: see the module.
            options: more arguments of `QdrantClient.create_collection`.
            storage: of the token vectors, "float32", "float16", "turbo8", "turbo4", or "int8", which is
                float16 with "scalar". Servers know turbo from 1.19 on; the client's local engine keeps
                float32 whatever is asked.
            measured: JSON values to keep in the collection's metadata.
        Raises:
            InvalidInput: encoder, dim, like, first_stage, quantization or storage does not fit.
            RuntimeUnavailable: qdrant-client is too old for the storage.
            What the client raises, for a collection that exists (`ValueError` locally, `UnexpectedResponse`
            with status 409 of a server) and for a server that cannot be reached
            (`ResponseHandlingException`).
        """
        spec = collection_spec(encoder, dim, like, first_stage, storage, quantization is not None, measured)
        more = {"shard_number": shard_number, "replication_factor": replication_factor, **(options or {})}
        requests, found = creation(name, spec, quantization, on_disk, more)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Payload indexes have no effect in the local")
            for request in requests:
                getattr(client, request.method)(**request.arguments)
        return cls(client, name, found, encoder)

    @classmethod
    def open(cls, client: QdrantClient, name: str, encoder: Encoder | None = None) -> Collection:
        """A collection that exists, of this adapter or any other with a MAX_SIM multivector.

        Raises:
            InvalidInput: it has no such vector, or several and none of them called "tokens"; what its
                metadata says of its first stage is damaged.
            ModelMismatch: it was made for vectors of another size or model than `encoder`'s.
            What the client raises, for a collection that does not exist (`ValueError` locally,
            `UnexpectedResponse` with status 404 of a server).
        """
        return cls(client, name, found_in(name, client.get_collection(name)), encoder)

    def __len__(self) -> int:
        return int(self._send(self._requests.count()).count)

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, dim {self.dim}, first_stage={self.first_stage!r})"

    def _upsert(self, batch: Sequence[NewPoint]) -> None:
        self._send(self._requests.upsert(batch))

    def _find(self, wanted: PointQuery) -> list[Hit]:
        points = self._requests.points_of(self._send(self._requests.find(wanted)))
        return [self.hit(point.id, point.payload, point.score) for point in points]

    def _delete_documents(self, ids: Sequence[str]) -> None:
        self._send(self._requests.delete_documents(ids))

    def delete_points(self, point_ids: Sequence[str | int]) -> None:
        """See `Points`."""
        self._send(self._requests.delete_points(point_ids))

    def digests(self, point_ids: Sequence[str]) -> dict[str, str | None]:
        """See `Points`."""
        return self._requests.digests_of(self._send(self._requests.digests(point_ids)))

    def point_ids(self) -> Iterator[list[str | int]]:
        """See `Points`."""
        offset = None
        while True:
            ids, offset = self._requests.page_of(self._send(self._requests.page(offset)))
            yield ids
            if offset is None:
                return

    def _send(self, request: Request) -> Any:
        """One request, again while it fails for a reason that passes and `patience` lasts."""
        attempts = tenacity.Retrying(**patiently(self.place, self.patience))
        return attempts(getattr(self.client, request.method), **request.arguments)
