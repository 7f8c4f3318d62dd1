"""Jupyter notebooks: the text of their cells, without what the cells put out, known by cell and heading."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from latebolt.checks import clean_text
from latebolt.corpus.open import bytes_of
from latebolt.corpus.readers.extract import Extract, Outline
from latebolt.corpus.readers.markdown import add_headings
from latebolt.errors import InvalidInput

_BETWEEN: Final = "\n\n"


class _Cell(msgspec.Struct):
    cell_type: str = ""
    source: str | list[str] = ""


class _Metadata(msgspec.Struct):
    title: object = None


class _Notebook(msgspec.Struct):
    """Of nbformat 4; outputs, which may be pictures of megabytes, are passed over by the parser."""

    cells: list[_Cell]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_DECODER: Final = msgspec.json.Decoder(_Notebook)


def read(path: Path) -> Extract:
    """The cells of a notebook, numbered from 1.

    Raises:
        InvalidInput: it is no notebook of nbformat 4, or has nothing in its cells.
    """
    try:
        notebook = _DECODER.decode(bytes_of(path))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: is not a notebook of nbformat 4 ({error}).") from error
    pieces: list[str] = []
    starts: list[int] = []
    outline = Outline()
    position = 0
    for cell in notebook.cells:
        source = clean_text(cell.source if isinstance(cell.source, str) else "".join(cell.source)).rstrip()
        starts.append(position)
        if cell.cell_type == "markdown":
            add_headings(source, position, outline)
        pieces.append(source + _BETWEEN if source else "")
        position += len(pieces[-1])
    text = "".join(pieces).rstrip()
    if not text.strip():
        raise InvalidInput(f"{path}: has nothing in its cells.")
    title = notebook.metadata.title
    return Extract(
        text, title if isinstance(title, str) and title else None, "cell", starts, labels=outline.labels
    )
