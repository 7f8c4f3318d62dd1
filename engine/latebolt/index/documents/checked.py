"""Checks documents at the door of an index, once: id, text and metadata, which becomes JSON on the way.

A `CheckedDocument` is the proof: what has one, in an addition, in a queue or in a segment, looks no more.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from latebolt.checks import check_many, clean_text
from latebolt.errors import InvalidInput
from latebolt.index.documents.documents import Metadata, plain_scalar
from latebolt.index.documents.origins import Origin, Place

MAX_DEPTH: Final = 64
# Nothing can be wrong with a value of these: half a character in a string is found by the encoder of JSON.
_SOUND: Final = frozenset((str, int, bool, type(None)))


class CheckedDocument(msgspec.Struct, frozen=True, gc=False):
    """A document that fits: some objects, none of which the garbage collector visits.

    A large addition is tens of thousands of these, and a collection stops every thread while it lasts.

    Args:
        id: "" until it gets a free number.
        metadata: as JSON.
        place: says where a stretch of the text stands in what it was read from; None where nobody can.
        breaks: ascending characters of the text before which it is rather cut than elsewhere.
        origin: of a passage, or of a text that is not cut; None before that is known.
    """

    id: str
    text: str | None
    metadata: str | None
    place: Place | None = None
    breaks: tuple[int, ...] = ()
    origin: Origin | None = None

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return len(self.id) + len(self.text or "") + len(self.metadata or "")


def check_documents(
    n: int,
    ids: Sequence[str] | None,
    texts: Sequence[str | None] | None,
    metadata: Sequence[Metadata | None] | None,
    first: int = 0,
    need_texts: bool = False,
    places: Sequence[Place | None] | None = None,
    breaks: Sequence[Sequence[int] | None] | None = None,
) -> list[CheckedDocument]:
    """n documents; halves of characters become U+FFFD.

    Args:
        ids, texts, metadata, places, breaks: one entry each, or None for none at all.
        first: position of the first in what the caller was given, for messages.
        need_texts: each has a text, and not None.
    Raises:
        InvalidInput: one of the five has another length, an id is not a non-empty string, a text is no
            string, metadata is no JSON object, a place cannot be called, breaks are no ascending ints; names
            the position.
    """
    named = {"texts": texts, "ids": ids, "metadata": metadata, "places": places, "breaks": breaks}
    for name, values in named.items():
        if values is not None and len(values) != n:
            raise InvalidInput(f"{name} should have one entry a document, {n} in all, got {len(values)}.")
    given_columns = (ids, texts, metadata, places, breaks)
    columns: list[Iterable[Any]] = [itertools.repeat(None, n) if c is None else c for c in given_columns]
    found = []
    for i, id, text, given, place, cuts in zip(range(first, first + n), *columns, strict=True):
        if text is not None or need_texts:
            if not isinstance(text, str):
                wanted = "str" if need_texts else "a string or None"
                raise InvalidInput(f"texts[{i}] should be {wanted}, got {type(text).__name__}.")
            text = clean_text(text)
        name = "" if ids is None else _checked_id(id, i)
        content = None if given is None else check_metadata(given, f"metadata[{i}]")
        if place is not None and not callable(place):
            raise InvalidInput(f"places[{i}] should be a function or None, got {type(place).__name__}.")
        found.append(CheckedDocument(name, text, content, place, _checked_breaks(cuts, i)))
    return found


def _checked_breaks(breaks: Sequence[int] | None, position: int) -> tuple[int, ...]:
    if breaks is None:
        return ()
    given = tuple(breaks)
    if not all(isinstance(each, int) for each in given) or list(given) != sorted(given):
        raise InvalidInput(
            f"breaks[{position}] should be ascending characters of the text, got {given!r:.60}."
        )
    return given


def with_ids(documents: Sequence[CheckedDocument], ids: Iterable[str]) -> list[CheckedDocument]:
    """Documents without ids with these."""
    return [
        CheckedDocument(id, each.text, each.metadata, each.place, each.breaks)
        for each, id in zip(documents, ids, strict=True)
    ]


def check_ids(ids: Iterable[str]) -> list[str]:
    """Ids as documents are stored by them.

    Raises:
        InvalidInput: one is not a string that has a character; names the position.
    """
    return [_checked_id(id, i) for i, id in enumerate(ids)]


def wanted_ids(ids: Iterable[str]) -> list[str]:
    """Ids of documents that somebody asks for, as they are stored; "" is nobody's.

    Raises:
        InvalidInput: one is no string; names the position.
    """
    names = []
    for i, id in enumerate(ids):
        if not isinstance(id, str):
            raise InvalidInput(f"ids[{i}] should be a string, got {id!r}.")
        names += [clean_text(id)] if id else []
    return names


def chosen_ids(ids: Sequence[str] | None, where: object) -> list[str] | None:
    """Ids of documents that are to be changed, as they are stored; None for all that pass the filter.

    Raises:
        InvalidInput: neither is given, the filter is an empty dict, or ids is no list of str.
    """
    if ids is None and where is None:
        raise InvalidInput("give ids or where: which documents.")
    if ids is None:
        if isinstance(where, Mapping) and not where:
            raise InvalidInput('where: {} is every document. If that is meant, say "exists(id)".')
        return None
    check_many(ids, "ids")
    return wanted_ids(ids)


def _checked_id(id: Any, position: int) -> str:
    if not isinstance(id, str) or not id:
        raise InvalidInput(f"ids[{position}] should be a non-empty string, got {id!r}.")
    return clean_text(id)


def check_metadata(metadata: Metadata | None, name: str) -> str | None:
    """Metadata as JSON.

    Args:
        name: what the message calls it.
    Raises:
        InvalidInput: it is no JSON object; names the path of the first value that JSON cannot hold.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"{name} should be a dict or None, got {type(metadata).__name__}.")
    _check_members(metadata, name, "", 1)
    try:
        return msgspec.json.encode(metadata).decode()
    except (TypeError, ValueError, OverflowError):
        # Subclasses of float and int, integers beyond 64 bits, NumPy's numbers, halves of characters.
        return json.dumps(_plain(metadata), ensure_ascii=False, allow_nan=False)


def same_metadata(one: str | None, other: str | None) -> bool:
    """Whether two documents' metadata, as JSON, say the same. 1 and true do not; {} and none do."""
    return one == other or _canonical(one) == _canonical(other)


def _canonical(metadata: str | None) -> str:
    return json.dumps(json.loads(metadata or "{}"), sort_keys=True)


def _check_members(metadata: Metadata, name: str, prefix: str, depth: int) -> None:
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise InvalidInput(f"{_at(name, prefix)} has the key {key!r}; keys should be strings.")
        if type(value) not in _SOUND:
            _check_value(value, name, prefix + key, depth)


def _check_value(value: Any, name: str, path: str, depth: int) -> None:
    value = plain_scalar(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(
                f"{_at(name, path)} is {value!r}, which JSON cannot hold. Use null or leave it out."
            )
    elif isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            raise InvalidInput(f"{_at(name, path)} is nested more than {MAX_DEPTH} levels deep. Flatten it.")
        if isinstance(value, Mapping):
            _check_members(value, name, f"{path}.", depth + 1)
            return
        for element in value:
            if type(element) not in _SOUND:
                _check_value(element, name, path, depth + 1)
    elif value is not None and not isinstance(value, str | int):
        raise InvalidInput(
            f"{_at(name, path)} is a {type(value).__name__}, which JSON cannot hold. Use a string, number, "
            f"boolean, null, list or dict."
        )


def _at(name: str, path: str) -> str:
    path = clean_text(path.removesuffix("."))
    return f"{name}.{path}" if path else name


def _plain(value: Any) -> Any:
    """A value that was checked, of Python's own types."""
    value = plain_scalar(value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
