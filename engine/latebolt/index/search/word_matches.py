"""Which words of each hit BM25 counted for a query: what `matches` is to late interaction. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from latebolt.hits import Span, TokenMatch
from latebolt.index.documents.words import word_spans

MOST_PLACES: Final = 100  # of a word in one text


def match_words_of(query: str, text: str, weights: Mapping[str, float]) -> list[TokenMatch]:
    """Each word of the query that the text has, with the places where it stands, in the query's order.

    Args:
        weights: word -> its share of what the query's rarest word weighs, in [0, 1]; see `bm25.word_weights`.
    Returns:
        Matches whose `similarity` is that share.
    """
    asked: dict[str, Span] = {}
    for word, span in word_spans(query):
        if word in weights:
            asked.setdefault(word, span)
    found: dict[str, list[TokenMatch]] = {word: [] for word in asked}
    places: Counter[str] = Counter()
    for word, span in word_spans(text):
        if word in asked and places[word] < MOST_PLACES:
            places[word] += 1
            found[word].append(TokenMatch(asked[word], span, weights[word]))
    return [match for matches in found.values() for match in matches]
