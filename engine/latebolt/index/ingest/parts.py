"""A folder of parts, as jobs on several machines leave it, and the list that says the job is done.

Each part is whole or not there: it gets its name when its last byte is written. The list gets its own when
all parts are there, so a folder without it belongs to a job that has not ended, and what it does not name is
left over from another.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from latebolt.errors import IndexCorrupt, IndexNotFound, InvalidInput
from latebolt.index.format import files, layout
from latebolt.index.format.layout import Count, ModelRecord
from latebolt.index.format.mmap_array import opened

LISTING: Final = "parts.json"

# Names come from a file and become paths: only plain ones may pass.
PartName = Annotated[str, msgspec.Meta(pattern=r"^part-[0-9a-f]{32}(\.parquet)?$")]


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`parts.json`: what a job has written.

    Args:
        kind: "parquet" for files of token vectors, "index" for indexes that `Index.adopt` takes.
        model: what the texts were encoded with.
        parts: names within the folder.
    """

    format: Literal["latebolt-parts"]
    format_version: Literal[1]
    kind: Literal["parquet", "index"]
    model: ModelRecord
    texts: Count
    tokens: Count
    parts: tuple[PartName, ...]


def listing(
    kind: Literal["parquet", "index"], model: ModelRecord, texts: int, tokens: int, parts: Iterable[str]
) -> Listing:
    """A listing of this version."""
    return Listing("latebolt-parts", 1, kind, model, texts, tokens, tuple(parts))


def write_listing(folder: Path, listing: Listing) -> None:
    """Say that the job is done."""
    files.publish(folder / LISTING, msgspec.json.format(msgspec.json.encode(listing), indent=1) + b"\n")


def read_listing(folder: Path) -> Listing:
    """What a finished job has written.

    Raises:
        IndexNotFound: the folder has no list.
        IndexCorrupt: the list is not one.
    """
    path = folder / LISTING
    try:
        with opened(path) as file:
            return msgspec.json.decode(file.read(), type=Listing)
    except FileNotFoundError as error:
        raise IndexNotFound(
            f"{folder}: holds neither an index nor the parts of a finished job (no {layout.MANIFEST}, no "
            f"{LISTING}). A job that was stopped finishes when it is run again."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IndexCorrupt(path, "content", "a list of parts", str(error), "Run the job again.") from error


def is_vectors(folder: Path) -> bool:
    """Whether a finished job has left Parquet files of vectors there."""
    return (folder / LISTING).exists() and read_listing(folder).kind == "parquet"


def part_folders(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The indexes that paths stand for: each is one, or a folder of parts.

    Raises:
        IndexNotFound: it is neither.
        InvalidInput: its parts are no indexes.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        if (path / layout.MANIFEST).exists():
            found.append(path)
            continue
        listed = read_listing(path)
        if listed.kind != "index":
            raise InvalidInput(
                f'{path}: its parts are of kind "{listed.kind}". Read them with '
                f"latebolt.adapters.parquet.read_parts and add them with Index.add_vectors, or use add_parts."
            )
        found += [path / name for name in listed.parts]
    return found
