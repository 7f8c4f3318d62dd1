"""LangChain: a retriever over an index, and a document compressor that reranks.

The surfaces are those of langchain-core 1.8: `BaseRetriever` (sync and async, `invoke`, `batch`, chains) and
`BaseDocumentCompressor`, here with the members of langchain-community's `JinaRerank`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from latebolt.adapters.opened import encoder_of, index_for, index_of
from latebolt.adapters.settings import refuse_unknown
from latebolt.checks import check_k, passage_text
from latebolt.encoder.encoder import Encoder
from latebolt.errors import RuntimeUnavailable
from latebolt.index.index import Index
from latebolt.index.search.fusion import Mode

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import run_in_executor
    from pydantic import BaseModel, ConfigDict, Field, SkipValidation, field_validator, model_validator
except ImportError as error:
    raise RuntimeUnavailable('langchain-core is not installed. Run "pip install langchain-core".') from error

_OF_A_SEARCH = ("k", "where", "mode", "exhaustive")
SCORE = "relevance_score"  # the member of a document's metadata that LangChain's rerankers write


class LateboltRetriever(BaseRetriever):
    """The documents of an index for a query, best first.

    A document has the hit's text, id and metadata, and its score as `metadata["relevance_score"]`.

    Args:
        index: an `Index`, or the folder of one.
        k: documents wanted.
        where: only documents whose metadata satisfy it; see `Index.search`.
        mode: "late", "bm25" or "hybrid".
        exhaustive: score every document exactly.
    The four settings can also be given with a call: `retriever.invoke("query", k=3, where="year > 2000")`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: SkipValidation[Index]
    k: int = 10
    where: str | dict[str, Any] | None = None
    mode: Mode = "late"
    exhaustive: bool = False

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        return _refuse_unknown(cls, given)

    @field_validator("index", mode="before")
    @classmethod
    def _open(cls, index: Any) -> Index:
        return index_of(index)

    @field_validator("k")
    @classmethod
    def _at_least_one(cls, k: int) -> int:
        return check_k(k)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        index: Index | str | Path,
        model: Encoder | str | Path = "starter",
        bits: int = 2,
        pool_factor: int = 1,
        max_vectors: int | None = None,
        **settings: Any,
    ) -> LateboltRetriever:
        """Put documents into a new index in a folder, or add them to one, and retrieve from it.

        Args:
            documents: see `add_documents`.
            index: an `Index`, or the folder that one is made in, which is new or empty.
            model, bits, pool_factor, max_vectors: of an index that is made, see `Index.create`.
            settings: `k`, `where`, `mode`, `exhaustive` of the retriever.
        Raises:
            IndexExists: there is an index in the folder; open it with `LateboltRetriever(index=...)`.
        """
        refuse_unknown(settings, cls.model_fields, cls.__name__)
        retriever = cls(index=index_for(index, model, bits, pool_factor, max_vectors), **settings)
        retriever.add_documents(documents)
        return retriever

    def add_documents(self, documents: Iterable[Document]) -> list[str]:
        """Add documents in one commit; gives their ids. One whose id is in the index already is replaced.

        Documents without an id get free numbers, but only if none of them has one.
        """
        given = list(documents)
        named = any(document.id is not None for document in given)
        return self.index.add(
            [document.page_content for document in given],
            ids=[document.id for document in given] if named else None,  # type: ignore[misc]
            metadata=[document.metadata for document in given],
        )

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **settings: Any
    ) -> list[Document]:
        settings.pop("verbose", None)  # LangChain reads it, and hands it on
        refuse_unknown(settings, _OF_A_SEARCH, type(self).__name__)
        asked = {name: getattr(self, name) for name in _OF_A_SEARCH} | settings
        return [
            Document(hit.text or "", id=hit.id, metadata={**hit.metadata, SCORE: hit.score})
            for hit in self.index.search(query, **asked)
        ]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **settings: Any
    ) -> list[Document]:
        search = partial(self._get_relevant_documents, query, run_manager=run_manager.get_sync(), **settings)
        return await run_in_executor(None, search)


class LateboltRerank(BaseDocumentCompressor):
    """Reranks documents that another retriever found, by late interaction.

    Takes the place of `JinaRerank`, `FlashrankRerank` or `CrossEncoderReranker` in a
    `ContextualCompressionRetriever`. Nothing leaves the machine.

    Args:
        model: an `Encoder`, or the name of a model.
        top_n: documents kept; None keeps all.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: SkipValidation[Encoder] = Field(default="starter", validate_default=True)
    top_n: int | None = 3

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        return _refuse_unknown(cls, given)

    @field_validator("model", mode="before")
    @classmethod
    def _load(cls, model: Any) -> Encoder:
        return encoder_of(model)

    @field_validator("top_n")
    @classmethod
    def _at_least_one(cls, top_n: int | None) -> int | None:
        return None if top_n is None else check_k(top_n, "top_n")

    def rerank(
        self,
        documents: Sequence[str | Document | dict[str, Any]],
        query: str,
        *,
        top_n: int | None = -1,
    ) -> list[dict[str, Any]]:
        """Positions and scores, best first, as `JinaRerank.rerank` gives them.

        Args:
            documents: texts, documents, or dicts with a "text" or "content".
            top_n: -1 for the compressor's own, None for all.
        Returns:
            One {"index": int, "relevance_score": float} a document kept.
        """
        if not documents:
            return []
        texts = [
            document.page_content
            if isinstance(document, Document)
            else passage_text(document, f"documents[{i}]")
            for i, document in enumerate(documents)
        ]
        kept = self.top_n if top_n == -1 else top_n
        return [{"index": hit.id, SCORE: hit.score} for hit in self.model.rerank(query, texts, kept)]

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Copies of the best documents, best first, with `metadata["relevance_score"]`."""
        return [
            (document := documents[found["index"]]).model_copy(
                update={"metadata": {**document.metadata, SCORE: found[SCORE]}}
            )
            for found in self.rerank(documents, query)
        ]


def _refuse_unknown(model: type[BaseModel], given: Any) -> Any:
    if isinstance(given, dict):
        refuse_unknown(given, model.model_fields, model.__name__)
    return given
