"""Publishes a set of shards: each as an index of its own below the URI, and last what says how they belong
together.

So `URI/shard-3` can be opened by the machine that has that shard, and there is no set before all of it is
there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from latebolt.errors import InvalidInput
from latebolt.index.format.mmap_array import opened
from latebolt.objects import commits
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.publish import Publication, publish

_MOST_BYTES: Final = 1 << 24


def is_set(folder: Path) -> bool:
    """Whether a folder holds shards rather than an index."""
    return (folder / commits.SHARDS).is_file()


def shards_of(folder: Path) -> list[str]:
    """Names of the shards, in order.

    Raises:
        InvalidInput: there is none, or one is missing.
    """
    names = [each.name for each in folder.iterdir() if commits.SHARD_FOLDER.match(each.name)]
    names.sort(key=lambda name: int(name.rpartition("-")[2]))
    expected = [f"shard-{number}" for number in range(len(names))]
    if not names or names != expected:
        raise InvalidInput(
            f"{folder}: should have shard-0, shard-1 and so on, has {', '.join(names) or 'none'}."
        )
    return names


def publish_set(folder: Path, uri: str, **options: Any) -> list[Publication]:
    """Publish all shards of a folder, see `publish`; what is committed stays where a later shard fails.

    Args:
        options: of `publish`.
    Returns:
        What was published of each shard.
    """
    names = shards_of(folder)
    with opened(folder / commits.SHARDS) as file:
        said = file.read(_MOST_BYTES)
    done = [publish(folder / name, ObjectStore(f"{uri.rstrip('/')}/{name}"), **options) for name in names]
    store = ObjectStore(uri)
    if not options.get("dry_run"):
        store.write(commits.SHARDS, said)
    return done
