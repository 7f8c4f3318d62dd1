"""A large JSON body in pieces: where it can be cut, how deep it is nested and how many values it holds.

Parsing is one call that nothing can interrupt, so a body of many megabytes is parsed a piece at a time, and
whoever else waits comes between two pieces. What is cut are lists that are fields of the body's object. Here
only strings and brackets are told apart; whatever else JSON asks for is found where pieces are parsed, since
every byte is in one of them or in what is left.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from latebolt.arrays import Bool, Int64, Uint8

# Values that a piece may hold: those of one document, or of all that is no list. Parsing them takes 10 ms.
MOST_VALUES: Final = 65_536

_PIECE_BYTES: Final = 1 << 17
_PIECE_VALUES: Final = 4096
_CHUNK: Final = 1 << 18  # bytes that are looked at in one go

_QUOTE, _BACKSLASH, _COMMA, _LIST = ord('"'), ord("\\"), ord(","), ord("[")
_STEPS: Final = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_IS_MARK: Final = _STEPS != 0
_IS_MARK[_COMMA] = True

_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")


class TooDeep(Exception):
    """The nesting has more levels than may be."""


class TooMany(Exception):
    """A list has more entries than may be, or something else more values than can be parsed in one go."""


class Piece(NamedTuple):
    """Neighbouring entries of a list, with the commas between them: body[start:end]."""

    start: int
    end: int
    entries: int


@dataclass(frozen=True)
class Outline:
    """A body cut into pieces.

    Args:
        rest: the body with each list that was cut replaced by a list of one string, its mark.
        lists: mark -> pieces of that list, in order.
    """

    rest: bytes
    lists: dict[str, list[Piece]]

    def pieces_of(self, value: Any) -> list[Piece] | None:
        """The pieces of the list that a field's value stands for; None for a value that was not cut."""
        is_mark = isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
        return self.lists.get(value[0]) if is_mark else None


def outline(
    body: bytes | bytearray, most_depth: int, most_entries: int, piece: int = _PIECE_BYTES
) -> Outline:
    """Find out where a body can be cut.

    Args:
        piece: bytes of one; a longer entry is one of its own, and a shorter list stays in the rest.
    Raises:
        TooDeep, TooMany: it is more than it may be.
    """
    marks = _marks(body, most_depth, most_entries)
    opened = np.flatnonzero(_STEPS[marks.characters] > 0)
    closed = np.flatnonzero(_STEPS[marks.characters] < 0)
    if len(opened) > MOST_VALUES:
        raise TooMany
    if len(opened) != len(closed) or (opened > closed).any() or (closed[:-1] > opened[1:]).any():
        return Outline(bytes(body), {})  # no JSON, as parsing it will find
    at = marks.places
    if not _OBJECT.match(body):  # no fields, so nothing to cut
        opened = closed = opened[:0]
    is_long = (at[closed] - at[opened] > piece) & (marks.characters[opened] == _LIST)
    lists: dict[str, list[Piece]] = {}
    rest: list[bytes | bytearray] = []
    copied, values = 0, marks.total
    secret = secrets.token_hex(8)  # nobody can send such a mark
    for first, last in zip(opened[is_long].tolist(), closed[is_long].tolist(), strict=True):
        mark = f"{secret}:{len(lists)}"
        lists[mark] = list(_cut(at[first : last + 1], marks.numbers[first : last + 1], piece))
        rest += [body[copied : at[first] + 1], f'"{mark}"'.encode()]
        copied = int(at[last])
        values -= int(marks.numbers[last] - marks.numbers[first])
    if values > MOST_VALUES:
        raise TooMany
    return Outline(b"".join([*rest, body[copied:]]), lists)


def _cut(bounds: Int64, numbers: Int64, piece: int) -> Iterator[Piece]:
    """Pieces between bounds: the list's bracket, its commas, its other bracket; `numbers` count values."""
    begin, last = 0, len(bounds) - 1
    while begin < last:
        end = int(np.searchsorted(bounds, bounds[begin] + piece, "right")) - 1
        end = min(end, int(np.searchsorted(numbers, numbers[begin] + _PIECE_VALUES, "right")) - 1)
        end = min(max(end, begin + 1), last)
        if numbers[end] - numbers[begin] > MOST_VALUES:
            raise TooMany
        yield Piece(int(bounds[begin]) + 1, int(bounds[end]), end - begin)
        begin = end


class _Marks(NamedTuple):
    """Brackets and commas of the lists and objects that are fields of the body's object.

    `numbers` says how many brackets and commas, of any depth, stand before each; `total` how many there are.
    """

    places: Int64
    characters: Uint8
    numbers: Int64
    total: int


def _marks(body: bytes | bytearray, most_depth: int, most_entries: int) -> _Marks:
    found: list[tuple[Int64, Uint8, Int64]] = []
    in_string = is_escaped = False
    depth = total = kept = 0
    for start in range(0, len(body), _CHUNK):
        chunk = np.frombuffer(body, np.uint8, min(_CHUNK, len(body) - start), start)
        escaped = _escaped(chunk, is_escaped)
        is_escaped = bool(escaped[-1])
        quotes = np.flatnonzero(chunk == _QUOTE)
        quotes = quotes[~escaped[quotes]]
        places = np.flatnonzero(_IS_MARK[chunk])
        outside = (np.searchsorted(quotes, places) + in_string) % 2 == 0
        in_string = (len(quotes) + in_string) % 2 == 1
        places = places[outside]
        if not len(places):
            continue
        steps = _STEPS[chunk[places]]
        depths = depth + np.cumsum(steps, dtype=np.int64)
        depth = int(depths[-1])
        if depths.max() > most_depth:
            raise TooDeep
        wanted = np.flatnonzero(((depths == 2) & (steps >= 0)) | ((depths == 1) & (steps < 0)))
        found.append((places[wanted] + start, chunk[places[wanted]], wanted + total))
        total += len(places)
        kept += len(wanted)
        if kept > most_entries + MOST_VALUES:
            raise TooMany
    if not found:
        return _Marks(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64), total)
    at, characters, numbers = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _Marks(at, characters, numbers, total)


def _escaped(chunk: Uint8, is_first: bool) -> Bool:
    """Which bytes are escaped by a backslash; one more than the chunk has, for the first of the next."""
    escaped = np.zeros(len(chunk) + 1, np.bool_)
    escaped[0] = is_first
    slashes = np.flatnonzero(chunk == _BACKSLASH)
    if len(slashes):
        begins = np.ones(len(slashes), np.bool_)
        begins[1:] = np.diff(slashes) != 1
        # Where each one's run of backslashes begins; the first of the run escapes the second, and so on.
        run = slashes[np.maximum.accumulate(np.where(begins, np.arange(len(slashes)), 0))]
        if is_first:
            run[run == 0] = 1
        escaped[slashes[(slashes - run) % 2 == 0] + 1] = True
    return escaped
