"""What filters see of a document: its metadata as leaf values, and how these compare with a filter's. Pure.

Metadata here was checked when it came in (see `checked`), or is read back from its JSON.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from latebolt.errors import InvalidInput
from latebolt.index.documents.origins import Origin

Metadata = Mapping[str, Any]

NULL: Final = 0
BOOL: Final = 1
NUMBER: Final = 2
STRING: Final = 3
CONTAINER: Final = 4  # an object or a list: it can exist, its leaves can be compared
LONG_STRING: Final = 5  # on disk only: the first LONG_STRING_PREFIX characters of a longer string
LONG_STRING_PREFIX: Final = 200

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
    """One document or passage of one as a segment's database holds it; `json` is its metadata."""

    id: str
    text: str | None
    json: str | None
    leaves: Sequence[Leaf]
    origin: Origin | None = None


def leaves(metadata: Metadata | None) -> list[Leaf]:
    """Every value that a filter can name, of metadata that was checked.

    `{"a": {"b": [1, "x"]}}` has the containers `a` and `a.b` and, both at `a.b`, the number 1 and the string
    "x". Null and containers carry the value 0.
    """
    found: list[Leaf] = []
    if metadata is not None:
        _collect_members(found, metadata, "")
    return found


def _collect_members(found: list[Leaf], metadata: Metadata, prefix: str) -> None:
    for key, value in metadata.items():
        _collect(found, prefix + key, value)


def _collect(found: list[Leaf], path: str, value: Any) -> None:
    if isinstance(value, str):
        found.append(Leaf(path, STRING, value))
    elif value is None:
        found.append(Leaf(path, NULL, 0))
    elif isinstance(value, bool):
        found.append(Leaf(path, BOOL, int(value)))
    elif isinstance(value, int | float):
        found.append(Leaf(path, NUMBER, number(value)))
    else:
        found.append(Leaf(path, CONTAINER, 0))
        if isinstance(value, Mapping):
            _collect_members(found, value, f"{path}.")
        else:
            for element in value:
                _collect(found, path, element)


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


def plain_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A copy of `value` as its JSON reads; InvalidInput naming `what` if it has none."""
    try:
        return dict(msgspec.json.decode(msgspec.json.encode(dict(value))))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} should be a dict of JSON values: {error}.") from error
