"""What a reader gives of a file: its text, and what is needed to say where a stretch of the text stands.

It is plain data, so that it can come from another process as it comes from a reader of this one.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from functools import cached_property
from typing import Any, Final, Literal

import msgspec

MOST_TEXT: Final = 50_000_000  # characters of one file, whatever it is packed in
Label = Literal["heading", "definition"]


class Extract(msgspec.Struct, frozen=True):
    """The text of a file.

    numbered: what a stretch is counted in; lines are those of the text, as the file has them. starts: where
    each page or cell begins, the first being number 1. labels: (position, label): from there on the text
    stands under that heading or in that definition, "" for none.
    """

    text: str
    title: str | None = None
    numbered: Literal["line", "page", "cell"] | None = None
    starts: list[int] = []
    label: Label = "heading"
    labels: list[tuple[int, str]] = []

    def breaks(self) -> tuple[int, ...]:
        """Where a cut into passages is preferred: at pages, cells, headings, both ends of definitions."""
        positions = {*self.starts, *(position for position, _ in self.labels)}
        return tuple(sorted(position for position in positions if 0 < position < len(self.text)))


class Places:
    """Says where a stretch of an extract's text stands in its file."""

    def __init__(self, extract: Extract) -> None:
        self._extract = extract

    def __call__(self, start: int, stop: int) -> dict[str, Any]:
        """Of the characters from start to stop: lines, pages or cells, and what the first stands under."""
        extract = self._extract
        stop = min(stop, len(extract.text))
        # White space around a stretch belongs to no heading or page.
        if found := _SOLID.search(extract.text, start, stop):
            start = found.start()
        while stop > start + 1 and extract.text[stop - 1].isspace():
            stop -= 1
        place: dict[str, Any] = {}
        if extract.numbered == "line":
            place["lines"] = [
                bisect_right(self._lines, start),
                bisect_right(self._lines, max(start, stop - 1)),
            ]
        elif extract.numbered is not None:
            first = max(1, bisect_right(extract.starts, start))
            last = max(first, bisect_right(extract.starts, stop - 1))
            unit = extract.numbered
            place |= {unit: first} if first == last else {f"{unit}s": [first, last]}
        n = bisect_right(extract.labels, start, key=lambda label: label[0])
        if n and (label := extract.labels[n - 1][1]):
            place[extract.label] = label
        return place

    @cached_property
    def _lines(self) -> array[int]:
        starts = array("q", [0])
        starts.extend(match.end() for match in re.finditer("\n", self._extract.text))
        return starts


_SOLID = re.compile(r"\S")


class Outline:
    """Makes labels of headings as they come: each stands under the last one of a higher level."""

    def __init__(self) -> None:
        self.labels: list[tuple[int, str]] = []
        self._above: list[tuple[int, str]] = []

    def add(self, position: int, level: int, heading: str) -> None:
        """A heading at a position of the text; level 1 is the highest."""
        heading = " ".join(heading.split())[:_LONGEST_HEADING]
        while self._above and self._above[-1][0] >= level:
            self._above.pop()
        if heading:
            self._above.append((level, heading))
        self.labels.append((position, " > ".join(each for _, each in self._above[-_DEEPEST:])))


_LONGEST_HEADING = 200  # characters: a whole paragraph in a heading's style says no more about the place
_DEEPEST = 8
