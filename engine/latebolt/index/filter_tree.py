"""The meaning of a filter: a small frozen tree, and whether one document passes it.

Meaning:
- `id` is the document's id. Any other field is metadata; dots reach into objects, and a list stands for each
  of its elements, so `tag = "a"` is true for {"tag": ["a", "b"]}.
- A comparison with a missing field, or with a value of another type, is false. Types are string, number,
  boolean, null; strings order by code point.
- `f != v` is `exists(f) and not f = v`; `f not in (..)` likewise. `exists(f)` is true for null.
- `not` is plain negation, so `not f = v` is true for a document without f.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from latebolt.errors import InvalidInput
from latebolt.index import documents
from latebolt.index.documents import Leaf, Metadata, check_unicode

MAX_DEPTH: Final = 100
ID: Final = "id"
KIND_NAMES: Final = {
    documents.NULL: "null",
    documents.BOOL: "boolean",
    documents.NUMBER: "number",
    documents.STRING: "string",
}
_TESTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Value:
    """A literal. The kind is part of it because 1 and true are equal to Python and not to a filter."""

    kind: int
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Compare:
    """`field op value`; op is one of = < <= > >=."""

    field: str
    op: str
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """`field in (values)`."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """`exists(field)`."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    expr: Expr


@dataclass(frozen=True, slots=True)
class AllOf:
    """True if every part is; without parts, true."""

    parts: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if some part is."""

    parts: tuple[Expr, ...]


Expr = Compare | In | Exists | Not | AllOf | AnyOf


def matches(expr: Expr, metadata: Metadata | None, id: str = "") -> bool:
    """Whether one document passes; the definition that the database's answer is tested against."""
    return _holds(
        expr,
        [Leaf(ID, documents.STRING, id), *(leaf for leaf in documents.leaves(metadata) if leaf.path != ID)],
    )


def _holds(expr: Expr, found: list[Leaf]) -> bool:
    match expr:
        case Compare(field, op, value):
            return any(leaf.path == field and compare(leaf, op, value) for leaf in found)
        case In(field, values):
            return any(leaf.path == field and compare(leaf, "=", value) for leaf in found for value in values)
        case Exists(field):
            return any(leaf.path == field for leaf in found)
        case Not(inner):
            return not _holds(inner, found)
        case AllOf(parts):
            return all(_holds(part, found) for part in parts)
        case AnyOf(parts):
            return any(_holds(part, found) for part in parts)


def compare(leaf: Leaf, op: str, value: Value) -> bool:
    """`leaf op value`, false for different types."""
    return leaf.kind == value.kind and _TESTS[op](leaf.value, value.value)


def literal(value: Any, where: str) -> Value:
    """A Python value as literal; `where` says in a message where it stood."""
    if value is None:
        return Value(documents.NULL, 0)
    if isinstance(value, bool):
        return Value(documents.BOOL, int(value))
    if isinstance(value, int | float) and (isinstance(value, int) or math.isfinite(value)):
        return Value(documents.NUMBER, documents.number(value))
    if isinstance(value, str):
        check_unicode(value, where)
        return Value(documents.STRING, value)
    raise InvalidInput(f"{where} should be a string, a finite number, a boolean or null, got {value!r}.")


def check_field(field: str, where: str) -> None:
    """Raise InvalidInput for a name that no stored document can have."""
    check_unicode(field, where)


def comparison(field: str, op: str, value: Value, where: str) -> Expr:
    """`field op value`, with != spelled out."""
    if op == "!=":
        return AllOf((Exists(field), Not(Compare(field, "=", value))))
    if op != "=" and value.kind not in (documents.NUMBER, documents.STRING):
        raise InvalidInput(f"{where}: {op} needs a number or a string, got {KIND_NAMES[value.kind]}.")
    return Compare(field, op, value)


def membership(field: str, values: tuple[Value, ...], negated: bool) -> Expr:
    """`field in (values)` or `field not in (values)`."""
    inside = In(field, values)
    return AllOf((Exists(field), Not(inside))) if negated else inside
