"""Publishes a shard set: each shard as an index of its own below the URI, last what says they are one.

So `URI/shard-3` can be opened by the machine that has that shard, and there is no set before all of it is
there.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.errors import ObjectStoreError
from latebolt.index.format import layout
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.publish import Publication, publish
from latebolt.sharding.set_file import read_set, shard_folder

MOST_BYTES = 1 << 16  # of the description of a set


def stores_of(folder: Path, uri: str) -> list[ObjectStore]:
    """Where the shards of a set lie at a URI, in order.

    Raises:
        IndexCorrupt: the set is damaged.
    """
    shards = range(read_set(folder).shards)
    return [ObjectStore(f"{uri.rstrip('/')}/{shard_folder(Path(), number)}") for number in shards]


def publish_set(
    folder: Path,
    uri: str,
    *,
    again: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    show_progress: bool = False,
) -> list[Publication]:
    """Publish all shards of a set, see `publish`; what is committed stays where a later shard fails.

    Returns:
        What was published of each shard.
    Raises:
        ObjectStoreError: also where another number of shards is published there.
    """
    content = (folder / layout.SHARD_SET).read_bytes()
    stores, whole = stores_of(folder, uri), ObjectStore(uri)
    try:
        there = whole.read(layout.SHARD_SET, 0, MOST_BYTES)
    except FileNotFoundError:
        there = content
    if there != content and not replace:
        raise ObjectStoreError(
            f"{whole.uri}: has another shard set. Publish to another URI, or say --replace (replace=True)."
        )
    done = [
        publish(
            shard_folder(folder, number),
            store,
            again=again,
            replace=replace,
            dry_run=dry_run,
            show_progress=show_progress,
        )
        for number, store in enumerate(stores)
    ]
    if not dry_run:
        whole.write(layout.SHARD_SET, content)
    return done
