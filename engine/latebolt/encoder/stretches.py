"""Tokenises a long text stretch by stretch, with the tokens that the whole text would have.

What is read at a time does not grow with the text, and whoever needs only its first tokens reads only its
beginning. A stretch ends where a word begins, as the tokenizer itself tells; the next begins some words
earlier, and its tokens there must be the same as before, or else the text is tokenised whole.

Words that are longer than a stretch: one of WordPiece is the unknown token, however it goes on. Byte pairs
and unigrams of a word's beginning are taken where it has the same tokens with many different ends (looked
for in up to 65,536 characters). The best unigrams up to one character do not depend on what follows, and one
of as many neighbouring characters as the longest piece has ends a piece of the whole word. Merged pairs left
and right of a token's end do not depend on each other either, so byte pairs go on from there.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from tokenizers import Tokenizer

from latebolt.hits import Span

# Characters at a window's end that are looked at again: more than a grapheme, an added token or what a
# pattern looks ahead for.
_MARGIN: Final = 48
# Characters before a stretch that its window begins with, at least.
_CONTEXT: Final = 16
# Ends that the beginning of a long word is tokenised with.
_BPE_ENDS: Final = (1, 2, 3, 5, 8, 13, 21, 34)

# Characters of a word that are read at once, for its tokens to be those of the whole word. Beyond it such a
# word, which no language has, is taken for several: the best unigrams of a row of dots depend on its end.
_MOST_WORD: Final = 65_536

# Parts of a tokenizer that look at single characters and their near neighbours only, so that a window shows
# what the whole text does. Others may look anywhere, and their texts are tokenised whole.
_LOCAL: Final = {
    "BertNormalizer",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "StripAccents",
    "Precompiled",
    "Nmt",
    "Strip",
    "BertPreTokenizer",
    "Whitespace",
    "WhitespaceSplit",
    "Punctuation",
    "Digits",
    "Metaspace",
    "ByteLevel",
}
_DROP_SPACE: Final = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9]*")


class Stretch(NamedTuple):
    """Some tokens of a text that follow each other: ids, characters [start, end), whether a word begins."""

    ids: list[int]
    spans: list[Span]
    begins: list[bool]


class _Window(NamedTuple):
    """The tokens of a part of a text; `spans` count from the text's beginning."""

    ids: list[int]
    spans: list[Span]
    words: list[int | None]
    in_word: bool  # whether it begins inside a word

    def rows(self, first: int, last: int) -> list[tuple[int, Span]]:
        return list(zip(self.ids[first:last], self.spans[first:last], strict=True))

    def word_begins(self, i: int) -> bool:
        """Whether a word begins with token i, by characters that are neither shared nor left out."""
        (_, before), (start, end) = self.spans[i - 1], self.spans[i]
        return self.words[i] != self.words[i - 1] and self.spans[i - 1][0] < before <= start < end

    def stretch(self, first: int, last: int) -> Stretch:
        begins = [
            self.words[i] is None or self.words[i] != self.words[i - 1] if i else not self.in_word
            for i in range(first, last)
        ]
        return Stretch(self.ids[first:last], self.spans[first:last], begins)


class Stretches:
    """The stretches of texts by one tokenizer, which neither pads nor truncates. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        parts = [*_parts(tokenizer.normalizer), *_parts(tokenizer.pre_tokenizer)]
        kinds = {part["type"] for part in parts}
        self._model = type(tokenizer.model).__name__
        model: Any = tokenizer.model
        self._drops_space = bool(kinds & _DROP_SPACE)
        splits = self._drops_space or any(
            part.get("split") or part.get("use_regex") for part in parts if part["type"] != "Split"
        )
        self.is_local = kinds <= _LOCAL and splits and self._model in ("WordPiece", "BPE", "Unigram")
        self._unknown, self._most_characters = None, 0
        if self._model == "WordPiece":
            self._unknown = tokenizer.token_to_id(model.unk_token)
            self._most_characters = int(model.max_input_chars_per_word)
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._margin = max([_MARGIN, *(2 * len(content) for content in added)])

    @functools.cached_property
    def _longest(self) -> int:
        """Characters of the longest piece of Unigram; takes half a second, so only where it is needed."""
        return max(map(len, self._tokenizer.get_vocab(False)))

    def whole(self, text: str) -> Stretch:
        """All tokens of a text, at once."""
        window = self._window(text, 0, len(text))
        return window.stretch(0, len(window.ids))

    def of(self, text: str, size: int, exact: bool = True) -> Iterator[Stretch]:
        """All tokens of a text, in order.

        Args:
            size: about how many characters to read at a time; of at least a few hundred.
            exact: False, where words that are longer than a stretch may be cut between any two tokens.
        """
        size = max(size, 8 * self._margin)
        if len(text) <= size or not self.is_local:
            yield self.whole(text)
            return
        given = 0
        for stretch in _Walk(self, text, size, exact).stretches():
            if stretch is None:  # a window has shown something else than the one before
                rest = self.whole(text)
                yield Stretch(rest.ids[given:], rest.spans[given:], rest.begins[given:])
                return
            given += len(stretch.ids)
            yield stretch

    def _window(self, text: str, first: int, last: int, in_word: bool = False) -> _Window:
        [encoding] = self._tokenizer.encode_batch([text[first:last]], add_special_tokens=False)
        spans = [(first + a, first + b) for a, b in encoding.offsets]
        return _Window(encoding.ids, spans, encoding.word_ids, in_word)


class _Walk:
    """One way through one text. Everything before `done` is given; a window begins at `back`."""

    def __init__(self, owner: Stretches, text: str, size: int, exact: bool) -> None:
        self._of, self._text, self._size, self._exact = owner, text, size, exact
        self._least = size
        self._done = self._back = 0
        self._tail: list[tuple[int, Span]] = []  # tokens of the last word before `done`
        self._inside = False  # whether `done` lies in a word that is the unknown token, however it goes on
        self._unknown_at: int | None = None  # where that word begins, until its end is found
        self._restarted = False  # whether the window begins inside a word
        self._ahead = 0  # tokens behind `done` that are given already

    def stretches(self) -> Iterator[Stretch | None]:
        """The text's stretches; None, and then nothing, where windows contradict each other."""
        owner, text = self._of, self._text
        while True:
            stop = min(len(text), self._done + self._size)
            window = owner._window(text, self._back, stop, self._restarted)
            n_old = next((i for i, span in enumerate(window.spans) if span[0] >= self._done), len(window.ids))
            if not self._agrees(window, n_old):
                yield None
                return
            if stop == len(text):
                yield from self._unknown_word(window)
                yield window.stretch(n_old + self._ahead, len(window.ids))
                return
            found = self._after_words(window, n_old, stop) or self._in_long_word(window, n_old, stop)
            if found is None:
                self._size *= 2
                continue
            if not self._inside:
                yield from self._unknown_word(window)
            if found[0] < found[1]:
                yield window.stretch(*found)

    def _unknown_word(self, window: _Window) -> Iterator[Stretch]:
        """The token of a long word, whose end this window shows."""
        if self._unknown_at is not None:
            yield Stretch(window.ids[:1], [(self._unknown_at, window.spans[0][1])], [True])
            self._unknown_at = None

    def _agrees(self, window: _Window, n_old: int) -> bool:
        if self._inside:
            return n_old == 1 and window.ids[0] == self._of._unknown and window.spans[0][1] >= self._done
        n = len(self._tail)
        return n == 0 or (n_old > n and window.rows(n_old - n, n_old) == self._tail)

    def _after_words(self, window: _Window, n_old: int, stop: int) -> tuple[int, int] | None:
        """Give all words but those at the window's end."""
        first = n_old + self._ahead
        last = len(window.ids) - 1
        while last > first and window.spans[last][0] > stop - self._of._margin:
            last -= 1
        least = first + (not self._inside)
        while last >= least and not window.word_begins(last):
            last -= 1
        if last < least:
            return None
        self._done, self._ahead, self._inside, self._size = window.spans[last][0], 0, False, self._least
        word = last - 1
        while word > 0 and not window.word_begins(word):
            word -= 1
        back = word - 1
        while back > 0 and not (window.word_begins(back) and window.spans[back][0] <= self._done - _CONTEXT):
            back -= 1
        # The first word of a window may look other than it is: it lacks what stands before.
        if back > 0 and word > back:
            self._back, self._tail = window.spans[back][0], window.rows(word, last)
            self._restarted = False
        elif word > 0:
            self._tail = window.rows(word, last)
        else:
            self._tail = []
        return first, last

    def _in_long_word(self, window: _Window, n_old: int, stop: int) -> tuple[int, int] | None:
        """Go on where no word begins any more before the window's end; None where more must be read."""
        owner, edge = self._of, stop - self._of._margin
        n = len(window.ids)
        ended = window.spans[-1][1] if n else self._back
        if owner._drops_space and self._blank(max(ended, self._done), stop):
            first = n_old + self._ahead
            self._go_on(edge, edge - 1)
            return first, n
        if owner._model == "WordPiece":
            return self._in_unknown_word(window, n_old, stop)
        if not n or window.words[n_old if n_old < n else -1] is None:
            return None
        return self._by_agreement(window, n_old, stop)

    def _blank(self, first: int, stop: int) -> bool:
        """Whether only white space follows, which ends a word and has no token."""
        match = _SPACE.match(self._text, first, stop)
        return first < stop - self._of._margin and match is not None and match.end() == stop

    def _go_on(self, done: int, back: int, inside: bool = False) -> None:
        self._done, self._back, self._inside = done, back, inside
        self._tail, self._ahead, self._size, self._restarted = [], 0, self._least, False

    def _in_unknown_word(self, window: _Window, n_old: int, stop: int) -> tuple[int, int] | None:
        """A word of more characters than WordPiece looks at: the unknown token, whatever follows."""
        owner, text = self._of, self._text
        is_new = not self._inside
        only = n_old if is_new else 0
        if len(window.ids) != only + 1 or window.ids[only] != owner._unknown:
            return None
        if window.spans[only][1] < stop - owner._margin:
            return None
        # Letters and digits of the long word go by at once.
        plain = _PLAIN.match(text, stop)
        done = max(stop, plain.end() if plain else stop) - owner._margin
        back = done - 16 * owner._most_characters
        if back < window.spans[only][0]:
            return None
        # What stands for the word in the next window has to be too long as well.
        if sum(map(str.isalnum, text[back:done])) <= 2 * owner._most_characters:
            return None
        if is_new:
            self._unknown_at = window.spans[only][0]
        self._go_on(done, back, inside=True)
        return 0, 0

    def _by_agreement(self, window: _Window, n_old: int, stop: int) -> tuple[int, int] | None:
        """Give the beginning of a long word of Unigram or byte pairs."""
        first, last = n_old + self._ahead, len(window.ids)
        while last > first and window.spans[last - 1][1] > stop - self._of._margin:
            last -= 1
        if self._exact and self._size <= _MOST_WORD:
            last = self._agreed(window, first, last, stop)
            if last <= first:
                return None
            if self._of._model == "Unigram":
                self._ahead, self._size = last - n_old, 2 * self._size
                return first, last
        while last > first and not self._can_begin(window, last):
            last -= 1
        if last <= first:
            return None
        done = window.spans[last][0]
        self._go_on(done, done)
        self._restarted = True
        return first, last

    def _agreed(self, window: _Window, first: int, last: int, stop: int) -> int:
        """The first token before `last` that differs where the word ends earlier."""
        owner, text = self._of, self._text
        ends: Iterable[int] = _BPE_ENDS
        if owner._model == "Unigram":
            ends = range(1, 2 * owner._longest)
            near = text[stop - 3 * owner._longest : stop]
            if not near.isprintable() or unicodedata.normalize("NFKC", near) != near:
                return first  # a piece of such characters may be longer
        for end in ends:
            if last <= first:
                break
            other = owner._window(text, self._back, stop - end)
            last = _first_difference(window, other, first, min(last, len(other.ids)))
        return last

    def _can_begin(self, window: _Window, i: int) -> bool:
        """Whether the rest of a long word can be tokenised from token i on."""
        if i >= len(window.ids):
            return False
        (a, before), (start, end) = window.spans[i - 1], window.spans[i]
        character = self._text[start]
        category = unicodedata.category(character)
        # What composes with the character before it, or may in a newer Unicode.
        joins = category[0] == "M" or category == "Cn" or "\u1160" <= character <= "\u11ff"
        return a < before <= start < end and not joins


def _first_difference(one: _Window, other: _Window, first: int, last: int) -> int:
    for i in range(first, last):
        if one.ids[i] != other.ids[i] or one.spans[i] != other.spans[i]:
            return i
    return last


def _parts(component: Any) -> list[dict[str, Any]]:
    """The settings of a normaliser or pre-tokeniser, of each part where it is a sequence."""
    if component is None:
        return []
    settings = json.loads(component.__getstate__())
    members = settings.get("normalizers") or settings.get("pretokenizers")
    return list(members) if members is not None else [settings]
