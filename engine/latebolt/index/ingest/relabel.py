"""Gives documents of an index other metadata; their vectors are copied as they are (see `copies`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from latebolt.arrays import Int64
from latebolt.errors import InvalidInput
from latebolt.index.documents.checked import check_metadata
from latebolt.index.filters.parse_dict import Where
from latebolt.index.ingest.copies import Copies, Label
from latebolt.index.store.segment import Segment

Metadata = Mapping[str, Any]
Change = Callable[[Metadata | None], Metadata | None]

_BATCH: Final = 512  # documents looked at a time


def change_of(set: Metadata | None, unset: Collection[str] | None, replace: Metadata | None) -> Change:
    """What becomes of a document's metadata.

    Args:
        set: fields that get these values, whatever was there; a dotted name is one inside another.
        unset: fields that go; a dotted name is one inside another.
        replace: all of the metadata, instead of what was there.
    Raises:
        InvalidInput: none of the three, `replace` with another, a field both set and unset, or a value that
            JSON cannot hold.
    """
    if isinstance(unset, str):
        raise InvalidInput(f"unset should be a list of names, got {unset!r}. Put it in a list.")
    gone = list(unset or ())
    for i, name in enumerate(gone):
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"unset[{i}] should be the name of a field, got {name!r}.")
    check_metadata(set, "set")
    check_metadata(replace, "replace")
    if replace is not None:
        if set or gone:
            raise InvalidInput("give replace, or set and unset, not both.")
        return lambda metadata: replace
    if not set and not gone:
        raise InvalidInput("there is nothing to change: give set, unset or replace.")
    if both := sorted(name for name in gone if name in (set or {})):
        raise InvalidInput(f"{both[0]!r} should be in set or in unset, not in both.")
    given = dict(set or {})

    def changed(metadata: Metadata | None) -> Metadata | None:
        found: Metadata = metadata or {}
        for name in gone:
            found = _without(found, name)
        for name, value in given.items():
            found = _with(found, name, value)
        return found or None

    return changed


def _without(metadata: Metadata, name: str) -> Metadata:
    if name in metadata:
        return {key: value for key, value in metadata.items() if key != name}
    key, _, rest = name.partition(".")
    inner = metadata.get(key)
    return {**metadata, key: _without(inner, rest)} if rest and isinstance(inner, Mapping) else metadata


def _with(metadata: Metadata, name: str, value: Any) -> Metadata:
    key, _, rest = name.partition(".")
    inner = metadata.get(key)
    if rest and name not in metadata and isinstance(inner, Mapping):
        return {**metadata, key: _with(inner, rest, value)}
    return {**metadata, name: value}


def relabel(
    segments: Sequence[Segment],
    copies: Copies,
    change: Change,
    ids: Sequence[str] | None,
    where: Where | None,
) -> tuple[int, int]:
    """Change the metadata of the documents of these ids that pass the filter, None for all.

    Returns:
        Documents found, and those of them that have other metadata now.
    Raises:
        InvalidInput: the filter cannot be read, or what a document's metadata become does not fit.
    """
    n_found = n_changed = 0
    for segment in segments:
        for firsts in _chosen(segment, ids, where):
            labels = []
            for (id, metadata), first in zip(segment.labels(firsts), firsts.tolist(), strict=True):
                after = change(metadata)
                if after != metadata:
                    labels.append(Label(first, id, check_metadata(after, f"metadata of {id!r}")))
            n_found += len(firsts)
            n_changed += len(labels)
            if labels:
                copies.copy(segment, labels)
    return n_found, n_changed


def _chosen(segment: Segment, ids: Sequence[str] | None, where: Where | None) -> Iterator[Int64]:
    rows = segment.chosen(ids, where)
    firsts = rows if segment.passages is None else rows[segment.passages[rows] == 0]
    for start in range(0, len(firsts), _BATCH):
        yield firsts[start : start + _BATCH]
