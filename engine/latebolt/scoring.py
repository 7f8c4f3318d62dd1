"""MaxSim of a query with texts given on the spot, and ranking by it.

Works on anything that encodes queries and documents; keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latebolt import devices
from latebolt.arrays import Float32
from latebolt.checks import check_k, check_query, passage_text
from latebolt.confidence import Calibration
from latebolt.errors import InvalidInput
from latebolt.hits import Hit, Span
from latebolt.kernels import native
from latebolt.kernels.maxsim import maxsim_arrays
from latebolt.values import TokenVectors, as_matrix, as_token_vectors


class TextEncoder(Protocol):
    """What ranking and alignment need of an encoder."""

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors of queries."""

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors of documents."""

    def spans(self, text: str, kind: str) -> list[Span]:
        """Characters each vector stands for."""


def get_ready() -> None:
    """Load what the first scores of this process wait for, in a while in which nothing else happens."""
    native.get_ready()


def maxsim(
    query: npt.ArrayLike,
    documents: TokenVectors | Iterable[npt.ArrayLike],
    device: str | Sequence[str] = "cpu",
) -> Float32:
    """MaxSim of one query with every document.

    Args:
        query: float32 [n_query, dim], finite.
        documents: token vectors of the same width; `TokenVectors`, or one array [n_tokens, dim] a document.
        device: "cpu", or "cuda", "cuda:N": the vectors are copied to that GPU for the call, and sums are
            rounded in another order. Of several the first; "auto" is the CPU.
    Returns:
        float32 [n_documents], higher is better; 0 for a document without tokens.
    Raises:
        InvalidInput: the widths differ, a query value is NaN or infinite, one of the two is no vectors, or
            there are no such devices.
        RuntimeUnavailable: there is no such GPU, or not what it takes to use it.
        OutOfMemory: the device has too little.
    Source: equation 3 of Khattab and Zaharia, "ColBERT", SIGIR 2020.
    """
    matrix = as_matrix(query, "query")
    vectors = as_token_vectors(documents, "documents", matrix.shape[1])
    if device != "cpu" and (first := devices.parse(device)[0]).kind == "cuda":
        from latebolt.gpu.maxsim import maxsim_on

        return maxsim_on(first.number, matrix, vectors.values, vectors.offsets)
    return maxsim_arrays(matrix, vectors.values, vectors.offsets)


def rerank(
    encoder: TextEncoder,
    query: str,
    documents: Sequence[str | Mapping[str, Any]],
    k: int | None = None,
    calibration: Calibration | None = None,
) -> list[Hit[int]]:
    """The documents by MaxSim with the query, best first, ties by position; see `passage_text` for dicts.

    Args:
        calibration: of these vectors, for the hits' confidence; None for none.
    """
    if isinstance(documents, str | bytes | Mapping):
        kind = type(documents).__name__
        raise InvalidInput(f"documents should be a list, got one {kind}. Put it in a list.")
    texts = [passage_text(document, f"documents[{i}]") for i, document in enumerate(documents)]
    query = check_query(query)
    k = len(texts) if k is None else check_k(k)
    vectors = encoder.encode_documents(texts)
    matrix = encoder.encode_queries([query])[0]
    scores = maxsim(matrix, vectors)
    best = np.argsort(-scores, kind="stable")[:k]
    hits = [Hit(int(i), float(scores[i]), texts[i]) for i in best]
    if calibration is None:
        return hits
    return [hit.with_confidence(*calibration.of(hit.score, len(matrix))) for hit in hits]
