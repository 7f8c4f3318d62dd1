"""What a document may be, apart from its vectors: a string id, a text or None, metadata or None.

Pure: checks the three, turns metadata into JSON and into leaf values, and compares those with a filter's.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from latebolt.checks import clean_text
from latebolt.errors import InvalidInput

Metadata = Mapping[str, Any]

NULL: Final = 0
BOOL: Final = 1
NUMBER: Final = 2
STRING: Final = 3
CONTAINER: Final = 4  # an object or a list: it can exist, its leaves can be compared
LONG_STRING: Final = 5  # on disk only: the first LONG_STRING_PREFIX characters of a longer string
LONG_STRING_PREFIX: Final = 200

MAX_DEPTH: Final = 64
_TESTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_INT64 = range(-(1 << 63), 1 << 63)


class Leaf(NamedTuple):
    """One value inside metadata. `path` joins keys with dots; elements of a list share the list's path."""

    path: str
    kind: int
    value: Any


@dataclass(frozen=True, slots=True)
class Value:
    """A literal of a filter. The kind is part of it: 1 and true are equal to Python, and not to a filter."""

    kind: int
    value: str | int | float


def compare(leaf: Leaf, op: str, value: Value) -> bool:
    """`leaf op value`, false for different types."""
    return leaf.kind == value.kind and _TESTS[op](leaf.value, value.value)


class Row(NamedTuple):
    """One document or passage of one, checked, as a segment stores it."""

    id: str
    text: str | None
    json: str | None
    leaves: tuple[Leaf, ...]
    passage: int = 0  # its number within the document
    truncated: bool = False  # whether the model did not read its end


def leaves(metadata: Metadata | None) -> Iterator[Leaf]:
    """Every value that a filter can name.

    `{"a": {"b": [1, "x"]}}` has the containers `a` and `a.b` and, both at `a.b`, the number 1 and the string
    "x". Null and containers carry the value 0.
    Raises:
        InvalidInput: naming the path of the first value that JSON cannot hold.
    """
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f" should be a dict or None, got {type(metadata).__name__}.")
    yield from _members(metadata, "", 1)


def _members(metadata: Metadata, prefix: str, depth: int) -> Iterator[Leaf]:
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise InvalidInput(f"{_at(prefix)} has the key {key!r}; keys should be strings.")
        yield from _values(value, prefix + clean_text(key), depth)


def _values(value: Any, path: str, depth: int) -> Iterator[Leaf]:
    value = plain_scalar(value)
    if isinstance(value, str):
        yield Leaf(path, STRING, clean_text(value))
    elif value is None:
        yield Leaf(path, NULL, 0)
    elif isinstance(value, bool):
        yield Leaf(path, BOOL, int(value))
    elif isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput(f"{_at(path)} is {value!r}, which JSON cannot hold. Use null or leave it out.")
        yield Leaf(path, NUMBER, number(value))
    elif isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            raise InvalidInput(f"{_at(path)} is nested more than {MAX_DEPTH} levels deep. Flatten it.")
        yield Leaf(path, CONTAINER, 0)
        if isinstance(value, Mapping):
            yield from _members(value, f"{path}.", depth + 1)
        else:
            for element in value:
                yield from _values(element, path, depth + 1)
    else:
        raise InvalidInput(
            f"{_at(path)} is a {type(value).__name__}, which JSON cannot hold. Use a string, number, "
            f"boolean, null, list or dict."
        )


def _at(path: str) -> str:
    path = path.removesuffix(".")
    return f".{path}" if path else ""


def plain_scalar(value: Any) -> Any:
    """A scalar of NumPy's as Python's; anything else as it is."""
    if isinstance(value, np.generic):
        value = value.item()
        return float(value) if isinstance(value, np.longdouble) else value
    return value


def number(value: int | float) -> int | float:
    """A number as filters compare it: exact within 64 bits, beyond that the nearest float."""
    if isinstance(value, int) and value not in _INT64:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def decode_metadata(content: str | None) -> dict[str, Any] | None:
    """Metadata from its JSON."""
    return None if content is None else msgspec.json.decode(content)


def check_documents(
    ids: Sequence[str],
    texts: Sequence[str | None] | None,
    metadata: Sequence[Metadata | None] | None,
    first: int = 0,
) -> list[Row]:
    """Check documents and encode them; halves of characters become U+FFFD.

    Args:
        first: position of ids[0] in what the caller was given, for messages.
    Raises:
        InvalidInput: lengths differ; an id is not a non-empty string; a text is neither str nor None;
            metadata is no JSON object.
    """
    for name, values in (("texts", texts), ("metadata", metadata)):
        if values is not None and len(values) != len(ids):
            raise InvalidInput(f"{name} should have one entry an id ({len(ids)}), got {len(values)}.")
    rows = []
    for i, id_ in enumerate(ids):
        position = first + i
        id_ = check_id(id_, f"ids[{position}]")
        text = None if texts is None else texts[i]
        if text is not None:
            if not isinstance(text, str):
                raise InvalidInput(
                    f"texts[{position}] should be a string or None, got {type(text).__name__}."
                )
            text = clean_text(text)
        content, found = _encode(None if metadata is None else metadata[i], position)
        rows.append(Row(id_, text, content, found))
    return rows


def check_id(id: str, name: str) -> str:
    """An id as documents are stored by it.

    Raises:
        InvalidInput: it is not a string that has a character.
    """
    if not isinstance(id, str) or not id:
        raise InvalidInput(f"{name} should be a non-empty string, got {id!r}.")
    return clean_text(id)


def _encode(metadata: Metadata | None, position: int) -> tuple[str | None, tuple[Leaf, ...]]:
    if metadata is None:
        return None, ()
    try:
        found = tuple(leaves(metadata))
    except InvalidInput as error:
        raise InvalidInput(f"metadata[{position}]{error}") from None
    try:
        content = msgspec.json.encode(metadata).decode()
    except (TypeError, ValueError, OverflowError):
        # Subclasses of float and int, integers beyond 64 bits, NumPy's numbers, halves of characters.
        content = json.dumps(_plain(metadata), ensure_ascii=False, allow_nan=False)
    return content, found


def _plain(value: Any) -> Any:
    """A value that `leaves` has seen, of Python's own types."""
    value = plain_scalar(value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def plain_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A copy of `value` as its JSON reads; InvalidInput naming `what` if it has none."""
    try:
        return dict(msgspec.json.decode(msgspec.json.encode(dict(value))))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} should be a dict of JSON values: {error}.") from error
