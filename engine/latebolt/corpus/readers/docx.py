"""Word documents: the text of their paragraphs and tables, known by the headings above it.

Paragraphs are taken in the order of the file wherever they stand: in tables, content controls, text boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import docx
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml.ns import qn
from lxml import etree

from latebolt.checks import clean_text
from latebolt.corpus.readers.extract import MOST_TEXT, Extract, Outline
from latebolt.errors import InvalidInput

_PARAGRAPH: Final = qn("w:p")
_CELL: Final = qn("w:tc")
_ROW: Final = qn("w:tr")
# The same content again, for programs that do not know the new form.
_FALLBACK: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_MARKS: Final = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_TEXT: Final = qn("w:t")
_HEADING: Final = re.compile(r"(?:heading ([1-9])|(title))$", re.IGNORECASE)


def read(path: Path) -> Extract:
    """The text of the document's body, its title and its headings.

    Raises:
        InvalidInput: it has no text.
    """
    document = docx.Document(str(path))
    levels = _levels_of(document)
    outline = Outline()
    pieces: list[str] = []
    length = 0
    before: tuple[Any, ...] = ()
    for paragraph, where in _paragraphs(document.element.body):
        text = clean_text(_text_of(paragraph)).strip()
        if not text:
            continue
        piece = (_between(before, where) if pieces else "") + text
        if not where and (level := levels.get(paragraph.style, 0)):
            outline.add(length + len(piece) - len(text), level, text)
        before = where
        pieces.append(piece)
        length += len(piece)
        if length > MOST_TEXT:
            raise InvalidInput(f"{path}: holds more than {MOST_TEXT / 1e6:.0f} million characters.")
    if not pieces:
        raise InvalidInput(f"{path}: has no text in it.")
    title = " ".join(clean_text(document.core_properties.title or "").split())
    return Extract("".join(pieces), title or None, None, labels=outline.labels)


def _levels_of(document: Any) -> dict[str | None, int]:
    """Style ids of headings -> levels. Names of styles are English in every document, whatever Word shows."""
    levels: dict[str | None, int] = {}
    for style in document.styles:
        if style.type != WD_STYLE_TYPE.PARAGRAPH:
            continue
        base, seen = style, 0
        while base is not None and seen < 10:  # a style made from a heading's is one
            if base.name and (found := _HEADING.match(base.name)):
                levels[style.style_id] = int(found[1] or 1)
                break
            base, seen = base.base_style, seen + 1
    return levels


def _paragraphs(body: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """(paragraph, the rows and cells that it stands in), in the order of the file."""
    around: list[Any] = []
    walk = etree.iterwalk(body, events=("start", "end"), tag=(_PARAGRAPH, _ROW, _CELL, _FALLBACK))
    for event, element in walk:
        if element.tag == _FALLBACK:
            if event == "start":
                walk.skip_subtree()
        elif element.tag == _PARAGRAPH:
            if event == "start":
                yield element, tuple(around)
        elif event == "start":
            around.append(element)
        else:
            around.pop()


def _between(before: tuple[Any, ...], where: tuple[Any, ...]) -> str:
    """Rows on lines of their own, their cells beside each other, all else apart."""
    if not before or not where:
        return "\n\n"
    if before == where:
        return "\n"
    return " | " if before[:-1] == where[:-1] else "\n"


def _text_of(paragraph: Any) -> str:
    """The text of a paragraph as it shows: without what is deleted, or stands in boxes, as paragraphs do."""
    pieces: list[str] = []
    walk = etree.iterwalk(paragraph, events=("start",))
    for _, element in walk:
        if element.tag == _FALLBACK or (element.tag == _PARAGRAPH and element is not paragraph):
            walk.skip_subtree()
        elif element.tag == _TEXT:
            pieces.append(element.text or "")
        elif element.tag in _MARKS:
            pieces.append(_MARKS[element.tag])
    return "".join(pieces)
