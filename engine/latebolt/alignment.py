"""Which words and tokens of a text a query matched, and how well.

Works on anything that encodes queries and documents; keeps nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from latebolt.arrays import Float32
from latebolt.scoring import TextEncoder
from latebolt.values import Span

# A number with its separators, or letters with inner apostrophes and hyphens.
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’-]\w+)*")


class WordMatch(NamedTuple):
    """A query word, the document word its best token matched ("" for a marker), and the cosine of the two."""

    query_word: str
    document_word: str
    similarity: float


class TokenMatch(NamedTuple):
    """A token of the query, the document's token it matched best, both as characters [start, end), and the
    cosine of the two. Markers, which no character stands for, have (0, 0)."""

    query: Span
    document: Span
    similarity: float


def match_tokens(
    query: Float32, query_spans: list[Span], document: Float32, spans: list[Span]
) -> list[TokenMatch]:
    """The best match of each token of a query, markers included: their similarities sum up to MaxSim.

    Args:
        query: float32 [n_query, dim]; document: float32 [n_document, dim], both of unit length.
        query_spans, spans: the characters of each row, as `spans` of an encoder gives them.
    """
    if len(document) == 0:
        return []
    similarity = query @ document.T
    best = similarity.argmax(axis=1)
    return [
        TokenMatch(span, spans[column], float(similarity[row, column]))
        for row, (span, column) in enumerate(zip(query_spans, best.tolist(), strict=True))
    ]


def align_tokens(encoder: TextEncoder, query: str, documents: Sequence[str]) -> list[list[TokenMatch]]:
    """For each document, `match_tokens` of the query with it."""
    query_vectors, query_spans = encoder.encode_queries([query])[0], encoder.spans(query, "query")
    return [
        match_tokens(query_vectors, query_spans, vectors, encoder.spans(document, "document"))
        for document, vectors in zip(documents, encoder.encode_documents(documents), strict=True)
    ]


def align(encoder: TextEncoder, query: str, documents: Sequence[str]) -> list[list[WordMatch]]:
    """For each document, the word in it that each word of the query matched best, in query order.

    A word of several tokens reports its best one; markers are left out on both sides.
    """
    found = align_tokens(encoder, query, documents)
    return [match_words(query, document, m) for document, m in zip(documents, found, strict=True)]


def match_words(query: str, document: str, tokens: Sequence[TokenMatch]) -> list[WordMatch]:
    """The matches of words, from those of tokens; see `align`."""
    matches: dict[Span, WordMatch] = {}
    for token in tokens:
        if token.query[0] == token.query[1]:
            continue
        word, found = _word_at(query, token.query), token.document
        target = document[slice(*_word_at(document, found))] if found[0] < found[1] else ""
        match = WordMatch(query[slice(*word)], target, token.similarity)
        if word not in matches or matches[word].similarity < match.similarity:
            matches[word] = match
    return [matches[word] for word in sorted(matches)]


def _word_at(text: str, span: Span) -> Span:
    """The word around some characters; the characters themselves where there is no word."""
    for word in _WORD.finditer(text, max(0, span[0] - 60), span[1] + 60):
        if word.start() <= span[0] < word.end():
            return word.start(), word.end()
    return span
