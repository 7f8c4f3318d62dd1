"""Documents encoded in memory, for `encode` and `search_encoded_docs`: no index, scores exact.

Scores never count padding: RAGatouille's in-memory search leaves out the mask of its documents, so that zeros
behind a short one raise every negative maximum to 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latebolt.arrays import Float32
from latebolt.errors import InvalidInput
from latebolt.scoring import maxsim
from latebolt.values import TokenVectors

Metadata = Mapping[str, Any] | None
Result = dict[str, Any]


class EncodedDocuments:
    """Texts, token vectors and metadata of the documents encoded so far."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._metadata: list[Metadata] = []
        self._parts: list[TokenVectors] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, texts: Sequence[str], vectors: TokenVectors, metadata: Sequence[Metadata] | None) -> None:
        """Append documents.

        Raises:
            InvalidInput: not one metadata dict a document.
        """
        if metadata is not None and len(metadata) != len(texts):
            raise InvalidInput(
                f"document_metadatas should have one entry a document, {len(texts)} in all, "
                f"got {len(metadata)}."
            )
        self._texts += texts
        self._metadata += [None] * len(texts) if metadata is None else metadata
        self._parts.append(vectors)

    def search(self, query: Float32, k: int, zero_index_ranks: bool = False) -> list[Result]:
        """The k best documents for a query's token vectors, as RAGatouille's dicts; ties by position.

        Where any document has metadata, every result has "document_metadata".
        """
        scores = np.concatenate([np.zeros(0, np.float32), *(maxsim(query, part) for part in self._parts)])
        noted = any(each is not None for each in self._metadata)
        results: list[Result] = []
        for place, i in enumerate(np.argsort(-scores, kind="stable")[:k].tolist()):
            result: Result = {
                "content": self._texts[i],
                "score": float(scores[i]),
                "rank": place if zero_index_ranks else place + 1,
                "result_index": i,
            }
            if noted:
                result["document_metadata"] = self._metadata[i]
            results.append(result)
        return results
