"""Web pages: their text as a browser would lay it out in lines, known by the headings above it.

The parser is a browser's (Lexbor): what is not closed, or wrongly, is read as pages are.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from latebolt.checks import clean_text
from latebolt.corpus.open import bytes_of, decode
from latebolt.corpus.readers.extract import Extract, Outline
from latebolt.errors import InvalidInput

_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w:-]{1,40})", re.IGNORECASE)
_HEADINGS: Final = {f"h{n}": n for n in range(1, 7)}
_UNSEEN: Final = frozenset(
    ("script", "style", "template", "noscript", "svg", "math", "iframe", "object", "canvas", "head")
)
_PARAGRAPHS: Final = frozenset(
    (
        "p",
        "pre",
        "table",
        "ul",
        "ol",
        "dl",
        "blockquote",
        "section",
        "article",
        "aside",
        "header",
        "footer",
        "nav",
        "main",
        "figure",
        "form",
        "fieldset",
        "hr",
        "details",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    )
)
_LINES: Final = frozenset(
    (
        "div",
        "li",
        "tr",
        "br",
        "dt",
        "dd",
        "option",
        "legend",
        "figcaption",
        "caption",
        "summary",
        "address",
        "center",
    )
)
_CELLS: Final = frozenset(("td", "th"))


def read(path: Path) -> Extract:
    """The text of a page, its title and its headings.

    Raises:
        InvalidInput: it is empty, too large, or in an encoding that it does not name.
    """
    page = LexborHTMLParser(_decoded(bytes_of(path), str(path)).replace("\0", "\ufffd"))
    layout = _Layout()
    root = page.root
    if root is not None:
        for node, entered in _walk(root):
            layout.step(node, entered)
    title_node = page.css_first("head > title")
    title = " ".join(clean_text(title_node.text()).split()) if title_node is not None else ""
    text = clean_text("".join(layout.pieces)).rstrip()
    if not text.strip():
        raise InvalidInput(f"{path}: has no text in it.")
    return Extract(text, title or None, None, labels=layout.outline.labels)


def _decoded(content: bytes, name: str) -> str:
    """UTF-8, UTF-16 behind its mark, or the encoding that the page names."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        found = _CHARSET.search(content, 0, 4096)
        named = found[1].decode().lower() if found else ""
        if named in ("", "utf-8", "utf8"):
            return decode(content, name)  # tells the byte
        # What pages call by these names is what browsers take it for.
        named = "cp1252" if named in ("iso-8859-1", "latin1", "us-ascii", "ascii") else named
        try:
            return content.decode(named, "replace")
        except LookupError as error:
            raise InvalidInput(f"{name}: names an encoding that is not known ({named}).") from error


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Nodes as they are entered and left; without recursion, since pages may be nested without end."""
    node, depth, entering = root, 0, True
    while True:
        if entering:
            yield node, True
            below = node.first_child if node.tag not in _UNSEEN else None
            if below is not None:
                node, depth = below, depth + 1
                continue
        yield node, False
        if depth == 0:
            return
        following = node.next
        if following is not None:
            node, entering = following, True
        else:
            above = node.parent
            assert above is not None
            node, depth, entering = above, depth - 1, False


class _Layout:
    """Lays text out: white space is one space, and blocks begin on a line of their own."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.outline = Outline()
        self._length = 0
        self._breaks = 0  # ends of lines that the next text wants before it
        self._space = ""
        self._pre = 0
        self._heading: tuple[int, list[str]] | None = None

    def step(self, node: LexborNode, entered: bool) -> None:
        """A node is entered or left."""
        tag = node.tag
        if tag == "-text":
            if entered:
                self._text(node.text_content or "")
        elif tag in _PARAGRAPHS:
            self._breaks = 2 if self._length else 0
            if tag == "pre":
                self._pre += 1 if entered else -1
            if tag in _HEADINGS:
                self._of_heading(_HEADINGS[tag], entered)
        elif tag in _LINES:
            self._breaks = max(self._breaks, 1) if self._length else 0
        elif tag in _CELLS and entered and not self._breaks and self._length:
            self._space = " | "

    def _of_heading(self, level: int, entered: bool) -> None:
        if entered:
            self._heading = (self._length, [])
        elif self._heading is not None:
            position, words = self._heading
            self.outline.add(position, level, clean_text("".join(words)))
            self._heading = None

    def _text(self, text: str) -> None:
        if self._pre:
            self._put(text.strip("\n") if self._breaks else text)
            return
        words = " ".join(text.split())
        if words:
            if text[0].isspace():
                self._space = self._space or " "
            self._put(words)
        if text and text[-1].isspace():
            self._space = self._space or " "

    def _put(self, text: str) -> None:
        if not text:
            return
        between = "\n" * self._breaks if self._breaks else self._space if self._length else ""
        if self._heading is not None:
            if not self._heading[1]:
                self._heading = (self._length + len(between), [])
            self._heading[1].append((" " if between else "") + text)
        self.pieces.append(between + text)
        self._length += len(between) + len(text)
        self._breaks, self._space = 0, ""
