"""Which words and tokens of a text a query matched, and how well.

Works on anything that encodes queries and documents; keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from latebolt.arrays import Float32
from latebolt.hits import Span, TokenMatch, WordMatch, match_words
from latebolt.scoring import TextEncoder

# A match is a reason where it is at least so far on the way from the token's mean cosine with the text to 1.
# With starter that leaves out, beside common words, 12 % of the tokens of English questions, of which hardly
# one is in the text itself (benchmarks/reasons.py).
STANDS_OUT: Final = 0.4
SAME: Final = 0.9  # the same word is a reason, however alike all of a short text is


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
    nearest, mean = similarity.max(axis=1), similarity.mean(axis=1)
    telling = (nearest - mean >= STANDS_OUT * (1 - mean)) | (nearest >= SAME)
    return [
        TokenMatch(span, spans[column], float(similarity[row, column]), bool(telling[row]))
        for row, (span, column) in enumerate(zip(query_spans, best.tolist(), strict=True))
    ]


def align_tokens(encoder: TextEncoder, query: str, documents: Sequence[str]) -> list[list[TokenMatch]]:
    """For each document, `match_tokens` of the query with it."""
    return encoded_matches(
        encoder, (encoder.encode_queries([query])[0], encoder.spans(query, "query")), documents
    )


def encoded_matches(
    encoder: TextEncoder, query: tuple[Float32, list[Span]], documents: Sequence[str]
) -> list[list[TokenMatch]]:
    """`align_tokens` of a query of which vectors, float32 [n_query, dim], and spans are known."""
    if not documents:
        return []
    return [
        match_tokens(*query, vectors, encoder.spans(document, "document"))
        for document, vectors in zip(documents, encoder.encode_documents(documents), strict=True)
    ]


def align(encoder: TextEncoder, query: str, documents: Sequence[str]) -> list[list[WordMatch]]:
    """For each document, the word in it that each word of the query matched best, in query order.

    A word of several tokens reports its best one; markers are left out on both sides.
    """
    found = align_tokens(encoder, query, documents)
    return [match_words(query, document, m) for document, m in zip(documents, found, strict=True)]
