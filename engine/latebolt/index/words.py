"""Cuts texts into the words that BM25 counts, without knowing their language. Pure.

A word is a run of letters, digits and the vowel signs of Indic scripts, in any case, without accents. Scripts
that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, whose words carry
their particles, give every character and every pair of neighbours: SQLite's unicode61 takes a whole
sentence of them for one word, and its trigrams miss words of two characters. There is no stemming and no list
of stop words, which belong to one language each; benchmarks/hybrid.py shows what that costs English.
"""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]+"
)
# Vowel signs are marks and so no letters to \w; the dandas, U+0964 and U+0965, end a sentence.
_WORD = re.compile("(?:[^\\W_]|[\u0900-\u0963\u0966-\u0eff\u1000-\u109f\u1780-\u17ff])+")
_ACCENT = re.compile("[\u0300-\u036f]")


def words_of(text: str) -> list[str]:
    """The words of a text in order, as documents and queries are compared by."""
    words: list[str] = []
    for word in _WORD.findall(_fold(text)):
        if word.isascii() or not _UNSPACED.search(word):
            words.append(word)
        else:
            words += _pieces(word)
    return words


def _fold(text: str) -> str:
    folded = text.casefold()
    if folded.isascii():
        return folded
    # Only the accents of European scripts go: a voiced kana or a Hangul syllable is composed again.
    return unicodedata.normalize("NFKC", _ACCENT.sub("", unicodedata.normalize("NFKD", folded)))


def _pieces(word: str) -> list[str]:
    pieces: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(word):
        pieces += [word[end : run.start()]] if run.start() > end else []
        characters, end = run.group(), run.end()
        pieces += characters
        pieces += [characters[i : i + 2] for i in range(len(characters) - 1)]
    return pieces + ([word[end:]] if end < len(word) else [])
