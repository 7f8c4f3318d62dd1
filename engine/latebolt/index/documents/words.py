"""Cuts texts into the words that BM25 counts, without knowing their language. Pure.

A word is a run of letters and digits with the marks on them. Texts are folded first, Unicode's NFKC with case
folding and then some, so that spellings which readers take for one word are one:

- Format characters vanish and never end a word: soft hyphen, zero-width space, joiners, word joiner, marks of
  direction, variation selectors, and the tatweel that stretches Arabic lines.
- Marks that may be left out go: accents on Latin, Greek and Cyrillic letters (not on й, ў and ї, which are
  letters of their own), the vowels of Arabic, Hebrew and Syriac. Vowel signs, viramas and tones of Indic,
  Tibetan and southeast Asian scripts stay, for without them other words would be left.
- Letters with several codes or plain forms are one: ø and o, ı and i, ß and ss; as in Lucene's normalizers
  the forms of alef, yeh, kaf and heh, and in Devanagari the nukta, chandrabindu and nasals before their stops
  (हिन्दी, हिंदी); Malayalam chillus and the Bengali khanda ta as a letter with virama; digits of every script.

What needs the language is left alone: ue for ü, apostrophes, inflection. There is no stemming and no list of
stop words; benchmarks/hybrid.py shows what that costs English. Scripts that are written without spaces
(Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, whose words carry their particles, give every
character and every pair of neighbours: SQLite's unicode61 takes a whole sentence of them for one word, and
its trigrams miss words of two characters.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]+"
)

# In decomposed text. Of Cyrillic breve and diaeresis stay on the letters that they make another letter of.
_ACCENTS: Final = "\u0300-\u0305\u0307\u0309-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_FORMATS: Final = (
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
)
_TATWEEL: Final = "\u0640\u07fa"
# Vowels and points of Hebrew, Arabic and Syriac; Arabic's madda and hamza (0653 to 0655) stay but on alef.
_POINTS: Final = (
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0898-\u089f\u08ca-\u08e1\u08e3-\u08ff\ufb1e"
)
_NUKTA: Final = "\u093c"
_DROPPED: Final = re.compile(f"[{_ACCENTS}{_FORMATS}{_TATWEEL}{_POINTS}{_NUKTA}]")
# Apart, since one character beyond the first 65,536 makes every look into a class a walk through its ranges.
_BEYOND: Final = re.compile("[\U00010000-\U0010ffff]")
_FORMATS_BEYOND: Final = (
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_DROPPED_BEYOND: Final = re.compile(f"[{_FORMATS_BEYOND}]")
_ALEF: Final = re.compile("\u0627[\u0653-\u0655]+")
_NASAL: Final = re.compile(
    "\u0919\u094d(?=[\u0915-\u0918])|\u091e\u094d(?=[\u091a-\u091d])|\u0923\u094d(?=[\u091f-\u0922])"
    "|\u0928\u094d(?=[\u0924-\u0927])|\u092e\u094d(?=[\u092a-\u092d])"
)
_ANUSVARA: Final = "\u0902"

_ZEROS: Final = (
    "\u0660\u06f0\u07c0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0de6\u0e50\u0ed0\u0f20\u1040\u1090"
    "\u17e0\u1810\u1946\u19d0\u1a80\u1a90\u1b50\u1bb0\u1c40\u1c50\ua620\ua8d0\ua900\ua9d0\ua9f0\uaa50\uabf0"
)
_SPELLED: Final = {
    **dict(zip("øłđðħŧı", "olddhti", strict=True)),
    **{"æ": "ae", "œ": "oe", "þ": "th"},
    # Alef wasla; teh marbuta, heh goal; alef maksura, Farsi yeh; keheh.
    **dict(zip("\u0671\u0629\u06c1\u0649\u06cc\u06a9", "\u0627\u0647\u0647\u064a\u064a\u0643", strict=True)),
    "\u0901": _ANUSVARA,
    "\u09ce": "\u09a4\u09cd",
    **{
        chillu: letter + "\u0d4d"
        for chillu, letter in zip(
            "\u0d7a\u0d7b\u0d7c\u0d7d\u0d7e\u0d7f", "\u0d23\u0d28\u0d30\u0d32\u0d33\u0d15", strict=True
        )
    },
    **{chr(ord(zero) + digit): str(digit) for zero in _ZEROS for digit in range(10)},
}
_SPELLED_OTHERWISE: Final = re.compile(f"[{''.join(_SPELLED)}]")
# Where Unicode has marks, for Python's regular expressions know no such class; and where it has them beyond
# the first 65,536 characters too, which few texts need.
_MARK_BLOCKS: Final = [
    range(0x300, 0x2000),
    range(0x20D0, 0x2E00),
    range(0x302A, 0x309B),
    range(0xA66F, 0xAC00),
]
_MARK_BLOCKS_BEYOND: Final = [*_MARK_BLOCKS, range(0x10000, 0x1F000)]


def words_of(text: str) -> list[str]:
    """The words of a text in order, as documents and queries are compared by."""
    folded = fold(text)
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    return with_pieces(_word(_BEYOND.search(folded) is not None).findall(folded))


def word_spans(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """The words of a text, as `words_of` gives them, each with the characters [start, end) that it stands
    at."""
    for run in _unfolded_word().finditer(text):
        piece, start, end = run.group(), run.start(), 0
        if piece.isascii():
            yield piece.lower(), run.span()
            continue
        for unspaced in _UNSPACED.finditer(piece):
            for word in words_of(piece[end : unspaced.start()]):
                yield word, (start + end, start + unspaced.start())
            end = unspaced.end()
            characters = [fold(each) for each in unspaced.group()]
            for i, each in enumerate(characters, start + unspaced.start()):
                yield each, (i, i + 1)
            for i, pair in enumerate(itertools.pairwise(characters), start + unspaced.start()):
                yield "".join(pair), (i, i + 2)
        for word in words_of(piece[end:]):
            yield word, (start + end, run.end())


def is_character(word: str) -> bool:
    """Whether a word is one character of a script that is written without spaces."""
    return len(word) == 1 and _UNSPACED.fullmatch(word) is not None


def fold(text: str) -> str:
    """A text in the spelling that all spellings of its words share."""
    if text.isascii():
        return text.lower()
    folded = _DROPPED.sub("", unicodedata.normalize("NFKD", text).casefold())
    if _BEYOND.search(folded):
        folded = _DROPPED_BEYOND.sub("", folded)
    # Looked for first, which is quicker by far than a regular expression that finds nothing.
    if "\u0306" in folded:
        folded = folded.replace("\u0438\u0306", "й").replace("\u0443\u0306", "ў").replace("\u0306", "")
    if "\u0308" in folded:
        folded = folded.replace("\u0456\u0308", "ї").replace("\u0308", "")
    if folded.isascii():
        return folded
    if "\u0627" in folded:
        folded = _ALEF.sub("\u0627", folded)
    if "\u094d" in folded:
        folded = _NASAL.sub(_ANUSVARA, folded)
    folded = _SPELLED_OTHERWISE.sub(lambda found: _SPELLED[found[0]], folded)
    # A voiced kana or a Hangul syllable is composed again.
    return unicodedata.normalize("NFKC", folded)


def with_pieces(words: Iterable[str]) -> list[str]:
    """Words, of which those in scripts without spaces are given by characters and pairs of characters."""
    found: list[str] = []
    for word in words:
        if word.isascii() or not _UNSPACED.search(word):
            found.append(word)
        else:
            found += _pieces(word)
    return found


@functools.cache
def _word(beyond: bool) -> re.Pattern[str]:
    return re.compile(f"[^\\W_]+(?:[{_marks(beyond)}]+[^\\W_]*)*")


@functools.cache
def _unfolded_word() -> re.Pattern[str]:
    return re.compile(f"[^\\W_](?:[^\\W_]|[{_marks(beyond=True)}{_FORMATS}{_FORMATS_BEYOND}])*")


def _marks(beyond: bool) -> str:
    blocks = _MARK_BLOCKS_BEYOND if beyond else _MARK_BLOCKS
    characters = map(chr, itertools.chain(*blocks))
    return "".join(each for each in characters if unicodedata.category(each).startswith("M"))


def _pieces(word: str) -> list[str]:
    pieces: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(word):
        pieces += [word[end : run.start()]] if run.start() > end else []
        characters, end = run.group(), run.end()
        pieces += characters
        pieces += [characters[i : i + 2] for i in range(len(characters) - 1)]
    return pieces + ([word[end:]] if end < len(word) else [])
