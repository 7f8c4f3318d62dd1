"""`Collection`: documents in a Qdrant collection of token vectors, searched by Qdrant's MaxSim.

Texts in and hits out as with `latebolt.Index`, on any `QdrantClient`: `url=`, `path=` or `":memory:"`.
`adapters.qdrant_points` says what a point holds. A collection made by hand opens too, if it has a MAX_SIM
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

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from latebolt.adapters.qdrant_points import (
    DIGEST,
    FIRST,
    ID,
    MARK,
    OVERSAMPLING,
    PASSAGE,
    TOKENS,
    FirstStage,
    NewPoint,
    PointQuery,
    Points,
    check_first_stage,
    collection_spec,
)
from latebolt.arrays import Float32
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, LateboltError, RuntimeUnavailable
from latebolt.hits import Hit
from latebolt.index.index import Index

try:
    import grpc
    import tenacity
    from qdrant_client import QdrantClient, models
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    raise RuntimeUnavailable(
        "qdrant-client is not installed. Run \"pip install 'latebolt[qdrant]'\"."
    ) from error

__all__ = ["Collection", "connect", "is_transient", "readable_errors"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

QUANTIZATIONS: Final = ("scalar", "binary", "turbo")
_PAGE: Final = 4096  # points listed at a time
# Of HTTP: a server that is starting, busy or behind a proxy that cannot reach it now.
_TRANSIENT_STATUS: Final = (429, 500, 502, 503, 504)
_TRANSIENT_CODES: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_EXACT: Final = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
_RESCORE: Final = models.SearchParams(
    quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
)
_BACKOFF: Final = tenacity.wait_random_exponential(multiplier=0.25, max=10)


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

    def __init__(
        self,
        client: QdrantClient,
        name: str,
        dim: int,
        encoder: Encoder | None,
        first_stage: FirstStage | None,
        mark: Mapping[str, Any] | None = None,
        tokens_name: str | None = None,
    ) -> None:
        super().__init__(f'Qdrant collection "{name}"', dim, encoder, first_stage, mark or {})
        self.client, self.name, self.patience = client, name, 120.0
        self._using = tokens_name
        options = client.init_options
        self._is_local = options.get("location") == ":memory:" or options.get("path") is not None

    @classmethod
    def create(
        cls,
        client: QdrantClient,
        name: str,
        encoder: Encoder | None = None,
        dim: int | None = None,
        like: Index | None = None,
        first_stage: FirstStage | None = None,
        quantization: str | models.QuantizationConfig | None = None,
        on_disk: bool | None = None,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Collection:
        """Make an empty collection.

        Args:
            encoder: what texts will be encoded with; the collection's metadata names it, and `open` holds
                other encoders to it. None, with `dim` or `like`, for vectors only.
            dim: size of the token vectors, the encoder's by default.
            like: an index that will be copied into it (`adapters.qdrant_push`), whose width, model and
                cutting of texts it takes.
            first_stage: "mean" keeps the mean of a document's token vectors beside them and "pooled" an
                eighth of the vectors, clustered; a search asks an HNSW graph of these for candidates and
                MaxSim for their order, and the token vectors themselves have no graph. "pooled" loses less
                and costs more. None: one unnamed multivector, of which Qdrant makes a graph; MaxSim is
                exact over it with `exhaustive=True`.
            quantization: of the token vectors, beside the originals: "scalar" (int8), "binary", "turbo", or
                a `QuantizationConfig`.
            on_disk: token vectors are read from disk instead of being held in memory.
            shard_number, replication_factor: see the module.
            options: more arguments of `QdrantClient.create_collection`.
        Raises:
            InvalidInput: encoder, dim, like, first_stage or quantization does not fit.
            What the client raises, for a collection that exists (`ValueError` locally, `UnexpectedResponse`
            with status 409 of a server) and for a server that cannot be reached
            (`ResponseHandlingException`).
        """
        spec = collection_spec(encoder, dim, like)
        check_first_stage(first_stage)

        def vector(multi: bool, **given: Any) -> models.VectorParams:
            comparator = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
            return models.VectorParams(
                size=spec.dim,
                distance=models.Distance.COSINE,
                multivector_config=comparator if multi else None,
                **given,
            )

        kept = {"quantization_config": _quantization(quantization), "on_disk": on_disk}
        config: Any = vector(True, **kept)
        if first_stage is not None:
            tokens = vector(True, hnsw_config=models.HnswConfigDiff(m=0), **kept)
            config = {TOKENS: tokens, FIRST: vector(first_stage == "pooled")}
        client.create_collection(
            name,
            vectors_config=config,
            shard_number=shard_number,
            replication_factor=replication_factor,
            **{"metadata": {MARK: spec.mark}, **(options or {})},
        )
        if spec.mark["passages"]:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Payload indexes have no effect in the local")
                client.create_payload_index(name, ID, models.PayloadSchemaType.KEYWORD)
        using = None if first_stage is None else TOKENS
        return cls(client, name, spec.dim, encoder, first_stage, spec.mark, using)

    @classmethod
    def open(cls, client: QdrantClient, name: str, encoder: Encoder | None = None) -> Collection:
        """A collection that exists, of this adapter or any other with a MAX_SIM multivector.

        Raises:
            InvalidInput: it has no such vector, or several and none of them called "tokens".
            ModelMismatch: it was made for vectors of another size or model than `encoder`'s.
            What the client raises, for a collection that does not exist (`ValueError` locally,
            `UnexpectedResponse` with status 404 of a server).
        """
        config = client.get_collection(name).config
        found = config.params.vectors
        vectors: dict[str | None, models.VectorParams] = {}
        if isinstance(found, models.VectorParams):
            vectors[None] = found
        else:
            vectors.update((name_, params) for name_, params in (found or {}).items())
        multi = [key for key, params in vectors.items() if params.multivector_config is not None]
        tokens = TOKENS if TOKENS in multi else next(iter(key for key in multi if key != FIRST), None)
        if tokens not in multi or (tokens != TOKENS and len(multi) > 1):
            raise InvalidInput(
                f'Qdrant collection "{name}": should have one multivector, or one called "{TOKENS}", got '
                f"{', '.join(map(repr, multi)) or 'none'}. Make another collection with Collection.create."
            )
        mark = dict(config.metadata or {}).get(MARK)
        first: FirstStage | None = None
        if tokens is not None and FIRST in vectors:
            first = "pooled" if FIRST in multi else "mean"
        return cls(client, name, int(vectors[tokens].size), encoder, first, mark, tokens)

    def __len__(self) -> int:
        only = _where(PASSAGE, models.MatchValue(value=0)) if self.passages else None
        return int(self._try(self.client.count, self.name, count_filter=only, exact=True).count)

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, dim {self.dim}, first_stage={self.first_stage!r})"

    def _upsert(self, batch: Sequence[NewPoint]) -> None:
        points = [
            models.PointStruct(id=point.id, payload=point.payload, vector=self._vector(point))
            for point in batch
        ]
        self._try(self.client.upsert, self.name, points, wait=True)

    def _vector(self, point: NewPoint) -> Any:
        if not len(point.tokens):
            return {}
        if self._using is None:
            return _numbers(point.tokens)
        vectors = {self._using: _numbers(point.tokens)}
        if point.first is not None:
            vectors[FIRST] = _numbers(point.first)
        return vectors

    def _find(self, wanted: PointQuery) -> list[Hit]:
        query, first, k, candidates, where, exhaustive, search_params = wanted
        request: dict[str, Any] = {"query": query.tolist(), "using": self._using, "query_filter": where}
        if first is not None:
            request["prefetch"] = models.Prefetch(
                query=first.tolist(), using=FIRST, limit=candidates, filter=where, params=search_params
            )
        if exhaustive:
            search_params = _EXACT
        if search_params is None or exhaustive:
            # The local engine, which compares everything exactly, warns of what it ignores.
            request["search_params"] = None if self._is_local else search_params or _RESCORE
        else:
            request["search_params"] = search_params
        if not self.passages:
            points = self._try(self.client.query_points, self.name, limit=k, **request).points
        else:
            groups = self._try(
                self.client.query_points_groups, self.name, group_by=ID, limit=k, group_size=1, **request
            ).groups
            points = [group.hits[0] for group in groups]
        return [self.hit(point.id, point.payload, point.score) for point in points]

    def _delete_documents(self, ids: Sequence[str]) -> None:
        selector = models.FilterSelector(filter=_where(ID, models.MatchAny(any=list(ids))))
        self._try(self.client.delete, self.name, selector, wait=True)

    def delete_points(self, point_ids: Sequence[str | int]) -> None:
        """See `Points`."""
        selector = models.PointIdsList(points=list(point_ids))
        self._try(self.client.delete, self.name, selector, wait=True)

    def digests(self, point_ids: Sequence[str]) -> dict[str, str | None]:
        """See `Points`."""
        found = self._try(self.client.retrieve, self.name, list(point_ids), with_payload=[DIGEST])
        return {str(record.id): (record.payload or {}).get(DIGEST) for record in found}

    def point_ids(self) -> Iterator[list[str | int]]:
        """See `Points`."""
        offset = None
        while True:
            records, offset = self._try(
                self.client.scroll, self.name, limit=_PAGE, offset=offset, with_payload=False
            )
            yield [record.id if isinstance(record.id, int) else str(record.id) for record in records]
            if offset is None:
                return

    def _try(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """One request, again while it fails for a reason that passes and `patience` lasts."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=_pause,
            stop=tenacity.stop_before_delay(self.patience),
            before_sleep=functools.partial(_tell, self.place),
            reraise=True,
        )
        return attempts(call, *arguments, **named)


def connect(
    url: str | None, path: str | None, api_key: str | None = None, grpc: bool = False, timeout: int = 60
) -> QdrantClient:
    """A client for the command line, of a server or of local storage.

    Args:
        timeout: seconds a request may take; the client's own default is 5.
    """
    if path is not None:
        return QdrantClient(path=path)
    # The first request tells of a server that is not there; a version check before it would only warn.
    return QdrantClient(
        url=url, api_key=api_key, prefer_grpc=grpc, timeout=timeout, check_compatibility=False
    )


@contextlib.contextmanager
def readable_errors(where: str) -> Iterator[None]:
    """What goes wrong in the client, said as the command line says things.

    Raises:
        LateboltError: the server cannot be reached or refuses; the storage is in use.
        InvalidInput: a name or URL that the client does not take.
    """
    place = f"Qdrant at {where}"
    try:
        yield
    except LateboltError:
        raise
    except UnexpectedResponse as error:
        way_out = "Look at the server's log."
        if error.status_code in (401, 403):
            way_out = "Give its key with --api-key or in QDRANT_API_KEY."
        raise LateboltError(f"{place}: refused with {_reason(error)}. {way_out}") from error
    except (ResponseHandlingException, ResourceExhaustedResponse, grpc.RpcError) as error:
        raise LateboltError(
            f"{place}: cannot be reached or does not answer ({_reason(error)}). Start the server, or look "
            "at the URL."
        ) from error
    except RuntimeError as error:  # of local storage that another client has open
        raise LateboltError(f"{place}: {error}") from error
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnexpectedResponse):
        try:
            said = error.structured()["status"]["error"]
        except (ValueError, LookupError, TypeError):
            said = error.reason_phrase
        return f"{error.status_code} ({said})"
    if isinstance(error, grpc.Call):
        return str(error.details() or error.code())
    return str(error) or type(error).__name__


def is_transient(error: BaseException) -> bool:
    """Whether a request that failed so may succeed later without a change."""
    if isinstance(error, ResponseHandlingException):
        # Its source is httpx's: refused, reset, timed out. A response that cannot be read is a ValueError.
        return not isinstance(error.source, ValueError)
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _TRANSIENT_STATUS
    if isinstance(error, grpc.RpcError):
        return isinstance(error, grpc.Call) and error.code() in _TRANSIENT_CODES
    return isinstance(error, ResourceExhaustedResponse)


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    return float(_BACKOFF(state))


def _tell(place: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning("%s: %s. Trying again in %.1f s.", place, error, state.upcoming_sleep)


def _where(field: str, match: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=field, match=match)])


def _quantization(wanted: str | models.QuantizationConfig | None) -> models.QuantizationConfig | None:
    if wanted is None or not isinstance(wanted, str):
        return wanted
    if wanted == "scalar":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)
    if wanted == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    if wanted == "turbo":
        return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(always_ram=True))
    raise InvalidInput(
        f"quantization should be one of {', '.join(QUANTIZATIONS)} or a QuantizationConfig, got {wanted!r}."
    )


def _numbers(values: Float32) -> list[Any]:
    """As lists of seven decimals: an error of float32's own size, and half the bytes of a request."""
    return list(np.round(values.astype(np.float64), 7).tolist())
