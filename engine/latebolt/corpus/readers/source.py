"""Source code as it stands, known by its lines and by the definition that they stand in.

Definitions are found line by line, and end where the code comes back to their indentation: that takes time in
proportion to the file whatever it holds, which parsers do not promise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from latebolt.corpus.open import LARGEST_TEXT, reading, text_of
from latebolt.corpus.readers.extract import Extract
from latebolt.corpus.readers.kinds import suffix_of
from latebolt.corpus.readers.languages import LANGUAGES, Language

_LONGEST_HEAD: Final = 400  # characters of a line in which a definition is looked for
_MINIFIED: Final = 20_000  # bytes of a line: nobody wrote it
_LINE: Final = re.compile(r"^([ \t]*+)(\S.*)", re.MULTILINE)
# Lines right above a definition that are part of it: decorators, attributes, comments.
_ABOVE: Final = re.compile(r"@|#(?!!)|//|/\*|\*|--|\[\w|template\b")


def read(path: Path) -> Extract:
    """The text of a file, with what it defines.

    Raises:
        InvalidInput: it is empty, too large or no text.
    """
    text = text_of(path)
    return Extract(
        text,
        numbered="line",
        label="definition",
        labels=definitions(text, LANGUAGES[suffix_of(path)]),
    )


def is_minified(path: Path) -> bool:
    """Whether most of a file is one endless line, as programs write it that make code for browsers."""
    with reading(path) as file:
        content = file.read(LARGEST_TEXT)
    return max(map(len, content.split(b"\n"))) > max(_MINIFIED, len(content) / 2)


def definitions(text: str, language: Language) -> list[tuple[int, str]]:
    """(position, name of the innermost definition from there on): "" where the code stands in none."""
    labels: list[tuple[int, str]] = []
    around: list[tuple[int, str]] = []  # (indentation, name) of the definitions that the line stands in
    above: tuple[int, int] | None = None  # (position, indentation) of the comments right above
    decorated = False  # and the last of these is a decorator
    end = 0  # of the line before
    for start, indentation, head in _lines(text, language.opaque):
        if above is not None and (indentation < above[1] or text.count("\n", end, start) > 1):
            above = None
        end = start + indentation + len(head)
        if above is not None and decorated and (indentation > above[1] or head[0] in ")]}"):
            continue  # what a decorator is given
        found = language.definition.match(head)
        if found is None and _ABOVE.match(head):
            above = above or (start, indentation)
            decorated = head[0] == "@"
            continue
        begin = above[0] if above is not None and above[1] == indentation else start
        above = None
        if found is None and (not around or indentation > around[-1][0] or language.inside.match(head)):
            continue
        while around and indentation <= around[-1][0]:
            around.pop()
        if found is not None:
            around.append((indentation, ".".join(group for group in found.groups() if group)))
        labels.append((begin, ".".join(name for _, name in around)))
    return labels


def _lines(text: str, opaque: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    """(start, indentation, beginning) of lines that hold something and begin in no string or comment."""
    hidden = (match.span() for match in opaque.finditer(text) if "\n" in match.group())
    span = next(hidden, None)
    for match in _LINE.finditer(text):
        start = match.start()
        while span is not None and span[1] <= start:
            span = next(hidden, None)
        if span is None or start <= span[0]:
            yield start, len(match[1].expandtabs()), match[2][:_LONGEST_HEAD].rstrip()
