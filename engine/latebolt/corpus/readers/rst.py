"""reStructuredText as it stands, known by its lines and by the underlined headings above them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from latebolt.corpus.open import text_of
from latebolt.corpus.readers.extract import Extract, Outline

_LINE: Final = re.compile(r".*\n?")
_ADORNMENT: Final = re.compile(r"([!-/:-@\[-`{-~])\1*$")


def read(path: Path) -> Extract:
    """The text of a file, with its headings. Their levels are the order in which their adornments first come.

    Raises:
        InvalidInput: it is empty, too large or no text.
    """
    text = text_of(path)
    outline, levels = Outline(), list[tuple[str, bool]]()
    before: tuple[int, str] = (0, "")  # the line above the last
    above: tuple[int, str] = (0, "")
    for match in _LINE.finditer(text):
        line, start = match.group().rstrip(), match.start()
        title = above[1]
        underlines = (
            (found := _ADORNMENT.match(line)) is not None
            and title.strip() != ""
            and not _ADORNMENT.match(title)
            and len(line) >= len(title)
        )
        if underlines and found is not None:
            overlined = before[1] == line
            # An underline alone belongs to a line that begins at the margin, after a blank one.
            if overlined or not (before[1] or title[0].isspace()):
                style = (found[1], overlined)
                if style not in levels:
                    levels.append(style)
                outline.add(before[0] if overlined else above[0], levels.index(style) + 1, title)
        before, above = above, (start, line)
    return Extract(text, numbered="line", labels=outline.labels)
