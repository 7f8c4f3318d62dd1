"""The `rerankers` package: a ranker of its `BaseRanker`, and a `Reranker` that loads one.

The surface is that of rerankers 0.10: what `ColBERTRanker` has, `RankedResults` out, best first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latebolt.adapters.opened import encoder_of
from latebolt.adapters.settings import refuse_unknown, settings_of
from latebolt.checks import passage_text
from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput, RuntimeUnavailable

try:
    from rerankers.documents import Document
    from rerankers.models.ranker import BaseRanker
    from rerankers.results import RankedResults, Result
    from rerankers.utils import prep_docs
except ImportError as error:
    raise RuntimeUnavailable('rerankers is not installed. Run "pip install rerankers".') from error


class LateboltRanker(BaseRanker):
    """Ranks documents by late interaction.

    Args:
        model_name_or_path: "starter", an exported folder, a hub id, or an `Encoder`.
        verbose: as `BaseRanker` has it; nothing is printed.
        device, precision, dim, threads: see `Encoder.load`; an `Encoder` has its own.
    """

    def __init__(
        self,
        model_name_or_path: Encoder | str | Path = "starter",
        verbose: int = 1,
        device: str = "cpu",
        precision: str | None = None,
        dim: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.verbose = verbose
        self.model = (
            Encoder.load(model_name_or_path, precision, dim, device, threads)
            if isinstance(model_name_or_path, str | Path)
            else encoder_of(model_name_or_path)
        )

    def rank(
        self,
        query: str,
        docs: str | list[str] | Document | list[Document] | list[dict[str, Any]],
        doc_ids: list[str] | list[int] | None = None,
        metadata: list[dict[str, Any]] | None = None,
    ) -> RankedResults:
        """All documents, best first, with scores and with ranks from 1.

        Args:
            doc_ids: one a document; positions by default.
            metadata: one dict a document.
        Raises:
            InvalidInput: an empty query, a document without text, or lists of other lengths.
        """
        n = 1 if isinstance(docs, str | Document) else len(docs)
        for name, given in (("doc_ids", doc_ids), ("metadata", metadata)):
            if given is not None and len(given) != n:
                raise InvalidInput(f"{name} should have one entry a document, {n}, got {len(given)}.")
        if n == 0:
            return RankedResults(results=[], query=query, has_scores=True)
        if isinstance(docs, list):
            docs = [
                passage_text(doc, f"docs[{i}]") if isinstance(doc, dict) else doc
                for i, doc in enumerate(docs)
            ]
        documents = prep_docs(docs, doc_ids)
        for document, members in zip(documents, metadata or (), strict=False):
            document.metadata = members
        for position, document in enumerate(documents):
            if document.text is None:
                raise InvalidInput(
                    f"docs[{position}] is of type {document.document_type} and has no text to read."
                )
        hits = self.model.rerank(query, [document.text for document in documents])
        results = [Result(documents[hit.id], hit.score, rank) for rank, hit in enumerate(hits, start=1)]
        return RankedResults(results=results, query=query, has_scores=True)

    def score(self, query: str, doc: str) -> float:
        """MaxSim of a query with one text."""
        return self.model.rerank(query, [doc])[0].score

    def as_langchain_compressor(self, k: int = 10) -> Any:
        """The model as a LangChain compressor that keeps k documents: `LateboltRerank`."""
        from latebolt.adapters.langchain import LateboltRerank

        return LateboltRerank(model=self.model, top_n=k)


def Reranker(  # noqa: N802 - the name of what it takes the place of
    model_name: str = "starter",
    lang: str = "en",
    model_type: str | None = None,
    verbose: int = 1,
    **settings: Any,
) -> LateboltRanker:
    """`rerankers.Reranker` for late-interaction models: the import is all that changes.

    Args:
        model_name: "starter", an exported folder, or a hub id.
        lang: has no effect: a model reads the languages that it reads.
        model_type: "colbert", "ColBERTRanker" or None.
        settings: of `LateboltRanker`.
    Raises:
        InvalidInput: another type of model.
    """
    if model_type is not None and model_type.lower() not in ("colbert", "colbertranker", "latebolt"):
        raise InvalidInput(
            f'model_type should be "colbert" here, got "{model_type}". Load others by rerankers.Reranker.'
        )
    refuse_unknown(
        settings, settings_of(LateboltRanker.__init__, "model_name_or_path", "verbose"), "Reranker"
    )
    return LateboltRanker(model_name, verbose=verbose, **settings)
