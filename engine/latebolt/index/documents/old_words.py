"""The rule by which segments of version 2 cut texts into words, for queries to them. Pure.

A mark that is no accent ended a word there, and so did a format character. Compacting an index writes its
words by today's rule, `words`.
"""

from __future__ import annotations

import re
import unicodedata

from latebolt.index.documents.words import with_pieces

# Vowel signs are marks and so no letters to \w; the dandas, U+0964 and U+0965, end a sentence.
_WORD = re.compile("(?:[^\\W_]|[\u0900-\u0963\u0966-\u0eff\u1000-\u109f\u1780-\u17ff])+")
_ACCENT = re.compile("[\u0300-\u036f]")


def old_words_of(text: str) -> list[str]:
    """The words of a text in order."""
    return with_pieces(_WORD.findall(_fold(text)))


def _fold(text: str) -> str:
    folded = text.casefold()
    if folded.isascii():
        return folded
    # Only the accents of European scripts go: a voiced kana or a Hangul syllable is composed again.
    return unicodedata.normalize("NFKC", _ACCENT.sub("", unicodedata.normalize("NFKD", folded)))
