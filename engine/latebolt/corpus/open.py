"""Reads files of texts, plain or .gz, as UTF-8 and as lines of JSON, or says in one line why it cannot.

A file that is one document is held as a whole, so it is read up to a limit, as what a .gz unpacks to is.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import msgspec

from latebolt.checks import clean_text
from latebolt.errors import InputNotFound, InvalidInput, LateboltError

_LONGEST_LINE: Final = 1 << 28  # bytes; more is a file of another kind, and would have to be held at once
LARGEST_TEXT: Final = 50_000_000  # bytes of a file that is one document: no book has a tenth of it


@contextlib.contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """A file open for reading, unzipped.

    Raises:
        InputNotFound: there is no such file.
        InvalidInput: it is a folder or a broken .gz.
        LateboltError: the system does not let it be read.
    """
    try:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InputNotFound(f"{path}: there is no such file.") from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{path}: is a folder, not a file.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path}: is not a sound gzip file ({error}).") from error
    except OSError as error:
        raise LateboltError(f"{path}: cannot be read ({error.strerror}).") from error


def bytes_of(path: Path) -> bytes:
    """What a file holds, unzipped.

    Raises:
        InvalidInput: see `reading`, or it holds more than 50 MB.
    """
    with reading(path) as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise InvalidInput(
            f"{path}: has more than {LARGEST_TEXT / 1e6:.0f} MB, too much for one document. Split it."
        )
    return content


def text_of(path: Path) -> str:
    """The UTF-8 text of a file.

    Raises:
        InvalidInput: it is empty, has more than 50 MB, is not UTF-8, or has a NUL byte, as no text has.
    """
    content = bytes_of(path)
    text = decode(content, str(path))
    if not text.strip():
        raise InvalidInput(f"{path}: is empty.")
    if b"\0" in content:
        raise InvalidInput(f"{path}: has a NUL byte at {content.index(0)} and so is no text.")
    return text


def lines_of(file: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of UTF-8 text, with its end, without byte-order marks.

    Raises:
        InvalidInput: a line is not UTF-8, which names the byte, or has more than 268 MB.
    """
    position = number = 0
    while content := file.readline(_LONGEST_LINE):
        number += 1
        if len(content) == _LONGEST_LINE:
            raise InvalidInput(
                f"{name}:{number}: has more than {_LONGEST_LINE / 1e6:.0f} MB. Break the line."
            )
        yield number, decode(content, name, position)
        position += len(content)


def decode(data: bytes, name: str, first: int = 0) -> str:
    """UTF-8 text, a byte-order mark at its beginning removed: files that were joined have some inside.

    Args:
        first: position of data[0] in the file, for the message.
    Raises:
        InvalidInput: it is not UTF-8; names the byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        is_utf16 = first == 0 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        source = "utf-16" if is_utf16 else "latin1"
        raise InvalidInput(
            f"{name}: is not UTF-8 at byte {first + error.start}. Convert it, e.g. with "
            f'"iconv -f {source} -t utf-8 {shlex.quote(name)}".'
        ) from error


def decode_json(line: str | bytes) -> Any:
    """The value of some JSON. Halves of characters, which JSON can escape and UTF-8 cannot hold, are U+FFFD.

    Raises:
        ValueError: it is not JSON.
    """
    if isinstance(line, bytes):
        line = line.decode("utf-8-sig")
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError):
        if "\\u" not in line and line.isascii():
            raise
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # Also for a mistake behind the half of a character, which is then said as this parser says it.
    return _cleaned(json.loads(line, parse_constant=_refuse))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if isinstance(value, dict):
        return {clean_text(key): _cleaned(each) for key, each in value.items()}
    return value
