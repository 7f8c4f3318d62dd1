"""Haystack: components that rank documents and retrieve them from an index.

The surfaces are those of haystack-ai 3.4: `run` and `run_async`, `warm_up`, `to_dict` and `from_dict`,
Haystack's filters; the ranker has the members of the `SentenceTransformersSimilarityRanker` that earlier
versions had.

Haystack imports only modules it is told to trust: `Pipeline.loads(yaml, allowed_modules=["latebolt"])`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from latebolt.encoder.encoder import Encoder
from latebolt.errors import RuntimeUnavailable
from latebolt.index.index import Index
from latebolt.index.search.fusion import Mode, check_mode

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.types import FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
except ImportError as error:
    raise RuntimeUnavailable('haystack-ai is not installed. Run "pip install haystack-ai".') from error


def _check_top_k(top_k: int) -> int:
    if top_k <= 0:
        raise ValueError(f"top_k must be > 0, but got {top_k}")  # as Haystack's own rankers say it
    return top_k


@component
class LateboltRanker:
    """Ranks documents by late interaction with the query. Nothing leaves the machine.

    Args:
        model: "starter", an exported folder, or a hub id.
        top_k: documents kept.
        precision, dim, device, threads: see `Encoder.load`.
        meta_fields_to_embed: members of `meta` that the model reads before the content.
        embedding_separator: what joins these.
        score_threshold: leave out documents that score less.
    Raises:
        ValueError: top_k is not above 0.
    """

    def __init__(
        self,
        model: str = "starter",
        *,
        top_k: int = 10,
        precision: str | None = None,
        dim: int | None = None,
        device: str = "cpu",
        threads: int | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        score_threshold: float | None = None,
    ) -> None:
        self.top_k = _check_top_k(top_k)
        self.model, self.precision, self.dim = model, precision, dim
        self.device, self.threads = device, threads
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator, self.score_threshold = embedding_separator, score_threshold
        self._encoder: Encoder | None = None

    def warm_up(self) -> None:
        """Load the model; `run` does so too where nobody did."""
        if self._encoder is None:
            self._encoder = Encoder.load(self.model, self.precision, self.dim, self.device, self.threads)

    def to_dict(self) -> dict[str, Any]:
        """The component as a dictionary."""
        return default_to_dict(
            self,
            model=self.model,
            top_k=self.top_k,
            precision=self.precision,
            dim=self.dim,
            device=self.device,
            threads=self.threads,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            score_threshold=self.score_threshold,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LateboltRanker:
        """The component of a dictionary."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Copies of the best documents with their scores, best first.

        Of documents with the same id, the one with the highest score is ranked.

        Args:
            top_k, score_threshold: instead of the component's own.
        Raises:
            ValueError: top_k is not above 0, or the query is empty.
        """
        kept = self.top_k if top_k is None else _check_top_k(top_k)
        least = self.score_threshold if score_threshold is None else score_threshold
        if not documents:
            return {"documents": []}
        self.warm_up()
        assert self._encoder is not None
        unique = _without_doubles(documents)
        hits = self._encoder.rerank(query, [self._text_of(document) for document in unique], kept)
        return {
            "documents": [
                replace(unique[hit.id], score=hit.score)
                for hit in hits
                if least is None or hit.score >= least
            ]
        }

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """`run` on another thread."""
        return await asyncio.to_thread(self.run, query, documents, top_k, score_threshold)

    def _text_of(self, document: Document) -> str:
        read = [str(document.meta[name]) for name in self.meta_fields_to_embed if document.meta.get(name)]
        return self.embedding_separator.join([*read, document.content or ""])


def _without_doubles(documents: list[Document]) -> list[Document]:
    best: dict[str, Document] = {}
    for document in documents:
        other = best.get(document.id)
        if other is None or (document.score or float("-inf")) > (other.score or float("-inf")):
            best[document.id] = document
    return list(best.values())


@component
class LateboltRetriever:
    """Retrieves documents from an index, best first; their scores are the hits'.

    Args:
        index: the folder of an index.
        filters: Haystack's filters on "id" and "meta.*", with Haystack's meaning.
        top_k: documents wanted.
        mode: "late", "bm25" or "hybrid".
        exhaustive: score every document exactly.
        device, threads: see `Index.open`.
        filter_policy: whether the filters of a run replace these or are added to them.
    Raises:
        ValueError: top_k is not above 0, or there is no such mode.
        FilterError: a filter cannot be read.
    """

    def __init__(
        self,
        index: str,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Mode = "late",
        exhaustive: bool = False,
        device: str = "cpu",
        threads: int | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        check_mode(mode)
        if filters:
            where_of(filters)
        self.index, self.filters, self.top_k = str(index), filters, _check_top_k(top_k)
        self.mode, self.exhaustive = mode, exhaustive
        self.device, self.threads = device, threads
        self.filter_policy = (
            filter_policy if isinstance(filter_policy, FilterPolicy) else FilterPolicy.from_str(filter_policy)
        )
        self._index: Index | None = None

    def warm_up(self) -> None:
        """Open the index and load its model; `run` does so too where nobody did."""
        if self._index is None:
            index = Index.open(self.index, device=self.device, threads=self.threads)
            if self.mode != "bm25":
                index.encoder.warmup()
            self._index = index

    def to_dict(self) -> dict[str, Any]:
        """The component as a dictionary."""
        return default_to_dict(
            self,
            index=self.index,
            filters=self.filters,
            top_k=self.top_k,
            mode=self.mode,
            exhaustive=self.exhaustive,
            device=self.device,
            threads=self.threads,
            filter_policy=self.filter_policy.value,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LateboltRetriever:
        """The component of a dictionary."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The best documents, best first.

        Args:
            filters: by the filter policy, instead of the component's own or beside them.
            top_k: instead of the component's own.
        Raises:
            ValueError: top_k is not above 0, or the query is empty.
            FilterError: a filter cannot be read.
        """
        wanted = apply_filter_policy(self.filter_policy, self.filters, filters)
        kept = self.top_k if top_k is None else _check_top_k(top_k)
        self.warm_up()
        assert self._index is not None
        where = where_of(wanted) if wanted else None
        hits = self._index.search(query, kept, where, self.exhaustive, self.mode)
        return {
            "documents": [
                Document(id=hit.id, content=hit.text, meta=dict(hit.metadata), score=hit.score)
                for hit in hits
            ]
        }

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run` on another thread."""
        return await asyncio.to_thread(self.run, query, filters, top_k)


def where_of(filters: dict[str, Any]) -> dict[str, Any]:
    """Haystack's filters as `Index.search` takes them.

    As in Haystack, a missing field is None: it is `!=` to any value and `not in` any list, and `== None`
    holds for it. Texts compare by code point, so dates should have one format.

    Raises:
        FilterError: a part is missing, an operator is unknown, or a field is neither "id" nor "meta.*".
    """
    for key in ("operator", "value") if "field" in filters else ("operator", "conditions"):
        if key not in filters:
            raise FilterError(f"'{key}' key missing in {filters}")
    operator = filters["operator"]
    if "field" in filters:
        if operator not in _COMPARISONS:
            raise FilterError(
                f"Unknown comparison operator '{operator}'. Valid operators are: {sorted(_COMPARISONS)}"
            )
        return _COMPARISONS[operator](_field(filters["field"]), _plain(filters["value"], filters))
    parts = [where_of(part) for part in filters["conditions"]]
    if operator == "NOT":
        return {"not": {"and": parts}}
    if operator not in ("AND", "OR"):
        raise FilterError(f"Unknown logical operator '{operator}'. Valid operators are: AND, NOT, OR")
    return {operator.lower(): parts}


def _field(name: str) -> str:
    if name == "id":
        return name
    if name in ("content", "blob", "score", "embedding", "sparse_embedding") or name == "meta":
        raise FilterError(f'Field "{name}" cannot be filtered by. Use "id" or a member of meta, "meta.name".')
    return name.removeprefix("meta.")


def _plain(value: Any, part: dict[str, Any]) -> Any:
    listed = part["operator"] in ("in", "not in")
    if listed != isinstance(value, list):
        raise FilterError(f"Filter value must {'' if listed else 'not '}be a `list` in {part}")
    if listed:
        return [each.isoformat() if isinstance(each, datetime) else each for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _equal(field: str, value: Any) -> dict[str, Any]:
    return {"or": [{field: {"exists": False}}, {field: None}]} if value is None else {field: {"=": value}}


def _in(field: str, values: list[Any]) -> dict[str, Any]:
    return {"or": [_equal(field, value) for value in values]}


def _order(operator: str) -> Callable[[str, Any], dict[str, Any]]:
    def compare(field: str, value: Any) -> dict[str, Any]:
        return {"or": []} if value is None else {field: {operator: value}}  # nothing is above or below None

    return compare


_COMPARISONS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "==": _equal,
    "!=": lambda field, value: {"not": _equal(field, value)},
    ">": _order(">"),
    ">=": _order(">="),
    "<": _order("<"),
    "<=": _order("<="),
    "in": _in,
    "not in": lambda field, values: {"not": _in(field, values)},
}
