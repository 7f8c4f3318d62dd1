"""Lays windows over a text that was cut, for late chunking: every passage lies whole in one, with text before
and behind it where there is some. Pure.

A window is as long as the model reads. It takes as many neighbouring passages as leave a sixteenth of it for
the text before and behind them; what is left is shared evenly by the two sides.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from latebolt.hits import Span

_CONTEXT_SHARE: Final = 16
# A window's text alone may have a few tokens more than it has in the document: it may begin inside what the
# tokenizer takes for a word, such as a sentence of Japanese.
_SLACK: Final = 4


class Window(NamedTuple):
    """The characters [start, stop) of a text that are encoded at once, and its passages that lie there."""

    start: int
    stop: int
    passages: range


class TokenPlaces:
    """Where the tokens of one text are, nine bytes each: those of a book fit where its lists would not."""

    def __init__(self) -> None:
        self._starts, self._ends, self._begins = array("I"), array("I"), bytearray()

    def passing(
        self, parts: Iterable[tuple[Sequence[Span], Sequence[bool]]]
    ) -> Iterator[tuple[Sequence[Span], Sequence[bool]]]:
        """The parts as they are, see `cut_parts`; their places are kept as they go by."""
        for spans, begins in parts:
            self._starts.extend(start for start, _ in spans)
            self._ends.extend(end for _, end in spans)
            self._begins.extend(begins)
            yield spans, begins

    def windows(self, passages: Sequence[Span], room: int) -> list[Window]:
        """Windows that hold each passage once, in order.

        Args:
            passages: characters [start, stop) of each, ascending by both, as `cut_parts` gives them.
            room: tokens of a window.
        """
        starts = np.maximum.accumulate(np.frombuffer(self._starts, np.uint32))
        n_tokens = len(starts)
        firsts, lasts = np.searchsorted(starts, np.array(passages, np.int64).T).tolist()
        context = room // _CONTEXT_SHARE
        found = []
        following = 0
        while following < len(passages):
            one, after = following, following + 1
            before = context if firsts[one] else 0
            while after < len(passages):
                behind = context if lasts[after] < n_tokens else 0
                if before + lasts[after] - firsts[one] + behind > room:
                    break
                after += 1
            first, last = firsts[one], lasts[after - 1]
            spare = max(0, room - (last - first) - _SLACK)
            left = min(first, max(spare // 2, spare - (n_tokens - last)))
            right = min(n_tokens - last, spare - left)
            begin = next((i for i in range(first - left, first) if self._begins[i]), first)
            end = last + right
            while last < end < n_tokens and not self._begins[end]:
                end -= 1
            found.append(
                Window(
                    int(starts[begin]) if begin < first else passages[one][0],
                    self._ends[end - 1] if end > last else passages[after - 1][1],
                    range(one, after),
                )
            )
            following = after
        return found
