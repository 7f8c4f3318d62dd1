"""Which documents hold which word how often, as the segment's database keeps it: blocks of documents.

A block begins at a row and keeps, for each of its words, n uint16 rows counted from there and then n uint8
counts, a count above 255 as 255; and the number of words of each document as uint32. Pure.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.index.documents.words import words_of

Postings = tuple[Int64, npt.NDArray[np.uint8]]

BLOCK_ROWS = 1 << 16
BLOCK_POSTINGS = 1 << 21  # bounds the memory of a block at some 100 MB, whatever the length of documents
PIECE = 1 << 20  # characters whose words are held at a time
POSTING_BYTES, LENGTH_BYTES = 3, 4  # of one row of a word, of one document's number of words
_MOST = 255
_BLANK = re.compile("[ \n]")


class PostingsBlock:
    """The words of documents from row `first` on.

    Args:
        first: row of the first document.
    """

    def __init__(self, first: int) -> None:
        self.first, self._n_postings = first, 0
        self._lengths = array("I")
        self._rows: dict[str, array[int]] = {}
        self._counts: dict[str, bytearray] = {}

    def add(self, text: str | None) -> None:
        """The next document."""
        row = len(self._lengths)
        counted: Counter[str] = Counter()
        for piece in _pieces(text or ""):
            counted.update(words_of(piece))
        for word, count in counted.items():
            self._rows.setdefault(word, array("H")).append(row)
            self._counts.setdefault(word, bytearray()).append(min(count, _MOST))
        self._lengths.append(counted.total())
        self._n_postings += len(counted)

    @property
    def next_row(self) -> int:
        """The row after the last."""
        return self.first + len(self._lengths)

    @property
    def full(self) -> bool:
        """Whether the next document belongs to another block."""
        return len(self._lengths) >= BLOCK_ROWS or self._n_postings >= BLOCK_POSTINGS

    @property
    def lengths(self) -> bytes:
        """Words of each document."""
        return np.array(self._lengths, "<u4").tobytes()

    def postings(self) -> Iterator[tuple[str, int, bytes]]:
        """(word, first row of the block, rows and counts)."""
        for word, rows in self._rows.items():
            yield word, self.first, np.array(rows, "<u2").tobytes() + bytes(self._counts[word])


def _pieces(text: str) -> Iterator[str]:
    """A text cut ahead of blanks, which no word has inside: all words of a book take tenfold its size."""
    start = 0
    while len(text) - start > PIECE:
        found = _BLANK.search(text, start + PIECE)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end
    yield text[start:]


def unpack_lengths(content: bytes) -> npt.NDArray[np.uint32]:
    """Words of each document of a block."""
    return np.frombuffer(content, "<u4")


def unpack_postings(first: int, content: bytes) -> Postings:
    """Rows of the documents that hold a word, ascending, and how often each does."""
    n = len(content) // POSTING_BYTES
    rows = np.frombuffer(content, "<u2", n).astype(np.int64)
    rows += first
    return rows, np.frombuffer(content, "|u1", n, 2 * n)
