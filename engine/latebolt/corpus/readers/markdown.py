"""Markdown as it stands, known by its lines and by the headings above them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from latebolt.corpus.open import text_of
from latebolt.corpus.readers.extract import Extract, Outline

_LINE: Final = re.compile(r".*\n?")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_CLOSING: Final = re.compile(r"(?:^|[ \t])#+[ \t]*$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# Lines that are no paragraph, so that what is below them is a rule and no underline.
_NO_PARAGRAPH: Final = re.compile(r"$| {4}|\t|[ \t]*(?:[-*+>|]|\d+[.)])(?:[ \t]|$)")


def read(path: Path) -> Extract:
    """The text of a file, with its headings.

    Raises:
        InvalidInput: it is empty, too large or no text.
    """
    text = text_of(path)
    outline = Outline()
    add_headings(text, 0, outline)
    return Extract(text, numbered="line", labels=outline.labels)


def add_headings(text: str, offset: int, outline: Outline) -> None:
    """Add the headings of some Markdown that stands at an offset of a larger text."""
    fence: str | None = None
    above: tuple[int, str] | None = None  # the line above, where it can be a heading
    position = _end_of_front_matter(text)
    for match in _LINE.finditer(text, position):
        line, start = match.group().rstrip("\r\n"), offset + match.start()
        if found := _FENCE.match(line):
            if fence is None:
                fence = found[1]
            elif found[1].startswith(fence) and not line.strip(" \t`~"):
                fence = None
            above = None
        elif fence is not None:
            continue
        elif found := _ATX.match(line):
            outline.add(start, len(found[1]), _CLOSING.sub("", found[2] or ""))
            above = None
        elif above is not None and (found := _UNDERLINE.match(line)):
            outline.add(above[0], 1 if found[1][0] == "=" else 2, above[1])
            above = None
        else:
            above = None if _NO_PARAGRAPH.match(line) else (start, line)


def _end_of_front_matter(text: str) -> int:
    """Where the text begins behind the lines of YAML that many programs write on top between two `---`."""
    if not text.startswith(("---\n", "---\r\n")):
        return 0
    found = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$\n?", re.MULTILINE).search(text, 4)
    return found.end() if found else 0
