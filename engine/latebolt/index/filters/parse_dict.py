"""Turns what a caller may pass as `where`, a string, a dict or a tree, into the tree.

The dict form: every member must hold. A member is a field with a value (equality), a field with a dict of
operators, or one of `and` (list of dicts), `or` (list of dicts) and `not` (dict):

    {"lang": "en", "year": {">=": 2020, "<": 2024}, "tag": {"in": ["a", "b"]},
     "or": [{"draft": False}, {"author.name": {"exists": True}}], "not": {"tag": "old"}}

`filter_tree` says what the operators mean, `filter_text` reads the string form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from latebolt.checks import clean_text
from latebolt.errors import InvalidInput
from latebolt.index.filters.parse_text import parse_text
from latebolt.index.filters.tree import (
    MAX_DEPTH,
    AllOf,
    AnyOf,
    Exists,
    Expr,
    Not,
    comparison,
    literal,
    matches,
    membership,
)

__all__ = ["Expr", "Where", "matches", "parse_where"]

Where = str | Mapping[str, Any] | Expr


def parse_where(where: Where) -> Expr:
    """The tree of a filter given as string, dict or tree.

    Raises:
        InvalidInput: naming the position in a string, the member in a dict, and what was expected there.
    """
    if isinstance(where, str):
        return parse_text(where)
    if isinstance(where, Mapping):
        return _from_dict(where, "where", 0)
    if isinstance(where, Expr):
        return where
    raise InvalidInput(f"where should be a string or a dict, got {type(where).__name__}.")


_LISTS: Final = (list, tuple, set, frozenset, range, np.ndarray)
_OPS: Final = ("=", "!=", "<", "<=", ">", ">=", "in", "not in", "exists")


def _from_dict(where: Any, at: str, depth: int) -> Expr:
    if not isinstance(where, Mapping):
        raise InvalidInput(f"{at} should be a dict, got {type(where).__name__}.")
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{at[:80]}... is nested more than {MAX_DEPTH} levels deep.")
    parts: list[Expr] = []
    for key, value in where.items():
        inner = f"{at}[{key!r}]"
        if not isinstance(key, str):
            raise InvalidInput(f"{at}: keys should be field names, got {key!r}.")
        key = clean_text(key)
        if key == "not":
            parts.append(Not(_from_dict(value, inner, depth + 1)))
        elif key in ("and", "or"):
            if not isinstance(value, list | tuple):
                raise InvalidInput(f"{inner} should be a list of dicts, got {type(value).__name__}.")
            group = tuple(_from_dict(part, f"{inner}[{i}]", depth + 1) for i, part in enumerate(value))
            parts.append(AllOf(group) if key == "and" else AnyOf(group))
        elif isinstance(value, Mapping):
            parts.extend(_test(key, op, operand, f"{inner}[{op!r}]") for op, operand in value.items())
        elif isinstance(value, _LISTS):
            raise InvalidInput(f"{inner} is a list. Write {{{key!r}: {{'in': [...]}}}}.")
        else:
            parts.append(comparison(key, "=", literal(value, inner), inner))
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _test(field: str, op: Any, operand: Any, at: str) -> Expr:
    if op == "exists":
        if not isinstance(operand, bool):
            raise InvalidInput(f"{at} should be True or False, got {operand!r}.")
        return Exists(field) if operand else Not(Exists(field))
    if op in ("in", "not in"):
        if not isinstance(operand, _LISTS):
            raise InvalidInput(f"{at} should be a list, got {type(operand).__name__}.")
        values = tuple(literal(value, f"{at}[{i}]") for i, value in enumerate(operand))
        return membership(field, values, op == "not in", at)
    if op not in _OPS and op != "==":
        raise InvalidInput(
            f"{at}: expected one of {', '.join(_OPS)}. A nested field is written {field + '.name'!r}."
        )
    return comparison(field, "=" if op == "==" else op, literal(operand, at), at)
