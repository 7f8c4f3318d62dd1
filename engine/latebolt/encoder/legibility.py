"""Whether a model can read the script of texts: counts letters for which its tokenizer has no words.

A letter is unread where its token is the unknown one, or where a longer word is cut into single characters.
Characters that are a syllable or a word each (those of Chinese, Japanese and Korean) are read with a token of
their own, unless the vocabulary knows only a few of them. Knows nothing of contracts and graphs.
"""

from __future__ import annotations

import functools
import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tokenizers import Encoding, Tokenizer

from latebolt.encoder.tally import Letters, current

logger = logging.getLogger("latebolt")

MULTILINGUAL: Final = "multilingual"  # the built-in model to go to

# What is looked at, so that it takes less than a hundredth of encoding: some characters in so many of a text,
# with the words that they cut through, and of many texts only some.
_CHARACTERS: Final = 20
_EVERY: Final = 64
_WORD: Final = 16
_MOST_OF_A_TEXT: Final = 4
_FEW_TEXTS: Final = 6
_ONE_TEXT_IN: Final = 6
_MOST_TEXTS: Final = 64
_MOST_PARTS: Final = 64

_ENGLISH: Final = "everyone has the right to freedom of thought and the people of every country know them"
# One ideograph in so many of Unicode's first block, with spaces between. Of these an English vocabulary has
# 2 %, one of Chinese or Japanese characters 15 % and more.
_IDEOGRAPHS: Final = " ".join(chr(code) for code in range(0x4E00, 0x9FFF, 29))
_FIRST_SYLLABLE: Final = "\u1200"
# Ethiopic, Chinese, Japanese, Korean.
_SYLLABLE_OR_WORD: Final = re.compile(
    "[\u1200-\u139f\u2d80-\u2ddf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uab01-\uab2f\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)

_BEGINNING: Final = re.compile(r"\S*\Z")
_REST: Final = re.compile(r"\S*")

# What is known of a character by the tokens that hold it.
_NOTHING, _TOGETHER, _ALONE, _SPLIT, _UNKNOWN, _LEFT_OUT = range(6)


def sampled(texts: Sequence[str]) -> list[str]:
    """Short parts of some texts, evenly drawn."""
    n = min(len(texts), max(_FEW_TEXTS, min(_MOST_TEXTS, len(texts) // _ONE_TEXT_IN)))
    parts = []
    for i in _spread(n, len(texts)):
        text = texts[i]
        n_parts = max(1, min(len(text) // _EVERY, _MOST_OF_A_TEXT, _MOST_PARTS // n))
        parts += [_part(text, at) for at in _spread(n_parts, len(text))]
    return parts


def _part(text: str, at: int) -> str:
    """Some characters around a place, and the rest of the words they cut through, if these are not long."""
    start, end = max(0, at - _CHARACTERS // 2), min(len(text), at + _CHARACTERS // 2)
    before, after = text[max(0, start - _WORD) : start], text[end : end + _WORD]
    beginning, rest = _BEGINNING.search(before), _REST.match(after)
    if beginning and len(beginning[0]) < _WORD:
        start -= len(beginning[0])
    if rest and len(rest[0]) < _WORD:
        end += len(rest[0])
    return text[start:end]


def _spread(n: int, length: int) -> list[int]:
    """The middles of n equal parts of a length."""
    return [(2 * i + 1) * length // (2 * n) for i in range(n)]


class _Held(NamedTuple):
    """Letters of a text by how tokens hold them.

    together: with others, or as a word of one letter. spelt: one by one, or in pieces. whole: a syllable or a
    word of one character, by itself. unknown: in the unknown token, or in none.
    """

    together: int = 0
    spelt: int = 0
    whole: int = 0
    unknown: int = 0


class Legibility:
    """Counts what one tokenizer, which neither pads nor truncates, does not read. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def letters(self, texts: Sequence[str]) -> Letters:
        """All letters of texts."""
        n = unread = 0
        other = []
        for text in texts:
            if self._reads_english and text.isascii():  # be it code or noise
                n += sum(map(str.isalpha, text))
            else:
                other.append(text)
        for held in self._held(other, ascii_is_read=self._reads_english):
            n += sum(held)
            unread += held.unknown
            if self._reads_english:  # a model of characters spells everything, and that is no fault
                unread += held.spelt
                unread += held.whole if held.whole and not self._knows_ideographs else 0
        return Letters(n, unread)

    @functools.cached_property
    def _reads_english(self) -> bool:
        [held] = self._held([_ENGLISH], ascii_is_read=False)
        return 2 * held.together > sum(held)

    @functools.cached_property
    def _knows_ideographs(self) -> bool:
        [held] = self._held([_IDEOGRAPHS], ascii_is_read=False)
        return 16 * held.whole > sum(held)

    @functools.cached_property
    def _unknown(self) -> int | None:
        """Id of the token for what the vocabulary has not; None where it has everything."""
        model: Any = self._tokenizer.model
        if hasattr(model, "unk_token"):
            return None if model.unk_token is None else self._tokenizer.token_to_id(model.unk_token)
        # Unigram does not say it, and no vocabulary has a character that is kept for private use.
        ids = self._tokenizer.encode("\U0010fffd", add_special_tokens=False).ids
        return ids[-1] if ids else None

    @functools.cached_property
    def _space(self) -> int | None:
        """Id of the token that stands for a space in front of a word."""
        return self._tokenizer.token_to_id("\u2581")

    def _held(self, texts: Sequence[str], ascii_is_read: bool) -> list[_Held]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False) if texts else []
        return [
            _counted(text, self._marks(text, encoding), ascii_is_read)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _marks(self, text: str, encoding: Encoding) -> bytearray:
        """What tokens say of each character."""
        marks, done = bytearray(len(text)), 0
        unknown, space = self._unknown, self._space
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token == space:
                continue
            if token == unknown:
                # Of a word with an emoji in it nobody knows what was unknown.
                mark = _UNKNOWN if all(map(_is_of_word, text[start:end])) else _LEFT_OUT
            else:
                mark = _TOGETHER if end - start > 1 and len(text[start:end].strip()) > 1 else _ALONE
            if start < done:  # the rest of a character that an earlier token begins
                marks[start:done] = bytes([_SPLIT]) * (done - start)
                start = done
            if start < end:
                marks[start:end] = bytes([mark]) * (end - start)
                done = end
        return marks


def _counted(text: str, marks: bytearray, ascii_is_read: bool) -> _Held:
    together = spelt = whole = unknown = 0
    for i, (letter, mark) in enumerate(zip(text, marks, strict=True)):
        if not letter.isalpha():
            continue
        if mark == _TOGETHER or (ascii_is_read and letter.isascii()):
            together += 1
        elif mark == _LEFT_OUT:
            continue
        elif mark == _SPLIT:
            spelt += 1
        elif mark != _ALONE:
            unknown += 1
        elif letter >= _FIRST_SYLLABLE and _SYLLABLE_OR_WORD.match(letter):
            whole += 1
        elif _has_letter(text[i - 1 : i]) or _has_letter(text[i + 1 : i + 2]):  # [-1:0] is empty, too
            spelt += 1
        else:
            together += 1
    return _Held(together, spelt, whole, unknown)


def _has_letter(character: str) -> bool:
    """Whether it is a letter or a mark on one, and no end of the text."""
    return character.isalpha() or (bool(character) and unicodedata.category(character)[0] == "M")


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character.isspace() or unicodedata.category(character)[0] == "M"


def warn(letters: Letters, model: str, silent: bool = False) -> bool:
    """A warning where letters are mostly unread, unless a caller gathers what is to be told.

    Args:
        model: as `Encoder.load` takes it.
        silent: for a caller that has warned before.
    Returns:
        Whether it warned.
    """
    tally = current()
    if tally is not None:
        tally.letters = tally.letters.plus(letters)
        return False
    if silent or not letters.are_mostly_unread:
        return False
    logger.warning("%s", sentence(letters, model))
    return True


def sentence(letters: Letters, model: str) -> str:
    """The words of `warn`."""
    share = 100 * letters.unread // letters.n
    return (
        f'{share} % of the letters in a sample of these texts are in words that model "{model}" does not '
        f"know or only spells: it does not read their script. {way_out(model)}"
    )


def way_out(model: str) -> str:
    """What can be done where a model does not read a script, in one sentence."""
    if model == MULTILINGUAL:
        return 'Search them with mode="bm25", which needs no model.'
    name = MULTILINGUAL
    return f'Make the index with Encoder.load("{name}"), by command or server with --model {name}.'
