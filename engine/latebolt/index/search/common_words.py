"""Which words of a query stand in so many texts of an index that matching them is no reason. Pure.

Measured instead of listed, so that it holds in every language and for every collection: of the tokens of
English questions about 400 passages (squad), two thirds of the function words stand in a fifth of the
passages or more, and 3 % of all others; of Japanese ones (jsquad) 86 %, and 17 % of the characters of others
(benchmarks/reasons.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from latebolt.hits import TokenMatch
from latebolt.index.documents.words import word_spans

COMMON: Final = 0.2  # of the texts
LEAST_TEXTS: Final = 50  # in fewer, a word of what they are all about looks the same


def without_common(
    query: str, matches: Sequence[TokenMatch], shares: Mapping[str, float]
) -> list[TokenMatch]:
    """The matches, of which those of tokens that are nothing but common words are not telling.

    Args:
        shares: word -> the share of the texts that hold it; see `bm25.word_shares`.
    """
    words = [(span, shares.get(word, 0.0)) for word, span in word_spans(query)]
    found = []
    for match in matches:
        start, end = match.query
        # In scripts without spaces a token may be several words, and pairs of characters reach over its ends.
        inside = [share for (first, last), share in words if start <= first and last <= end]
        around = [share for (first, last), share in words if first <= start and end <= last]
        is_common = min(inside or around, default=0.0) >= COMMON
        found.append(match._replace(telling=False) if is_common else match)
    return found
