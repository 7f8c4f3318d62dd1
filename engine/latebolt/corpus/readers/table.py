"""Rows of .csv and .tsv files as JSON objects: the first row names the columns.

They are read one at a time, so a table may be larger than memory.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from latebolt.corpus.open import lines_of
from latebolt.corpus.readers.kinds import suffix_of
from latebolt.errors import InvalidInput

LONGEST_CELL: Final = (
    16_000_000  # characters; the csv module's own limit, 131,072, is less than some articles have
)
_DELIMITERS: Final = ",;\t|"  # programs of countries with decimal commas write semicolons
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*+"?')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?")


def rows_of(file: IO[bytes], path: Path) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """(number of the row as a spreadsheet counts, (column, cell) of those that hold something).

    Raises:
        InvalidInput: it is empty, not UTF-8, or has a NUL byte, a quote that is not closed, an endless cell.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))  # of the whole process, so never lowered
    lines = _without_nul(lines_of(file, str(path)), path)
    beginning: list[str] = []
    for line in lines:
        beginning.append(line)
        if line.strip():
            break
    else:
        raise InvalidInput(f"{path}: is empty.")
    delimiter = "\t" if suffix_of(path) == ".tsv" else _delimiter(beginning[-1])
    reader = csv.reader(itertools.chain(beginning, lines), delimiter=delimiter, strict=True)
    columns: list[str] = []
    empty = True
    try:
        for number, row in enumerate(reader, 1):
            if not columns:
                columns = _names(row)
                continue
            columns += [f"column {n}" for n in range(len(columns) + 1, len(row) + 1)]
            cells = [
                (column, cell.strip()) for column, cell in zip(columns, row, strict=False) if cell.strip()
            ]
            if cells:
                empty = False
                yield number, cells
    except csv.Error as error:
        raise InvalidInput(f"{path}:{reader.line_num}: is not a sound table ({error}).") from error
    if empty:
        raise InvalidInput(f"{path}: has no row below the names of its columns.")


def value_of(cell: str) -> Any:
    """A cell as JSON would have it: a number where it is written as JSON writes it, otherwise text."""
    if _NUMBER.fullmatch(cell) is None:
        return cell
    value = float(cell) if "." in cell else int(cell)
    return value if str(value) == cell else cell  # 1.10 may be a version, 007 a name


def _without_nul(lines: Iterator[tuple[int, str]], path: Path) -> Iterator[str]:
    for number, line in lines:
        if "\0" in line:
            raise InvalidInput(f"{path}:{number}: has a NUL byte and so is no text.")
        yield line


def _delimiter(line: str) -> str:
    plain = _QUOTED.sub("", line)
    return max(_DELIMITERS, key=plain.count)


def _names(row: list[str]) -> list[str]:
    """Names of columns; one that is empty or comes twice is told apart by its number."""
    names: list[str] = []
    for n, cell in enumerate(row, 1):
        name = " ".join(cell.split()) or f"column {n}"
        names.append(f"{name} {n}" if name in names else name)
    return names
