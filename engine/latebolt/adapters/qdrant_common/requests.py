"""What the adapters ask of a client of Qdrant, as method names and arguments, and what they read in the
answers. Pure: `adapters.qdrant` and `adapters.qdrant_async` send it, each with its own client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from latebolt.adapters.qdrant_common.shape import (
    DIGEST,
    FIRST,
    ID,
    MARK,
    OVERSAMPLING,
    PASSAGE,
    TOKENS,
    CollectionSpec,
    NewPoint,
    PointQuery,
    checked_mark,
    found_stage,
)
from latebolt.adapters.qdrant_common.storage import QUANTIZATIONS, STORAGES, TURBO_SINCE
from latebolt.adapters.stages.base import Stage
from latebolt.arrays import Float32
from latebolt.errors import InvalidInput, RuntimeUnavailable

try:
    from qdrant_client import models
except ImportError as error:
    raise RuntimeUnavailable(
        "qdrant-client is not installed. Run \"pip install 'latebolt[qdrant]'\"."
    ) from error

_PAGE: Final = 4096  # points listed at a time
_EXACT: Final = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
_RESCORE: Final = models.SearchParams(
    quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
)


class Request(NamedTuple):
    """A method of a client, and what it is called with."""

    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a collection that exists says of itself.

    Args:
        dim: size of its token vectors.
        stage: first stage, or None.
        mark: of ours, or nothing.
        using: name of the token vectors, None for unnamed ones.
    """

    dim: int
    stage: Stage | None
    mark: dict[str, Any]
    using: str | None


def creation(
    name: str,
    spec: CollectionSpec,
    quantization: str | models.QuantizationConfig | None,
    on_disk: bool | None,
    options: Mapping[str, Any],
) -> tuple[list[Request], Found]:
    """The requests that make a collection, and what it will say of itself."""
    kept: dict[str, Any] = {
        "quantization_config": _quantization(quantization or spec.storage.quantization),
        "on_disk": on_disk,
        "datatype": _datatype(spec.storage.datatype),
    }

    def vector(size: int, multi: bool, cosine: bool = True, **given: Any) -> models.VectorParams:
        comparator = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        return models.VectorParams(
            size=size,
            distance=models.Distance.COSINE if cosine else models.Distance.DOT,
            multivector_config=comparator if multi else None,
            **given,
        )

    config: Any = vector(spec.dim, True, **kept)
    stage = spec.stage
    if stage is not None:
        tokens = vector(spec.dim, True, hnsw_config=models.HnswConfigDiff(m=0), **kept)
        # Beside token vectors that take less than floats, floats of the first stage are a large part.
        halves = None if spec.storage.name == "float32" else models.Datatype.FLOAT16
        first = vector(stage.size, stage.is_multi, stage.is_cosine, datatype=halves)
        config = {TOKENS: tokens, FIRST: first}
    arguments = {"collection_name": name, "vectors_config": config, "metadata": {MARK: spec.mark}}
    requests = [Request("create_collection", {**arguments, **options})]
    if spec.mark["passages"]:
        keyword = models.PayloadSchemaType.KEYWORD
        requests.append(
            Request(
                "create_payload_index", {"collection_name": name, "field_name": ID, "field_schema": keyword}
            )
        )
    return requests, Found(spec.dim, stage, spec.mark, None if stage is None else TOKENS)


def found_in(name: str, answer: Any) -> Found:
    """What the answer of `get_collection` says.

    Raises:
        InvalidInput: there is no multivector, or several and none of them called "tokens"; its mark is
            damaged.
    """
    config = answer.config
    vectors: dict[str | None, models.VectorParams] = {}
    if isinstance(config.params.vectors, models.VectorParams):
        vectors[None] = config.params.vectors
    else:
        vectors.update((name_, params) for name_, params in (config.params.vectors or {}).items())
    multi = [key for key, params in vectors.items() if params.multivector_config is not None]
    tokens = TOKENS if TOKENS in multi else next(iter(key for key in multi if key != FIRST), None)
    place = f'Qdrant collection "{name}"'
    if tokens not in multi or (tokens != TOKENS and len(multi) > 1):
        raise InvalidInput(
            f'{place}: should have one multivector, or one called "{TOKENS}", got '
            f"{', '.join(map(repr, multi)) or 'none'}. Make another collection with Collection.create."
        )
    mark = checked_mark(dict(config.metadata or {}).get(MARK), place)
    dim = int(vectors[tokens].size)
    stage = None
    if tokens is not None and FIRST in vectors:
        stage = found_stage(mark, dim, FIRST in multi, place)
    return Found(dim, stage, mark, tokens)


@dataclass(frozen=True)
class Requests:
    """Requests about the points of a collection.

    Args:
        name: of the collection.
        using: name of the token vectors.
        passages: points are passages of documents.
        is_local: the client answers itself, compares everything exactly, and warns of what it ignores.
    """

    name: str
    using: str | None
    passages: bool
    is_local: bool

    def _of(self, method: str, arguments: Mapping[str, Any]) -> Request:
        return Request(method, {"collection_name": self.name, **arguments})

    def count(self) -> Request:
        """Documents."""
        only = _where(PASSAGE, models.MatchValue(value=0)) if self.passages else None
        return self._of("count", {"count_filter": only, "exact": True})

    def upsert(self, batch: Sequence[NewPoint]) -> Request:
        """Writing points, answered when they are there."""
        points = [
            models.PointStruct(id=point.id, payload=point.payload, vector=self._vector(point))
            for point in batch
        ]
        return self._of("upsert", {"points": points, "wait": True})

    def _vector(self, point: NewPoint) -> Any:
        if not len(point.tokens):
            return {}
        if self.using is None:
            return _numbers(point.tokens)
        vectors = {self.using: _numbers(point.tokens)}
        if point.first is not None:
            vectors[FIRST] = _numbers(point.first)
        return vectors

    def find(self, wanted: PointQuery) -> Request:
        """A search."""
        query, first, k, candidates, where, exhaustive, search_params = wanted
        request: dict[str, Any] = {"query": query.tolist(), "using": self.using, "query_filter": where}
        if first is not None:
            request["prefetch"] = models.Prefetch(
                query=first.tolist(), using=FIRST, limit=candidates, filter=where, params=search_params
            )
        if exhaustive:
            search_params = _EXACT
        if search_params is None or exhaustive:
            request["search_params"] = None if self.is_local else search_params or _RESCORE
        else:
            request["search_params"] = search_params
        if not self.passages:
            return self._of("query_points", {"limit": k, **request})
        return self._of("query_points_groups", {"group_by": ID, "limit": k, "group_size": 1, **request})

    def points_of(self, answer: Any) -> list[models.ScoredPoint]:
        """The answer of a search, one point a document."""
        return [group.hits[0] for group in answer.groups] if self.passages else list(answer.points)

    def delete_documents(self, ids: Sequence[str]) -> Request:
        """Deleting all passages of documents."""
        selector = models.FilterSelector(filter=_where(ID, models.MatchAny(any=list(ids))))
        return self._of("delete", {"points_selector": selector, "wait": True})

    def delete_points(self, point_ids: Sequence[str | int]) -> Request:
        """Deleting points by their UUIDs."""
        selector = models.PointIdsList(points=list(point_ids))
        return self._of("delete", {"points_selector": selector, "wait": True})

    def digests(self, point_ids: Sequence[str]) -> Request:
        """The digests of those of these points that exist."""
        return self._of("retrieve", {"ids": list(point_ids), "with_payload": [DIGEST]})

    @staticmethod
    def digests_of(answer: Any) -> dict[str, str | None]:
        """By point."""
        return {str(record.id): (record.payload or {}).get(DIGEST) for record in answer}

    def page(self, offset: Any) -> Request:
        """Some thousand points' ids."""
        return self._of("scroll", {"limit": _PAGE, "offset": offset, "with_payload": False})

    @staticmethod
    def page_of(answer: Any) -> tuple[list[str | int], Any]:
        """Ids, and where the next page begins, or None."""
        records, offset = answer
        return [record.id if isinstance(record.id, int) else str(record.id) for record in records], offset


def is_local(client: Any) -> bool:
    """Whether a client keeps the points itself."""
    options = client.init_options
    return options.get("location") == ":memory:" or options.get("path") is not None


def storages_of(client: Any) -> tuple[str, ...]:
    """Names of the storages that a client and its server know, from the smallest on.

    Raises:
        What the client raises where the server cannot be asked.
    """
    if is_local(client):
        return ("float32",)
    release = re.match(r"(\d+)\.(\d+)", str(client.info().version))
    known = release is not None and tuple(map(int, release.groups())) >= TURBO_SINCE
    turbo = known and hasattr(models.Datatype, "TURBO4")
    return tuple(each.name for each in STORAGES.values() if turbo or not each.datatype.startswith("turbo"))


def _where(field: str, match: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=field, match=match)])


def _datatype(name: str) -> models.Datatype | None:
    if name == "float32":  # Qdrant's own; a server of any version takes a request without it
        return None
    try:
        return models.Datatype(name)
    except ValueError as error:
        raise RuntimeUnavailable(
            f'this qdrant-client has no storage "{name}". Run "pip install --upgrade qdrant-client".'
        ) from error


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
