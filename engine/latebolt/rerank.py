"""Reranking and alignment: MaxSim of a query with texts given on the spot, and which words matched.

Works on anything that encodes queries and documents; keeps nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from latebolt.errors import InvalidInput
from latebolt.kernels.maxsim import maxsim_arrays
from latebolt.values import Hit, TokenVectors

Float32 = npt.NDArray[np.float32]
Span = tuple[int, int]

# A number with its separators, or letters with inner apostrophes and hyphens.
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’-]\w+)*")


class TextEncoder(Protocol):
    """What this module needs of an encoder."""

    threads: int

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors of queries."""

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors of documents."""

    def spans(self, text: str, kind: str) -> list[Span]:
        """Characters each vector stands for."""


class WordMatch(NamedTuple):
    """A query word, the document word its best token matched ("" for a marker), and the cosine of the two."""

    query_word: str
    document_word: str
    similarity: float


def maxsim(query: npt.ArrayLike, documents: TokenVectors) -> Float32:
    """MaxSim of one query with every document.

    Args:
        query: float32 [n_query, dim], finite.
        documents: token vectors of the same width.
    Returns:
        float32 [n_documents], higher is better; 0 for a document without tokens.
    Raises:
        InvalidInput: the widths differ, or a query value is NaN or infinite.
    Source: equation 3 of Khattab and Zaharia, "ColBERT", SIGIR 2020.
    """
    return maxsim_arrays(query, documents.values, documents.offsets)


def check_query(query: str) -> str:
    """The query itself.

    Raises:
        InvalidInput: it is not a str, or has no text in it.
    """
    if not isinstance(query, str):
        raise InvalidInput(f"the query should be str, got {type(query).__name__}.")
    if not query.strip():
        raise InvalidInput("the query is empty. Give it at least one word.")
    return query


def check_k(k: int, name: str = "k") -> int:
    """`k` itself.

    Raises:
        InvalidInput: it is not an int of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidInput(f"{name} should be an int of at least 1, got {k!r}.")
    return k


def rerank(encoder: TextEncoder, query: str, documents: Sequence[str], top_k: int | None = None) -> list[Hit]:
    """The documents by MaxSim with the query, best first, ties by position."""
    check_query(query)
    k = len(documents) if top_k is None else check_k(top_k, "top_k")
    vectors = encoder.encode_documents(documents)
    scores = maxsim(encoder.encode_queries([query])[0], vectors)
    best = np.argsort(-scores, kind="stable")[:k]
    return [Hit(int(i), float(scores[i]), documents[i]) for i in best]


def align(encoder: TextEncoder, query: str, documents: Sequence[str]) -> list[list[WordMatch]]:
    """For each document, the word in it that each word of the query matched best, in query order.

    A word of several tokens reports its best one; markers are left out on both sides.
    """
    query_vectors, query_spans = encoder.encode_queries([query])[0], encoder.spans(query, "query")
    return [
        _align(query, query_spans, document, encoder.spans(document, "document"), query_vectors @ vectors.T)
        for document, vectors in zip(documents, encoder.encode_documents(documents), strict=True)
    ]


def _align(
    query: str, query_spans: list[Span], document: str, document_spans: list[Span], similarity: Float32
) -> list[WordMatch]:
    matches: dict[Span, WordMatch] = {}
    for row, span in enumerate(query_spans):
        if span[0] == span[1]:
            continue
        column = int(similarity[row].argmax())
        word, found = _word_at(query, span), document_spans[column]
        target = document[slice(*_word_at(document, found))] if found[0] < found[1] else ""
        match = WordMatch(query[slice(*word)], target, float(similarity[row, column]))
        if word not in matches or matches[word].similarity < match.similarity:
            matches[word] = match
    return [matches[word] for word in sorted(matches)]


def _word_at(text: str, span: Span) -> Span:
    """The word around some characters; the characters themselves where there is no word."""
    for word in _WORD.finditer(text, max(0, span[0] - 60), span[1] + 60):
        if word.start() <= span[0] < word.end():
            return word.start(), word.end()
    return span
