"""Removes from a store what no reader needs: commits but the newest, and objects that none of these names.

Removing is a commit itself: it takes the next number, with the newest state once more, before anything goes.
So whoever was about to commit with a look at what was there fails, and looks again; from then on nobody
relies on an object that is older than the commit's `cutoff` and not named. Clocks decide how long things
stay, never whether something is missing. A reader of a commit that goes takes the newest one.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

import msgspec

from latebolt.checks import whole_number
from latebolt.errors import IndexNotFound, PublishConflict
from latebolt.objects import commits
from latebolt.objects.commits import Published
from latebolt.objects.object_store import ObjectStore

GRACE_SECONDS: Final = 24 * 3600.0
"""How long an object that no commit names stays: longer than a publication takes."""
_TRIES: Final = 10  # publications that may overtake one removal
_AT_ONCE: Final = 8

T = TypeVar("T")


class Pruning(NamedTuple):
    """What was removed, or with dry_run would be.

    Args:
        uri: without passwords.
        kept: numbers of the commits that stay.
        commits: how many went.
        objects, bytes: how many objects went, and their size.
        young: objects that no commit names, and that stay since they may belong to one that is being
            published.
    """

    uri: str
    kept: list[int]
    commits: int
    objects: int
    bytes: int
    young: int


class _Plan(NamedTuple):
    newest: Published
    kept: list[int]
    old: list[int]
    objects: dict[str, int]
    young: int
    cutoff: float


def prune(
    store: ObjectStore,
    keep: int = 1,
    grace: float = GRACE_SECONDS,
    *,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
) -> Pruning:
    """Remove all commits but the newest ones, and the objects that only the others name.

    Args:
        keep: commits that stay, at least 1.
        grace: seconds that an object stays which no commit names.
        dry_run: remove nothing; say what would go.
    Raises:
        IndexNotFound: nothing was published there.
        IndexCorrupt: a commit that is to stay is damaged; nothing was removed.
        PublishConflict: so much is being published that there is no moment for it.
        ObjectStoreError: the store refuses, or cannot be reached; run it again.
    """
    keep = whole_number(keep, "keep")
    for _ in range(_TRIES):
        try:
            plan = _plan(store, keep, now() - grace)
        except IndexNotFound:
            raise
        except FileNotFoundError:  # somebody else is removing, too
            continue
        done = Pruning(
            store.uri,
            plan.kept,
            len(plan.old),
            len(plan.objects),
            sum(plan.objects.values()),
            plan.young,
        )
        if dry_run or not (plan.old or plan.objects):
            return done
        if plan.objects:
            claimed = _claim(store, plan)
            if claimed is None:
                continue
            # Its state is the newest one's, which is there twice now.
            done = done._replace(kept=[*plan.kept[:-1], claimed])
            _each(lambda number: store.remove(commits.commit_name(number)), [*plan.old, plan.kept[-1]])
        else:
            _each(lambda number: store.remove(commits.commit_name(number)), plan.old)
        _each(store.remove, plan.objects)
        return done
    raise PublishConflict(
        f"{store.uri}: {_TRIES} commits came while old ones were to be removed. Try again later."
    )


def _plan(store: ObjectStore, keep: int, cutoff: float) -> _Plan:
    listed = store.listed(commits.FILES)
    there = store.commit_numbers()
    if not there:
        raise IndexNotFound(f"{store.uri}: nothing was published there.")
    kept = list(there)[-keep:]
    read = [store.commit(number, there[number].bytes) for number in kept]
    named = set().union(*(each.object_names for each in read))
    ours = {
        f"{commits.FILES}/{each.name}": each for each in listed if commits.parts_of(each.name) is not None
    }
    unnamed = {name: each for name, each in ours.items() if name not in named}
    objects = {
        name: each.bytes
        for name, each in unnamed.items()
        if each.modified is not None and each.modified < cutoff
    }
    old = [number for number in there if number not in kept]
    return _Plan(read[-1], kept, old, objects, len(unnamed) - len(objects), cutoff)


def _claim(store: ObjectStore, plan: _Plan) -> int | None:
    """Commit the newest state once more; its number, or None where somebody was quicker."""
    newest = plan.newest.commit
    made = msgspec.structs.replace(
        newest,
        number=newest.number + 1,
        id=secrets.token_hex(6),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        cutoff=max(newest.cutoff, plan.cutoff),
    )
    return made.number if store.add(made) else None


def _each(work: Callable[[T], None], values: Iterable[T]) -> None:
    """Do it for all, some at a time, and raise the first error when all were tried."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="latebolt-objects") as workers:
        running = [workers.submit(functools.partial(work, value)) for value in values]
    for each in running:
        each.result()
