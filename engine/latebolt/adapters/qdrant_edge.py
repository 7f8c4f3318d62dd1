"""`Shard`: documents in a Qdrant Edge shard, the server's own engine in this process and a folder.

The same methods as `adapters.qdrant.Collection`, without a server or a client; one process at a time has a
shard open. Filters are those of `qdrant_edge`.

Surface: qdrant-edge-py 0.9, a beta whose interface moves between releases.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latebolt.adapters.qdrant_common.points import Points
from latebolt.adapters.qdrant_common.shape import (
    DIGEST,
    FIRST,
    ID,
    MARK,
    OVERSAMPLING,
    PASSAGE,
    TOKENS,
    NewPoint,
    PointQuery,
    checked_mark,
    collection_spec,
    found_stage,
)
from latebolt.adapters.stages.base import Stage
from latebolt.encoder.encoder import Encoder
from latebolt.errors import (
    IndexExists,
    IndexNotFound,
    IndexUnusable,
    InvalidInput,
    ModelMismatch,
    RuntimeUnavailable,
)
from latebolt.hits import Hit
from latebolt.index.index import Index

try:
    import qdrant_edge as edge
except ImportError as error:
    raise RuntimeUnavailable(
        "qdrant-edge-py is not installed. Run \"pip install 'latebolt[qdrant-edge]'\"."
    ) from error

__all__ = ["Shard"]

_CONFIG: Final = "edge_config.json"  # written by the engine; it cannot be asked for the size
_MARK_FILE: Final = "latebolt.json"
_PAGE: Final = 4096
# Passages asked for at once for each document wanted, until there are enough documents: edge has no groups.
_WIDER: Final = 4


class Shard(Points):
    """A shard of documents; made by `create` or `open`, and closed by `close` or `with`.

    Attributes:
        path: its folder.
        shard: the `EdgeShard`.
    """

    def __init__(
        self,
        path: Path,
        shard: edge.EdgeShard,
        dim: int,
        encoder: Encoder | None,
        stage: Stage | None,
        mark: Mapping[str, Any] | None = None,
        tokens_name: str | None = None,
    ) -> None:
        super().__init__(f"Qdrant edge shard {path}", dim, encoder, stage, mark or {})
        self.path, self.shard, self._using = path, shard, tokens_name

    @classmethod
    def create(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        dim: int | None = None,
        like: Index | None = None,
        first_stage: str | Stage | None = None,
        quantization: Any = None,
        storage: str = "float32",
        measured: Mapping[str, Any] | None = None,
    ) -> Shard:
        """Make an empty shard in a folder.

        Args:
            encoder, dim, like, first_stage, storage, measured: see `adapters.qdrant.Collection.create`.
            quantization: of the token vectors: "scalar", "binary", "turbo", or a config of `qdrant_edge`.
        Raises:
            IndexExists: the folder holds a shard, or something else.
            InvalidInput: encoder, dim, like, first_stage, quantization or storage does not fit.
        """
        folder = Path(path)
        spec = collection_spec(encoder, dim, like, first_stage, storage, quantization is not None, measured)
        others = folder.exists() and (
            not folder.is_dir() or {p.name for p in folder.iterdir()} - {_MARK_FILE}
        )
        if others:
            raise IndexExists(f"{folder}: is not an empty folder. Open the shard, or choose another path.")

        def vector(size: int, multi: bool, distance: Any = edge.Distance.Cosine, **given: Any) -> Any:
            comparator = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if multi else None
            return edge.EdgeVectorParams(size, distance, multivector_config=comparator, **given)

        kept = {
            "quantization_config": _quantization(quantization or spec.storage.quantization),
            "datatype": _datatype(spec.storage.datatype),
        }
        vectors: Any = vector(spec.dim, True, **kept)
        stage = spec.stage
        if stage is not None:
            graphless = edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000)
            # Beside token vectors that take less than floats, floats of the first stage are a large part.
            halves = _datatype("float32" if spec.storage.name == "float32" else "float16")
            distance = edge.Distance.Cosine if stage.is_cosine else edge.Distance.Dot
            vectors = {
                TOKENS: vector(spec.dim, True, hnsw_config=graphless, **kept),
                FIRST: vector(stage.size, stage.is_multi, distance, datatype=halves),
            }
        folder.mkdir(parents=True, exist_ok=True)
        # The mark first: a shard without one, of a creation cut short, would be taken for somebody else's.
        (folder / _MARK_FILE).write_text(json.dumps({MARK: spec.mark}), encoding="utf-8")
        shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=vectors))
        using = None if stage is None else TOKENS
        return cls(folder, shard, spec.dim, encoder, stage, spec.mark, using)

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether there is a shard in a folder."""
        return (Path(path) / _CONFIG).is_file()

    @classmethod
    def open(cls, path: str | Path, encoder: Encoder | None = None) -> Shard:
        """A shard that exists.

        Raises:
            IndexNotFound: there is none.
            InvalidInput: it has no multivector, or several and none of them called "tokens"; what it notes of
                its first stage is damaged.
            ModelMismatch: it was made for vectors of another size or model than `encoder`'s.
            IndexUnusable: the engine cannot open it, e.g. because another process has it open.
        """
        folder = Path(path)
        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise IndexNotFound(
                f"{folder}: there is no Qdrant edge shard here (no {_CONFIG}). Make one with Shard.create."
            ) from error
        vectors = config["vectors"]  # an unnamed vector is called ""
        multi = [name for name, params in vectors.items() if params.get("multivector_config")]
        tokens = TOKENS if TOKENS in multi else next((name for name in multi if name != FIRST), None)
        if tokens is None or (tokens != TOKENS and len(multi) > 1):
            raise InvalidInput(
                f'{folder}: should have one multivector, or one called "{TOKENS}", got '
                f"{', '.join(map(repr, multi)) or 'none'}. Make another shard with Shard.create."
            )
        mark = None
        if (folder / _MARK_FILE).exists():
            mark = checked_mark(_json(folder / _MARK_FILE).get(MARK), str(folder))
        dim = int(vectors[tokens]["size"])
        stage = None
        if tokens and FIRST in vectors:
            stage = found_stage(mark, dim, FIRST in multi, str(folder))
        try:
            shard = edge.EdgeShard.load(str(folder))
        except Exception as error:  # the engine raises nothing narrower
            raise IndexUnusable(
                f"{folder}: cannot be opened ({error}). See that no other process has it open."
            ) from error
        try:
            return cls(folder, shard, dim, encoder, stage, mark, tokens or None)
        except ModelMismatch:
            shard.close()
            raise

    def close(self) -> None:
        """Write everything to disk and let go of the folder."""
        self.shard.flush()
        self.shard.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        only = _where(PASSAGE, edge.MatchValue(0)) if self.passages else None
        return int(self.shard.count(edge.CountRequest(exact=True, filter=only)))

    def __repr__(self) -> str:
        return f"Shard({str(self.path)!r}, dim {self.dim}, first_stage={self.first_stage!r})"

    def optimize(self) -> None:
        """Merge what additions have left and build graphs; a shard, unlike a server, does so when asked."""
        self.shard.optimize()

    def _upsert(self, batch: Sequence[NewPoint]) -> None:
        points = [edge.Point(point.id, self._vector(point), point.payload) for point in batch]
        self.shard.update(edge.UpdateOperation.upsert_points(points))

    def _vector(self, point: NewPoint) -> Any:
        if not len(point.tokens):
            return {}
        if self._using is None:
            return point.tokens.tolist()
        vectors = {self._using: point.tokens.tolist()}
        if point.first is not None:
            vectors[FIRST] = point.first.tolist()
        return vectors

    def _find(self, wanted: PointQuery) -> list[Hit]:
        query, first, k, candidates, where, exhaustive, search_params = wanted
        stages = None
        if first is not None:
            nearest = edge.Query.Nearest(first.tolist(), using=FIRST)
            stages = [edge.Prefetch(candidates, query=nearest, filter=where, params=search_params)]
        if exhaustive:
            ignore = edge.QuantizationSearchParams(ignore=True)
            search_params = edge.SearchParams(exact=True, quantization=ignore)
        elif search_params is None:
            again = edge.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
            search_params = edge.SearchParams(quantization=again)

        def ask(limit: int) -> list[Any]:
            return list(
                self.shard.query(
                    edge.QueryRequest(
                        limit,
                        query=edge.Query.Nearest(query.tolist(), using=self._using),
                        prefetches=stages,
                        with_payload=True,
                        filter=where,
                        params=search_params,
                    )
                )
            )

        limit = k * _WIDER if self.passages else k
        points = ask(limit)
        best = _best_passages(points)
        while self.passages and len(best) < k and len(points) == limit:
            limit *= _WIDER
            points = ask(limit)
            best = _best_passages(points)
        return [self.hit(point.id, point.payload, point.score) for point in best[:k]]

    def _delete_documents(self, ids: Sequence[str]) -> None:
        only = _where(ID, edge.MatchAny(list(ids)))
        self.shard.update(edge.UpdateOperation.delete_points_by_filter(only))

    def delete_points(self, point_ids: Sequence[str | int]) -> None:
        """See `Points`."""
        self.shard.update(edge.UpdateOperation.delete_points(list(point_ids)))

    def digests(self, point_ids: Sequence[str]) -> dict[str, str | None]:
        """See `Points`."""
        found = self.shard.retrieve(list(point_ids), with_payload=[DIGEST], with_vector=False)
        return {str(record.id): (record.payload or {}).get(DIGEST) for record in found}

    def point_ids(self) -> Iterator[list[str | int]]:
        """See `Points`."""
        offset = None
        while True:
            request = edge.ScrollRequest(limit=_PAGE, offset=offset, with_payload=False)
            records, offset = self.shard.scroll(request)
            yield [record.id if isinstance(record.id, int) else str(record.id) for record in records]
            if offset is None:
                return


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IndexUnusable(f"{path}: is no JSON ({error}). Push into a new folder.") from error
    return found if isinstance(found, dict) else {}


def _best_passages(points: Sequence[Any]) -> list[Any]:
    """The first point of each document; every point of somebody else's is a document."""
    best: dict[str, Any] = {}
    for point in points:
        best.setdefault((point.payload or {}).get(ID) or str(point.id), point)
    return list(best.values())


def _where(field: str, match: Any) -> edge.Filter:
    return edge.Filter(must=[edge.FieldCondition(key=field, match=match)])


def _datatype(name: str) -> Any:
    return getattr(edge.VectorStorageDatatype, name.capitalize())


def _quantization(wanted: Any) -> Any:
    if wanted is None or not isinstance(wanted, str):
        return wanted
    if wanted == "scalar":
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, always_ram=True)
    if wanted == "binary":
        return edge.BinaryQuantizationConfig(always_ram=True)
    if wanted == "turbo":
        return edge.TurboQuantQuantizationConfig(always_ram=True)
    raise InvalidInput(
        f"quantization should be scalar, binary, turbo or a config of qdrant_edge, got {wanted!r}."
    )
