"""Tells a filter's field that no document has: a name mistyped would find nothing, silently.

A name near one that documents have is refused as a slip of the hand. Any other may come with later documents,
as in an index that is still growing, so it is answered as it stands (no document has it) and logged once.
`exists(field)`, anywhere in the filter, says that documents may lack it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from latebolt.errors import InvalidInput
from latebolt.index.filters.parse_dict import Where, parse_where
from latebolt.index.filters.tree import ID, AllOf, AnyOf, Compare, Exists, Expr, In, Not
from latebolt.index.store.segment import Segment

_NEAR: Final = 0.7  # of difflib's ratio: "yeer" and "year" have 0.75, "from" and "form" too
_LOOKED_AT: Final = 2_000  # fields that are compared with the unknown one
_MOST_WARNED: Final = 1_000

logger = logging.getLogger("latebolt")
_warned: set[tuple[str, str]] = set()


def check_fields(segments: Sequence[Segment], where: Where | None) -> None:
    """Look whether documents have the fields of a filter; without documents or metadata none is missed.

    Raises:
        InvalidInput: no document has a field, and one of nearly that name is there; names both.
    """
    if segments and (missing := missing_fields(segments, where)):
        judge_fields(missing, known_fields(segments), str(segments[0].folder.parent.parent))


def missing_fields(segments: Sequence[Segment], where: Where | None) -> list[str]:
    """Fields that a filter compares, does not call optional, and no document has."""
    if where is None:
        return []
    expr = parse_where(where)
    optional = set(_asked_for(expr))
    return [
        field
        for field in dict.fromkeys(_compared(expr))
        if field != ID and field not in optional and not any(each.has_field(field) for each in segments)
    ]


def known_fields(segments: Sequence[Segment]) -> list[str]:
    """Fields that documents have, of many a part."""
    return sorted({each for segment in segments for each in segment.texts.fields(_LOOKED_AT)})


def judge_fields(missing: Sequence[str], known: Sequence[str], place: str) -> None:
    """Say what is to be said of the fields of a filter that no document has.

    Args:
        known: fields that documents have; nothing is said where there are none.
        place: the index, for the log.
    Raises:
        InvalidInput: one of nearly the name of a missing one is there; names both.
    """
    for field in missing if known else ():
        import difflib  # only who mistypes waits for it

        near = difflib.get_close_matches(field, known, 1, _NEAR)
        if near:
            raise InvalidInput(
                f'where: no document has the field "{field}"; there is "{near[0]}". If later documents may '
                f"have it, say so: exists({field}) and ..."
            )
        if (place, field) not in _warned and len(_warned) < _MOST_WARNED:
            _warned.add((place, field))
            logger.warning(
                '%s: no document has the field "%s", which a filter compares; there are %s.',
                place, field, ", ".join(known[:10]),
            )  # fmt: skip


def _negated(expr: Expr) -> Compare | In | None:
    """The comparison in `f != v` and `f not in (..)`, which the tree spells with an exists of their own."""
    match expr:
        case AllOf((Exists(field), Not(Compare() | In() as inner))) if inner.field == field:
            return inner
    return None


def _compared(expr: Expr) -> Iterator[str]:
    match expr:
        case Compare(field) | In(field):
            yield field
        case Not(inner):
            yield from _compared(inner)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _compared(part)


def _asked_for(expr: Expr) -> Iterator[str]:
    if _negated(expr) is not None:
        return
    match expr:
        case Exists(field):
            yield field
        case Not(inner):
            yield from _asked_for(inner)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _asked_for(part)
