"""Which words of a query stand in so many texts of an index that matching them is no reason. Pure.

Measured instead of listed, so that it holds in every language and for every collection. Of the tokens of
English questions (squad, 400 passages) two thirds of the function words stand in a fifth of the passages or
more, and 3 % of others. A single character says less than a word, so that of scripts without spaces it has
to stand in half of the passages: 85 % of Japanese function words are common by that (jsquad), 66 % of
Chinese ones (drcd), and 8 and 10 % of other tokens (benchmarks/reasons.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from latebolt.hits import TokenMatch
from latebolt.index.documents.words import is_character, word_spans

COMMON, COMMON_CHARACTER = 0.2, 0.5  # of the texts
LEAST_TEXTS: Final = 50  # in fewer, a word of what they are all about looks the same


def without_common(
    query: str, matches: Sequence[TokenMatch], shares: Mapping[str, float]
) -> list[TokenMatch]:
    """The matches, of which those of tokens that are nothing but common words are not telling.

    Args:
        shares: word -> the share of the texts that hold it; see `bm25.word_shares`.
    """
    words = [(span, _is_common(word, shares.get(word, 0.0))) for word, span in word_spans(query)]
    found = []
    for match in matches:
        start, end = match.query
        # In scripts without spaces a token may be several words, and pairs of characters reach over its ends.
        inside = [common for (first, last), common in words if start <= first and last <= end]
        around = [common for (first, last), common in words if first <= start and end <= last]
        is_common = start < end and bool(inside or around) and all(inside or around)
        found.append(match._replace(telling=False) if is_common else match)
    return found


def _is_common(word: str, share: float) -> bool:
    return share >= (COMMON_CHARACTER if is_character(word) else COMMON)
