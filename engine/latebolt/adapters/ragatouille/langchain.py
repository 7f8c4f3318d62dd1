"""A LangChain retriever and a document compressor over a `RAGPretrainedModel`.

Source of the surface: ragatouille/integrations/_langchain.py of 0.0.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latebolt.adapters.settings import refuse_unknown, settings_of
from latebolt.errors import RuntimeUnavailable

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import BaseModel, ConfigDict, Field, model_validator
except ImportError as error:
    raise RuntimeUnavailable(
        "LangChain is not installed. Run \"pip install 'langchain-core>=0.3'\"."
    ) from error


class RAGatouilleLangChainRetriever(BaseRetriever):
    """Searches the model's index; `kwargs` go to `RAGPretrainedModel.search`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Any
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        return _refuse_unknown(cls, given, "search", "query")

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [
            Document(page_content=hit["content"], metadata=hit.get("document_metadata") or {})
            for hit in self.model.search(query, **self.kwargs)
        ]


class RAGatouilleLangChainCompressor(BaseDocumentCompressor):
    """Reranks documents and keeps the best k; `kwargs` go to `RAGPretrainedModel.rerank`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Any
    kwargs: dict[str, Any] = Field(default_factory=dict)
    k: int = 5

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        return _refuse_unknown(cls, given, "rerank", "query", "documents", "k")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None, **kwargs: Any
    ) -> list[Document]:
        """Copies of the best documents, best first, with their score in metadata["relevance_score"].

        Args:
            kwargs: `k`, for another number of them this time.
        """
        refuse_unknown(kwargs, ("k",), "compress_documents")
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        results = self.model.rerank(query=query, documents=texts, k=kwargs.get("k", self.k), **self.kwargs)
        kept = [(documents[result["result_index"]], result["score"]) for result in results]
        return [
            document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
            for document, score in kept
        ]


def _refuse_unknown(model: type[BaseModel], given: Any, method: str, *apart: str) -> Any:
    """Of the model's own settings, and of those for a method of a `RAGPretrainedModel`."""
    if isinstance(given, dict):
        refuse_unknown(given, model.model_fields, model.__name__)
        called = getattr(given.get("model"), method, None)
        if called is not None:
            refuse_unknown(given.get("kwargs") or {}, settings_of(called, *apart), f"{method}()")
    return given
