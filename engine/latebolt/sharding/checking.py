"""Verifies a shard set: its description, every byte of its shards, and where its documents are."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from latebolt.errors import IndexCorrupt, IndexUnusable
from latebolt.index.store.check import Damage, check_index
from latebolt.index.store.store import Store
from latebolt.sharding.placement import shards_of
from latebolt.sharding.set_file import read_set, shard_folder, shard_setting

_IDS = 1 << 16  # looked at at a time


def check_set(path: str | Path) -> list[Damage]:
    """Check a set as `check_index` checks an index.

    Returns:
        All problems found; empty if the set is whole.
    Raises:
        IndexNotFound: there is no set.
    """
    folder = Path(path)
    try:
        n = read_set(folder).shards
    except IndexCorrupt as error:
        return [_problem(error)]
    problems: list[Damage] = []
    for number in range(n):
        place = shard_folder(folder, number)
        try:
            found = check_index(place)
            problems += found or _strangers(place, number, n)
        except IndexUnusable as error:  # not there, or not to be read
            problems.append(Damage(place, "existence", str(error)))
    return problems


def _strangers(place: Path, number: int, n: int) -> list[Damage]:
    """What is wrong with a sound index as that shard."""
    with closing(Store.open(place)) as store:
        snapshot = store.snapshot()
        if shard_setting(snapshot.settings) != (number, n):
            said = f"{place}: is not shard {number} of {n} by its settings. Put the shard's own folder there."
            return [Damage(place, "settings", said)]
        strangers = 0
        for segment in snapshot.segments:
            firsts = segment.live_firsts()
            for start in range(0, len(firsts), _IDS):
                places = shards_of(segment.ids(firsts[start : start + _IDS]), n)
                strangers += int((places != number).sum())
    if not strangers:
        return []
    said = (
        f"{place}: {strangers} of its documents belong to other shards: they were not added through the set. "
        f"Delete them there, and add them to the set."
    )
    return [Damage(place, "documents", said)]


def _problem(error: IndexCorrupt) -> Damage:
    return Damage(Path(str(error.path)), error.field, str(error))
