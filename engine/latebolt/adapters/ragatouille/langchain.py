"""A LangChain retriever and a document compressor over a `RAGPretrainedModel`.

Source of the surface: ragatouille/integrations/_langchain.py of 0.0.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latebolt.errors import RuntimeUnavailable

try:
    from langchain_core.callbacks.manager import CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field
except ImportError as error:
    raise RuntimeUnavailable(
        "LangChain is not installed. Run \"pip install 'langchain-core>=0.3'\"."
    ) from error


class RAGatouilleLangChainRetriever(BaseRetriever):
    """Searches the model's index; `kwargs` go to `RAGPretrainedModel.search`."""

    model: Any
    kwargs: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [
            Document(page_content=hit["content"], metadata=hit.get("document_metadata") or {})
            for hit in self.model.search(query, **self.kwargs)
        ]


class RAGatouilleLangChainCompressor(BaseDocumentCompressor):
    """Reranks documents and keeps the best k; `kwargs` go to `RAGPretrainedModel.rerank`."""

    model: Any
    kwargs: dict[str, Any] = Field(default_factory=dict)
    k: int = 5

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None, **kwargs: Any
    ) -> list[Document]:
        """Copies of the best documents, best first, with their score in metadata["relevance_score"].

        Args:
            kwargs: `k`, for another number of them this time.
        """
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        results = self.model.rerank(query=query, documents=texts, k=kwargs.get("k", self.k), **self.kwargs)
        kept = [(documents[result["result_index"]], result["score"]) for result in results]
        return [
            document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
            for document, score in kept
        ]
