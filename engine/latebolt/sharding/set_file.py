"""`shards.json`, which makes a folder a shard set: how many shards, and by which function of ids.

Beside it lie the folders `shard-0` to `shard-(N-1)`, each an ordinary index, whose settings say which shard
of how many it is, so that one put in another's place is noticed. Nothing else of a shard is written here: it
commits for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from latebolt.errors import IndexCorrupt, IndexNewer, IndexNotFound
from latebolt.index.format import files, layout
from latebolt.index.format.mmap_array import opened
from latebolt.index.places import is_uri, masked, read_at
from latebolt.sharding.placement import HASH, MOST_SHARDS

SET_FORMAT: Final = "latebolt-shards"
SET_VERSION: Final = 1
# The setting of an index that is a shard: its number and how many there are.
SHARD_SETTING: Final = "shard"
_MOST_BYTES: Final = 1 << 16
_FIX: Final = "Restore shards.json from a copy of the set, or split the index again."


class ShardSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`shards.json`.

    Args:
        shards: how many there are.
        hash: the function that places ids, see `placement`.
    """

    format: Literal["latebolt-shards"]
    format_version: Literal[1]
    shards: Annotated[int, msgspec.Meta(ge=1, le=MOST_SHARDS)]
    hash: Literal["blake2b-8"]


def shard_folder(folder: Path, number: int) -> Path:
    """The folder of a shard."""
    return folder / f"shard-{number}"


def is_shard_set(folder: Path) -> bool:
    """Whether a folder says that it is one; it may be damaged."""
    return (folder / layout.SHARD_SET).is_file()


def write_set(folder: Path, shards: int) -> None:
    """Make a folder, whose shards are all there, a shard set."""
    described = ShardSet(SET_FORMAT, SET_VERSION, shards, HASH)
    files.publish(folder / layout.SHARD_SET, layout.sealed(described))


def shard_place(place: str | Path, number: int) -> str | Path:
    """Where a shard is of the set at a folder, or at a URI where it was published."""
    if isinstance(place, str) and is_uri(place):
        return f"{place.rstrip('/')}/shard-{number}"
    return shard_folder(Path(place), number)


def read_set(place: str | Path) -> ShardSet:
    """The description of a set.

    Args:
        place: its folder, or the URI where it was published.
    Raises:
        IndexNotFound: there is none.
        IndexCorrupt: the description is damaged.
        IndexNewer: a newer version of latebolt wrote it.
        ObjectStoreError: the store cannot be reached.
    """
    named = masked(str(place))
    try:
        content = _content(place)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IndexNotFound(
            f'{named}: there is no shard set here (no {layout.SHARD_SET}). Make one with "latebolt split".'
        ) from error
    return decode_set(content, f"{named.rstrip('/')}/{layout.SHARD_SET}")


def _content(place: str | Path) -> bytes:
    if isinstance(place, str) and is_uri(place):
        return read_at(place, layout.SHARD_SET, _MOST_BYTES)
    with opened(Path(place) / layout.SHARD_SET) as file:
        return file.read(_MOST_BYTES)


def decode_set(content: bytes, path: object) -> ShardSet:
    """Read what `write_set` wrote.

    Raises:
        IndexCorrupt, IndexNewer: see `read_set`.
    """
    try:
        fields = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IndexCorrupt(path, "content", "a JSON object", "something else", _FIX) from error
    version = fields.get("format_version")
    if fields.get("format") == SET_FORMAT and isinstance(version, int) and version > SET_VERSION:
        raise IndexNewer(path, "format_version", SET_VERSION, version)
    layout.check_seal(content, path, _FIX)
    del fields["digest"]
    try:
        return msgspec.convert(fields, ShardSet)
    except msgspec.ValidationError as error:
        raise IndexCorrupt(path, "content", "a description of shards", str(error), _FIX) from error


def shard_setting(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Which shard of how many an index with these settings is; None for none."""
    found = settings.get(SHARD_SETTING)
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(each, int) for each in found):
        return found[0], found[1]
    return None
