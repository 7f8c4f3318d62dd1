"""Token vectors as Arrow columns and as Parquet files, and from files into an index.

A row is a text: `values` list<float32> holds its vectors row by row, `lengths` int32 how many there are.
Other columns pass as they are. Flat lists, because every reader of Arrow and Parquet takes them
without a copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from latebolt.errors import IndexCorrupt, InvalidInput, ModelMismatch, RuntimeUnavailable
from latebolt.index.format import files
from latebolt.index.format.layout import ModelRecord
from latebolt.index.index import Index
from latebolt.index.ingest.parts import read_listing
from latebolt.progress import progress_bar
from latebolt.values import TokenVectors

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise RuntimeUnavailable("pyarrow is not installed. Run \"pip install 'latebolt[cpu,ray]'\".") from error

VALUES: Final = "values"
LENGTHS: Final = "lengths"
_MOST_VALUES: Final = 2**31 - 1  # what the 32-bit offsets of a list column reach
_KEY: Final = b"latebolt"  # of what a file says of itself


class Stamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a part says of itself, in the file's metadata.

    Args:
        tokens: rows of all texts together.
        text, id: names of the columns that hold them.
    """

    model: ModelRecord
    tokens: int
    text: str
    id: str


class PartOfVectors(NamedTuple):
    """One file of vectors, as `Index.add_vectors` takes it."""

    ids: list[str]
    vectors: TokenVectors
    texts: list[str]
    metadata: list[dict[str, Any] | None]


def with_vectors(table: pa.Table, vectors: TokenVectors) -> pa.Table:
    """The table with the columns `values` and `lengths`, one entry a row.

    Raises:
        InvalidInput: it has such columns, or the vectors are too many for one list column.
    """
    taken = [name for name in (VALUES, LENGTHS) if name in table.column_names]
    if taken:
        raise InvalidInput(f"the data has a column {taken[0]!r} already. Rename or drop it.")
    if vectors.values.size > _MOST_VALUES:
        raise InvalidInput(
            f"{len(vectors)} texts have {vectors.n_tokens} vectors of {vectors.dim}, more than a column "
            f"holds. Use smaller batches."
        )
    offsets = pa.array((vectors.offsets * vectors.dim).astype(np.int32))
    values = pa.ListArray.from_arrays(offsets, pa.array(vectors.values.reshape(-1)))
    lengths = pa.array(vectors.lengths.astype(np.int32))
    return table.append_column(VALUES, values).append_column(LENGTHS, lengths)


def vectors_of(table: pa.Table, dim: int) -> TokenVectors:
    """What `with_vectors` added.

    Args:
        dim: width of the vectors.
    Raises:
        InvalidInput: a column is missing, or the two do not agree with each other and with dim.
    """
    check_columns(table.column_names, VALUES, LENGTHS)
    lengths = table.column(LENGTHS).combine_chunks().to_numpy(zero_copy_only=False)
    lists = table.column(VALUES).combine_chunks()
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    if not np.array_equal(sizes, lengths * dim):
        row = int(np.argmax(sizes != lengths * dim))
        raise InvalidInput(
            f"values[{row}] should be {lengths[row]} vectors of {dim}, got {sizes[row]} numbers."
        )
    values = np.asarray(lists.flatten(), np.float32).reshape(-1, dim)
    return TokenVectors(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def check_columns(given: list[str], *wanted: str) -> None:
    """Raise InvalidInput for the first column that is missing."""
    for name in wanted:
        if name not in given:
            raise InvalidInput(
                f"the data has no column {name!r}; it has {', '.join(sorted(given)) or 'none'}."
            )


def strings(table: pa.Table, name: str, integers: bool = False) -> list[str]:
    """A column of strings.

    Args:
        integers: may stand for strings.
    Raises:
        InvalidInput: it is missing, of another type, or has a null; names the row.
    """
    check_columns(table.column_names, name)
    column = table.column(name)
    if integers and pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) and len(column):
        raise InvalidInput(f"column {name!r} should be of strings, got {column.type}.")
    found: list[str | None] = column.to_pylist()
    if None in found:
        raise InvalidInput(f"column {name!r} has a null, first in row {found.index(None)} of a batch.")
    return found  # type: ignore[return-value]


def metadata_of(table: pa.Table, *apart: str) -> list[dict[str, Any] | None]:
    """The metadata of each row: a column `metadata` (structs, or JSON objects as strings), or else whatever
    the columns hold that are not `apart`; nulls are left out."""
    names = [name for name in table.column_names if name not in (*apart, VALUES, LENGTHS)]
    found: list[dict[str, Any] | None] = []
    for row in table.select(names).to_pylist():
        given = row["metadata"] if "metadata" in names else row
        if isinstance(given, str):
            try:
                given = msgspec.json.decode(given, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise InvalidInput(f"metadata {given[:80]!r} is no JSON object ({error}).") from error
        elif isinstance(given, Mapping):
            given = {key: value for key, value in given.items() if value is not None}
        found.append(given or None)
    return found


def write_part(table: pa.Table, stamp: Stamp, path: Path) -> None:
    """Write a table with its stamp, synced.

    Raises:
        StorageFull: the disk is full.
    """
    stamped = table.replace_schema_metadata({_KEY: msgspec.json.encode(stamp)})
    with files.writing(path, table.nbytes), path.open("wb") as file:
        pq.write_table(stamped, file, compression="zstd", use_dictionary=False)
        file.flush()
        os.fsync(file.fileno())


def read_stamp(path: Path) -> tuple[int, Stamp]:
    """How many texts a part has, and its stamp.

    Raises:
        FileNotFoundError: there is no such file.
        IndexCorrupt: it is no part.
    """
    try:
        meta = pq.read_metadata(path)
        return meta.num_rows, msgspec.json.decode((meta.metadata or {})[_KEY], type=Stamp)
    except (pa.ArrowException, KeyError, msgspec.DecodeError) as error:
        raise IndexCorrupt(
            path, "content", "a part with token vectors", str(error), "Run the job again."
        ) from error


def read_parts(folder: str | Path) -> Iterator[PartOfVectors]:
    """The parts that a finished job has listed in its folder, one in memory at a time.

    Raises:
        IndexNotFound: the job has not finished, or there was none.
        InvalidInput: its parts are indexes.
        IndexCorrupt: a part is missing or damaged.
    """
    place = Path(folder)
    listed = read_listing(place)
    if listed.kind != "parquet":
        raise InvalidInput(f'{place}: its parts are of kind "{listed.kind}". Take them in with Index.adopt.')
    for path in (place / name for name in listed.parts):
        try:
            _, stamp = read_stamp(path)
            table = pq.read_table(path)
        except (FileNotFoundError, pa.ArrowException) as error:
            raise IndexCorrupt(path, "content", "a part", str(error), "Run the job again.") from error
        yield PartOfVectors(
            strings(table, stamp.id, integers=True),
            vectors_of(table, stamp.model.dim),
            strings(table, stamp.text),
            metadata_of(table, stamp.text, stamp.id),
        )


def add_parts(index: Index, folder: str | Path, show_progress: bool = False) -> int:
    """Add the vectors that a finished job has written, a commit a part; says how many documents.

    An id that exists is replaced, so after an interruption it can be done again.

    Raises:
        ModelMismatch: the index was made with another model.
        See `read_parts` and `Index.add_vectors`.
    """
    listed = read_listing(Path(folder))
    if index.model is None or index.model.fingerprint != listed.model.fingerprint:
        source = (
            "no model" if index.model is None else f'model "{index.model.source}" at dim {index.model.dim}'
        )
        raise ModelMismatch(
            f'{folder}: was encoded with model "{listed.model.source}" ({listed.model.precision}) at dim '
            f"{listed.model.dim}, and {index.path} was made with {source}, which gives other vectors. "
            f"Encode the texts with the index's model."
        )
    added = 0
    with progress_bar(listed.texts, "adopt", "text", show_progress) as bar:
        for part in read_parts(folder):
            index.add_vectors(part.ids, part.vectors, part.texts, part.metadata)
            added += len(part.ids)
            bar.step(len(part.ids), part.vectors.n_tokens)
    return added
