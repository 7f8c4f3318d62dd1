"""The kinds of files: which reader reads which suffix, with which library, and where.

Formats that a few bytes can blow up, or whose libraries are written in C, are read in a process of their own.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latebolt.corpus.readers.languages import LANGUAGES

_READERS: Final = "latebolt.corpus.readers."


@dataclass(frozen=True)
class Kind:
    """How files are read.

    reader: the module whose `read(path)` gives an Extract; none where each line or row is a document.
    library: the package of the extra `files` that it imports, and the name it is installed by. apart: in a
    process with limits. packed: also as .gz.
    """

    name: str
    reader: str = ""
    library: tuple[str, str] | None = None
    apart: bool = False
    packed: bool = True

    def lacks(self) -> str | None:
        """Why files of this kind cannot be read here, and the way out; None where they can."""
        if self.library is None or importlib.util.find_spec(self.library[0]) is not None:
            return None
        return f"is read by {self.library[1]}, which is not installed: pip install 'latebolt[files]'"


JSON_LINES: Final = Kind("json lines")
TABLE: Final = Kind("table")
_TEXT: Final = Kind("text", _READERS + "text")
_MARKDOWN: Final = Kind("markdown", _READERS + "markdown")
_RST: Final = Kind("reStructuredText", _READERS + "rst")
SOURCE: Final = Kind("source", _READERS + "source")
_NOTEBOOK: Final = Kind("notebook", _READERS + "notebook")
_HTML: Final = Kind("html", _READERS + "html", ("selectolax", "selectolax"), apart=True)
_PDF: Final = Kind("pdf", _READERS + "pdf", ("pypdfium2", "pypdfium2"), apart=True, packed=False)
_DOCX: Final = Kind("docx", _READERS + "docx", ("docx", "python-docx"), apart=True, packed=False)

KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys((".txt", ".text"), _TEXT),
    **dict.fromkeys((".md", ".markdown"), _MARKDOWN),
    ".rst": _RST,
    **dict.fromkeys((".jsonl", ".ndjson"), JSON_LINES),
    **dict.fromkeys((".csv", ".tsv"), TABLE),
    ".ipynb": _NOTEBOOK,
    **dict.fromkeys((".html", ".htm", ".xhtml"), _HTML),
    ".pdf": _PDF,
    ".docx": _DOCX,
    **dict.fromkeys(LANGUAGES, SOURCE),
}

IN_WORDS: Final = ".txt, .md, .rst, .html, .pdf, .docx, .ipynb, .csv, .jsonl or source"


def kind_of(path: Path) -> Kind | None:
    """The kind of a file; None for one that is not read."""
    return kind_of_name(path.name)


def kind_of_name(name: str) -> Kind | None:
    """The same of a name alone."""
    kind = KINDS.get(_suffix_of(name))
    return None if kind is None or (not kind.packed and name[-3:].lower() == ".gz") else kind


def suffix_of(path: Path) -> str:
    """The suffix that decides the kind, in small letters: that of the file inside for .gz."""
    return _suffix_of(path.name)


def _suffix_of(name: str) -> str:
    stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122 - of thousands of names
    return os.path.splitext(stem)[1] if suffix == ".gz" else suffix  # noqa: PTH122
