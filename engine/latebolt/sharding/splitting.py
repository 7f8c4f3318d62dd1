"""`split` makes a shard set of an index, or of another set; `join` makes one index of a set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from latebolt.drafts import folder_for
from latebolt.errors import IndexCorrupt
from latebolt.index.format import files
from latebolt.index.store.backup import refuse_all_but_empty, refuse_inside
from latebolt.index.store.store import Store
from latebolt.progress import progress_bar
from latebolt.sharding.placement import check_shards
from latebolt.sharding.set_file import is_shard_set, read_set, shard_folder, shard_setting, write_set
from latebolt.sharding.spreading import Source, Spread, Spreading


def split(path: str | Path, out: str | Path, shards: int, show_progress: bool = False) -> Spread:
    """Make a shard set of an index, or of a shard set with another number of shards. Nothing is encoded.

    Deleted documents stay behind, except in segments that go whole to one shard, as when 4 shards become 2.
    What others keep beside an index, such as the records of `latebolt sync`, does not come along.

    Args:
        path: an index or a shard set. It stays as it is, and may be searched meanwhile; what is added to it
            while this runs is not in the copy.
        out: a folder that does not exist yet, or is empty; it is there when all of it is on disk.
        shards: how many.
        show_progress: a bar on stderr.
    Returns:
        What was written.
    Raises:
        IndexNotFound: there is neither at `path`.
        IndexExists: there is something at `out`.
        IndexCorrupt: the index, or the set, is damaged.
        IndexUnusable: it was changed meanwhile, and what was left to copy is gone.
        InvalidInput: no such number of shards; `out` lies in `path`; a shard has a document of another's.
        StorageFull: the disk is full.
    """
    source, target, n = Path(path), Path(out), check_shards(shards)
    place = refuse_inside(source, target)
    with _sources(source) as sources, folder_for(target, refuse_all_but_empty) as draft:
        spreading = Spreading(sources, n)
        with progress_bar(spreading.n_documents, "split", "document", show_progress) as bar:
            made = [
                spreading.write(number, shard_folder(draft, number), (number, n), bar) for number in range(n)
            ]
        write_set(draft, n)
    files.sync_folder(place.parent)
    return Spread(*(sum(each) for each in zip(*made, strict=True)))


def join(path: str | Path, out: str | Path, show_progress: bool = False) -> Spread:
    """Make one index of a shard set. Nothing is encoded; see `split`, which this reverses.

    Segments are taken whole, with their deleted documents; `Index.compact` removes these. The codecs of
    shards that have learnt others since they were split stay side by side.

    Args:
        path: the set.
        out, show_progress: see `split`.
    Returns:
        What was written.
    Raises:
        See `split`.
    """
    source, target = Path(path), Path(out)
    place = refuse_inside(source, target)
    read_set(source)
    with _sources(source) as sources, folder_for(target, refuse_all_but_empty) as draft:
        spreading = Spreading(sources, 1)
        with progress_bar(spreading.n_documents, "join", "document", show_progress) as bar:
            made = spreading.write(0, draft, None, bar)
    files.sync_folder(place.parent)
    return made


@contextlib.contextmanager
def _sources(path: Path) -> Iterator[list[Source]]:
    """The index at a path, or the shards of the set there, as of their last commits."""
    with contextlib.ExitStack() as stack:

        def opened(folder: Path, shard: tuple[int, int] | None) -> Source:
            store = Store.open(folder)
            stack.callback(store.close)
            snapshot = store.snapshot()
            if shard is not None and shard_setting(snapshot.settings) != shard:
                here = "shard {} of {}".format(*shard)
                raise IndexCorrupt(folder, "settings", here, "another", "Put the shard's own folder there.")
            return Source(folder, snapshot, shard)

        if is_shard_set(path):
            n = read_set(path).shards
            found = [opened(shard_folder(path, number), (number, n)) for number in range(n)]
        else:
            found = [opened(path, None)]
        yield found
