"""Gives documents of an index other metadata; their vectors are copied as they are (see `copies`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from latebolt.arrays import Int64
from latebolt.errors import InvalidInput
from latebolt.index.documents.checked import check_metadata, same_metadata
from latebolt.index.documents.texts_reader import decoded_metadata
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
        return found

    return changed


def _without(metadata: Metadata, name: str) -> Metadata:
    """Without the field, in whatever way its dotted name is spelt, as filters find it."""
    kept = {}
    for key, value in metadata.items():
        if key != name:
            kept[key] = _value_without(value, name[len(key) + 1 :]) if name.startswith(f"{key}.") else value
    return kept


def _value_without(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return _without(value, name)
    return [_value_without(each, name) for each in value] if isinstance(value, list) else value


def _with(metadata: Metadata, name: str, value: Any) -> Metadata:
    """With the value where the field is, or in the object that its name leads to, or under its name."""
    if name not in metadata:
        for key, inner in metadata.items():
            if name.startswith(f"{key}.") and isinstance(inner, Mapping):
                return {**metadata, key: _with(inner, name[len(key) + 1 :], value)}
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
        path = segment.texts.path
        for firsts in _chosen(segment, ids, where):
            labels = []
            for id, first, _, before in segment.known(firsts):
                after = check_metadata(change(decoded_metadata(path, first, before)), f"metadata of {id!r}")
                if not same_metadata(before, after):
                    labels.append(Label(first, id, after))
            n_found += len(firsts)
            n_changed += len(labels)
            if labels:
                copies.copy(segment, labels)
    return n_found, n_changed


def _chosen(segment: Segment, ids: Sequence[str] | None, where: Where | None) -> Iterator[Int64]:
    firsts = segment.firsts_of(segment.chosen(ids, where))
    for start in range(0, len(firsts), _BATCH):
        yield firsts[start : start + _BATCH]
