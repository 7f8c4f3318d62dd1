"""All that the command line prints goes through here, so that no text of others controls a terminal.

A document, its id, its metadata, a file's name or an error's message may hold escape sequences, which would
move the cursor, rename the window or answer for the user. What is printed for people shows them as `\\x1b`;
the few colours that `styled` puts in are all that passes. JSON is for programs and is printed as it is.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, TextIO

import click

# Control characters but for the tab and the line end, and halves of characters, which no encoding can write.
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# What reverses the order that text is read in, so that a line can say something else than it holds.
_REORDERING: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Where results go while `stdout_kept`; None for wherever stdout is.
_result: TextIO | None = None
# The codes of `styled`, as click writes them.
_OURS: Final = re.compile("\x1b\\[(?:0|1|2|32|33)m")


def plain(text: str) -> str:
    """`text` with its control characters written out; tabs and line ends stay."""
    text = text.replace("\r\n", "\n")
    return _REORDERING.sub(_written_out, _UNSAFE.sub(_written_out, text))


def _written_out(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def wants_colours() -> bool:
    """Whether neither the user, by NO_COLOR (https://no-color.org), nor the terminal is against colours."""
    return not os.environ.get("NO_COLOR") and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal, by TERM=dumb, obeys no escape sequence and draws over nothing."""
    return os.environ.get("TERM") == "dumb"


def styled(text: str, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> str:
    """Somebody's text in bold, dim, green or yellow. Plain where colours are not wanted."""
    if not wants_colours():
        return plain(text)
    return click.style(plain(text), fg=fg, bold=bold, dim=dim)


@contextlib.contextmanager
def stdout_kept() -> Iterator[None]:
    """Meanwhile stdout is for the result: what a library prints there, from any thread, goes to stderr.

    Ray prints on stdout what its cluster has to say of tasks, between the lines of JSON that a program reads.
    """
    global _result
    before = _result
    if _result is None:
        _result = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _result = before


def say(text: str = "") -> None:
    """The result, on stdout."""
    click.echo(_passed(text), file=_result)


def note(text: str) -> None:
    """A message beside the result, on stderr."""
    click.echo(_passed(text), err=True)


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes; no by default."""
    return click.confirm(plain(question), err=True)


def _passed(text: str) -> str:
    """The text with its colours, which are all that `plain` has not seen."""
    pieces, end = [], 0
    for found in _OURS.finditer(text):
        pieces += [plain(text[end : found.start()]), found.group()]
        end = found.end()
    return "".join([*pieces, plain(text[end:])])


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(_as_json(value, 2), file=_result)


def print_json_line(value: Any) -> None:
    """One JSON document on one line of stdout, which a program has as soon as it is printed."""
    click.echo(_as_json(value, None), file=_result)


def _as_json(value: Any, indent: int | None) -> str:
    import msgspec

    try:
        content = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file's name that is not UTF-8
        return json.dumps(value, indent=indent)
    return (content if indent is None else msgspec.json.format(content, indent=indent)).decode()


def show_misuse(error: click.ClickException) -> None:
    """What click says of a wrong option or argument, which it repeats."""
    said = io.StringIO()
    error.show(file=said)
    note(said.getvalue().rstrip("\n"))


class _Notes(logging.Handler):
    """Warnings of the library as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"latebolt: {record.getMessage()}")


def prepare() -> None:
    """Have every character printed in some form whatever the locale, and the library's warnings as notes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("latebolt")
    if not logging.getLogger().handlers and not any(isinstance(each, _Notes) for each in logger.handlers):
        logger.addHandler(_Notes(logging.WARNING))
        logger.propagate = False
