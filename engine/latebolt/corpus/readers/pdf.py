"""PDF files: the text of their pages in the order of the file, known by page. Pictures of text hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pypdfium2

from latebolt.checks import clean_text
from latebolt.corpus.readers.extract import MOST_TEXT, Extract
from latebolt.errors import InvalidInput

_BETWEEN: Final = "\n\n"
_HYPHEN: Final = "\ufffe"  # PDFium's sign for a hyphen at the end of a line, inside a word


def read(path: Path) -> Extract:
    """The text of all pages.

    Raises:
        InvalidInput: it is locked, damaged, or has no text.
    """
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        why = "is locked with a password" if locked else f"is not a sound PDF ({error})"
        raise InvalidInput(f"{path}: {why}.") from error
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    for n in range(len(document)):
        starts.append(length)
        if text := _text_of(document, n):
            pieces.append(text + _BETWEEN)
            length += len(pieces[-1])
        if length > MOST_TEXT:
            raise InvalidInput(f"{path}: holds more than {MOST_TEXT / 1e6:.0f} million characters.")
    if not pieces:
        raise InvalidInput(f"{path}: has no text in it; its pages may be pictures.")
    title = " ".join(clean_text(document.get_metadata_value("Title")).split())
    return Extract("".join(pieces).rstrip(), title or None, "page", starts)


def _text_of(document: pypdfium2.PdfDocument, n: int) -> str:
    """The text of a page, counted from 0; that of a damaged one is empty."""
    try:
        page = document[n]
    except pypdfium2.PdfiumError:
        return ""
    textpage = page.get_textpage()
    text = clean_text(textpage.get_text_bounded())
    textpage.close()
    page.close()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace(_HYPHEN + "\n", "").replace(_HYPHEN, "")
    return text.replace("\0", "").strip()
