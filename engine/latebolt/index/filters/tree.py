"""The meaning of a filter: a small frozen tree, and whether one document passes it.

Meaning:
- `id` is the document's id, a string; a whole number stands for its digits. Any other field is metadata;
  dots reach into objects, and a list stands for each of its elements, so `tag = "a"` is true for
  {"tag": ["a", "b"]}.
- A comparison with a missing field, or with a value of another type, is false. Types are string, number,
  boolean, null; strings order by code point.
- `f != v` is `exists(f) and not f = v`; `f not in (..)` likewise. `exists(f)` is true for null.
- `not` is plain negation, so `not f = v` is true for a document without f.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from latebolt.checks import clean_text
from latebolt.errors import InvalidInput
from latebolt.index.documents import documents
from latebolt.index.documents.documents import Leaf, Metadata, Value, compare, plain_scalar

MAX_DEPTH: Final = 100
MOST_VALUES: Final = 100_000  # of one list
ID: Final = "id"
KIND_NAMES: Final = {
    documents.NULL: "null",
    documents.BOOL: "boolean",
    documents.NUMBER: "number",
    documents.STRING: "string",
}


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


def literal(value: Any, where: str) -> Value:
    """A value of Python or NumPy as literal; `where` says in a message where it stood."""
    value = plain_scalar(value)
    if value is None:
        return Value(documents.NULL, 0)
    if isinstance(value, bool):
        return Value(documents.BOOL, int(value))
    if isinstance(value, int | float) and (isinstance(value, int) or math.isfinite(value)):
        return Value(documents.NUMBER, documents.number(value))
    if isinstance(value, str):
        return Value(documents.STRING, clean_text(value))
    raise InvalidInput(f"{where} should be a string, a finite number, a boolean or null, got {value!r}.")


def comparison(field: str, op: str, value: Value, where: str) -> Expr:
    """`field op value`, with != spelled out."""
    if field == ID:
        value = _id_literal(value, where, op in ("=", "!="))
    if op == "!=":
        return AllOf((Exists(field), Not(Compare(field, "=", value))))
    if op != "=" and value.kind not in (documents.NUMBER, documents.STRING):
        raise InvalidInput(f"{where}: {op} needs a number or a string, got {KIND_NAMES[value.kind]}.")
    return Compare(field, op, value)


def membership(field: str, values: tuple[Value, ...], negated: bool, where: str) -> Expr:
    """`field in (values)` or `field not in (values)`.

    Raises:
        InvalidInput: there are more values than a filter may hold.
    """
    if len(values) > MOST_VALUES:
        raise InvalidInput(
            f"{where}: a list of a filter should have at most {MOST_VALUES} values, got {len(values)}. Give "
            "the documents a field that says which belong together, or search several times with a part."
        )
    if field == ID:
        values = tuple(_id_literal(value, where, True) for value in values)
    inside = In(field, values)
    return AllOf((Exists(field), Not(inside))) if negated else inside


def any_of(field: str, values: Iterable[str]) -> In:
    """`field in (values)` for a program that made the list: any number of values, each asked for once."""
    return In(field, tuple(literal(value, f"a value of {field}") for value in dict.fromkeys(values)))


def _id_literal(value: Value, where: str, equality: bool) -> Value:
    """Ids are strings, and people type those that are numbers as numbers: 1 means "1"."""
    if value.kind == documents.STRING:
        return value
    if value.kind == documents.NUMBER and equality and float(value.value).is_integer():
        return Value(documents.STRING, str(int(value.value)))
    raise InvalidInput(f"{where}: ids are strings, so id is compared with one; got {value.value!r}.")
