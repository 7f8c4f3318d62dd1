"""Plain text as it stands, known by its lines."""

from __future__ import annotations

from pathlib import Path

from latebolt.corpus.open import text_of
from latebolt.corpus.readers.extract import Extract


def read(path: Path) -> Extract:
    """The text of a file.

    Raises:
        InvalidInput: it is empty, too large or no text.
    """
    return Extract(text_of(path), numbered="line")
