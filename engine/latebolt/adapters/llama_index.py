"""LlamaIndex: a retriever over an index, and a node postprocessor that reranks.

The surfaces are those of llama-index-core 0.14: `BaseRetriever` (sync and async, query engines, recursive
retrieval), `MetadataFilters`, and `BaseNodePostprocessor` with the members of `SentenceTransformerRerank`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latebolt.adapters.opened import encoder_of, index_for, index_of
from latebolt.adapters.settings import refuse_unknown, settings_of
from latebolt.checks import check_k
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.hits import Hit
from latebolt.index.index import Index
from latebolt.index.search.fusion import Mode, check_mode

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
    from llama_index.core.vector_stores.types import (
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise RuntimeUnavailable(
        'llama-index-core is not installed. Run "pip install llama-index-core".'
    ) from error

_COMPARISONS = {
    FilterOperator.EQ: "=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.IN: "in",
    FilterOperator.ANY: "in",
    FilterOperator.CONTAINS: "=",  # a list stands for each of its elements
}


class LateboltRetriever(BaseRetriever):
    """The nodes of an index for a query, best first, with their scores.

    Nodes that `from_nodes` or `add_nodes` put in come back whole, with their relationships; documents that
    were added otherwise come back as `TextNode`s with their id, text and metadata.

    Args:
        index: an `Index`, or the folder of one.
        similarity_top_k: nodes wanted.
        filters: LlamaIndex's `MetadataFilters`, nested ones too, or a filter of `Index.search`.
        mode: "late", "bm25" or "hybrid".
        exhaustive: score every document exactly.
        base: keyword arguments of LlamaIndex's `BaseRetriever`: `callback_manager`, `object_map`, `objects`,
            `verbose`.
    """

    def __init__(
        self,
        index: Index | str | Path,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        filters: MetadataFilters | str | Mapping[str, Any] | None = None,
        mode: Mode = "late",
        exhaustive: bool = False,
        **base: Any,
    ) -> None:
        refuse_unknown(base, settings_of(BaseRetriever.__init__), type(self).__name__)
        super().__init__(**base)
        check_mode(mode)
        self.index, self.mode, self.exhaustive = index_of(index), mode, exhaustive
        self.similarity_top_k = check_k(similarity_top_k, "similarity_top_k")
        self.filters = filters

    @classmethod
    def from_nodes(
        cls,
        nodes: Sequence[BaseNode],
        index: Index | str | Path,
        model: Encoder | str | Path = "starter",
        bits: int = 2,
        pool_factor: int = 1,
        max_vectors: int | None = None,
        **settings: Any,
    ) -> LateboltRetriever:
        """Put nodes into a new index in a folder, or add them to one, and retrieve from it.

        Args:
            nodes: see `add_nodes`.
            index: an `Index`, or the folder that one is made in, which is new or empty.
            model, bits, pool_factor, max_vectors: of an index that is made, see `Index.create`.
            settings: of the retriever.
        Raises:
            IndexExists: there is an index in the folder; open it with `LateboltRetriever(folder)`.
        """
        known = settings_of(cls.__init__, "index", "base") + settings_of(BaseRetriever.__init__)
        refuse_unknown(settings, known, cls.__name__)
        retriever = cls(index_for(index, model, bits, pool_factor, max_vectors), **settings)
        retriever.add_nodes(nodes)
        return retriever

    def add_nodes(self, nodes: Sequence[BaseNode]) -> list[str]:
        """Add nodes in one commit; gives their ids. A node whose id is in the index already is replaced.

        The model reads a node's text, without its metadata.
        """
        return self.index.add(
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes],
            ids=[node.node_id for node in nodes],
            metadata=[node_to_metadata_dict(node, remove_text=True) for node in nodes],
        )

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        where = where_of(self.filters) if isinstance(self.filters, MetadataFilters) else self.filters
        hits = self.index.search(
            query_bundle.query_str, self.similarity_top_k, where, self.exhaustive, self.mode
        )
        return [NodeWithScore(node=_node_of(hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node_of(hit: Hit) -> BaseNode:
    metadata = dict(hit.metadata)
    if "_node_content" in metadata:
        return metadata_dict_to_node(metadata, text=hit.text or "")
    return TextNode(id_=hit.id, text=hit.text or "", metadata=metadata)


def where_of(filters: MetadataFilters) -> dict[str, Any]:
    """LlamaIndex's filters as `Index.search` takes them, nested ones too.

    As in LlamaIndex's own store, != and nin hold for a node without the key, and a condition NOT holds when
    none of its filters does.

    Raises:
        InvalidInput: a part of a text is asked for (text_match), which `mode="bm25"` is for.
    """
    parts = [
        where_of(part) if isinstance(part, MetadataFilters) else _where_of_one(part)
        for part in filters.filters
    ]
    if filters.condition == FilterCondition.OR:
        return {"or": parts} if parts else {}  # without a filter, everything passes
    if filters.condition == FilterCondition.NOT:
        return {"not": {"or": parts}} if parts else {}
    return {"and": parts}


def _where_of_one(part: MetadataFilter) -> dict[str, Any]:
    key, value = part.key, part.value
    if part.operator in _COMPARISONS:
        return {key: {_COMPARISONS[part.operator]: value}}
    if part.operator == FilterOperator.NE:
        return {"not": {key: {"=": value}}}
    if part.operator == FilterOperator.NIN:
        return {"not": {key: {"in": value}}}
    if part.operator == FilterOperator.ALL:
        return {"and": [{key: {"=": each}} for each in _listed(part)]}
    if part.operator == FilterOperator.IS_EMPTY:
        return {"or": [{key: {"exists": False}}, {key: {"in": [None, ""]}}]}
    raise InvalidInput(
        f"the filter on {key!r} asks for {part.operator.value}, which compares parts of texts. "
        'Search the words with mode="bm25" or "hybrid" instead.'
    )


def _listed(part: MetadataFilter) -> list[Any]:
    if not isinstance(part.value, list):
        raise InvalidInput(
            f"the filter on {part.key!r} asks for {part.operator.value}, whose value should be a list, "
            f"got {part.value!r}."
        )
    return list(part.value)


class LateboltRerank(BaseNodePostprocessor):
    """Reranks the nodes that a retriever found, by late interaction. Nothing leaves the machine.

    The model reads a node's text with its metadata, as LlamaIndex's rerankers do (`MetadataMode.EMBED`).

    Args:
        top_n: nodes kept.
        model: an `Encoder`, or the name of a model.
        keep_retrieval_score: write the retriever's score to `metadata["retrieval_score"]`.
    """

    model: str = Field(description="Name of the late-interaction model.")
    top_n: int = Field(description="Number of nodes to return sorted by score.")
    keep_retrieval_score: bool = Field(
        default=False, description="Whether to keep the retrieval score in metadata."
    )
    _encoder: Encoder = PrivateAttr()

    def __init__(
        self,
        top_n: int = 2,
        model: Encoder | str | Path = "starter",
        keep_retrieval_score: bool = False,
        **base: Any,
    ) -> None:
        refuse_unknown(base, type(self).model_fields, type(self).__name__)
        encoder = encoder_of(model)
        fields: dict[str, Any] = {
            "model": encoder.model,
            "top_n": check_k(top_n, "top_n"),
            "keep_retrieval_score": keep_retrieval_score,
        }
        super().__init__(**fields, **base)
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex serialises it under."""
        return "LateboltRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("Missing query bundle in extra info.")  # as LlamaIndex's own say it
        if not nodes:
            return []
        query = query_bundle.query_str
        asked: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=asked) as event:
            texts = [found.node.get_content(metadata_mode=MetadataMode.EMBED) for found in nodes]
            hits = self._encoder.rerank(query, texts, self.top_n)
            best = [self._scored(nodes[hit.id], hit.score) for hit in hits]
            event.on_end(payload={EventPayload.NODES: best})
        return best

    def _scored(self, found: NodeWithScore, score: float) -> NodeWithScore:
        if self.keep_retrieval_score:
            found.node.metadata["retrieval_score"] = found.score
        return NodeWithScore(node=found.node, score=score)
