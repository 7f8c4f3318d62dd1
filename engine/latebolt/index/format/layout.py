"""The on-disk format of an index: every name, dtype and shape, written once.

Writer, reader and `latebolt check` take them from here; nothing in this module touches a file. One folder (in
which others may keep files of their own, as `sync` does):

    manifest.json                       the only file that is ever replaced; it names all the others
    write.lock                          held by the one writer
    codecs/<n>/<array>.npy              arrays of a codec, such as centroids
    segments/<n>/offsets.npy            int64 [n_documents + 1], first token of each row
    segments/<n>/passages.npy           uint32 [n_documents], number of each row's passage (if texts were cut)
    segments/<n>/truncated.npy          uint8 [n_documents], 1: the row's end was not read (if any)
    segments/<n>/<column>.npy           one array per token column of the codec
    segments/<n>/lists.npy              uint32 [entries], rows with a token in each list (large segments)
    segments/<n>/list_offsets.npy       int64 [lists + 1], first entry of each list
    segments/<n>/list_starts.npy        int64 [centroids + 1], first list of each centroid
    segments/<n>/list_centroids.npy     int8 [lists, dim], 127 times the centroid of each list
    segments/<n>/texts.sqlite           ids, texts, metadata, words and origins of the segment's documents
    segments/<n>/deleted-<g>.npy        deleted rows, one bit a document, as of generation g

A row is a document, or one passage of a document that was cut: then the rows of a document stand together, in
order, each with the document's id and metadata, and `passages` counts them from 0. Where a segment has no
such file, every row is a document.

Lists of before version 5 have neither of the last two files: each is of a centroid, and has its number.

A file is immutable once a manifest names it, and a number <n> is never used twice, so a path always means
the same bytes. All paths are relative: the folder can be copied, moved or mounted read-only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from latebolt.codec.base import BITS
from latebolt.errors import IndexCorrupt, IndexNewer, InvalidInput

FORMAT: Final = "latebolt-index"
FORMAT_VERSIONS: Final = (1, 2, 3, 4, 5)

MANIFEST: Final = "manifest.json"
LOCK: Final = "write.lock"
SHARD_SET: Final = "shards.json"  # what a folder of several indexes has that `sharding` made
CODECS: Final = "codecs"
SEGMENTS: Final = "segments"
OFFSETS: Final = "offsets.npy"
CELLS: Final = "cell.npy"  # the column of centroid numbers, of codecs that have one
CENTROIDS: Final = "centroids.npy"  # the codec's array that these count
PASSAGES: Final = "passages.npy"
TRUNCATED: Final = "truncated.npy"
LISTS: Final = "lists.npy"
LIST_OFFSETS: Final = "list_offsets.npy"
LIST_STARTS: Final = "list_starts.npy"
LIST_CENTROIDS: Final = "list_centroids.npy"
TEXTS: Final = "texts.sqlite"
_RESERVED: Final = (OFFSETS, PASSAGES, TRUNCATED, LISTS, LIST_OFFSETS, LIST_STARTS, LIST_CENTROIDS)
DRAFT_SUFFIX: Final = ".draft"
# The setting of an index whose rows all say whether their end was read.
COUNTS_TRUNCATED: Final = "counts_truncated"
# The setting that holds the next number for documents without ids; those before it were given out.
NEXT_ID: Final = "next_id"

OFFSETS_DTYPE: Final = "<i8"
PASSAGES_DTYPE: Final = "<u4"
TRUNCATED_DTYPE: Final = "|u1"
DELETED_DTYPE: Final = "|u1"
LISTS_DTYPE: Final = "<u4"
LIST_CENTROIDS_DTYPE: Final = "|i1"

TEXTS_APPLICATION_ID: Final = 0x6C617465  # "late", so that file(1) and a reader can tell the database's owner
TEXTS_VERSION: Final = 3
TEXTS_READABLE: Final = (1, 2, 3)  # version 1 has no words, and so no BM25; 2 has those of `old_words`
TEXTS_SCHEMA: Final = (
    # `row` is the document's position in the segment. Texts have a table of their own, so that a walk over
    # ids and metadata does not read them.
    "CREATE TABLE documents (row INTEGER PRIMARY KEY, id TEXT NOT NULL, metadata TEXT)",
    "CREATE TABLE texts (row INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    # The metadata once more, one line a leaf value, in an order that answers filters without a full scan.
    "CREATE TABLE paths (number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE)",
    "CREATE TABLE fields (path INTEGER NOT NULL, kind INTEGER NOT NULL, value NOT NULL, row INTEGER NOT NULL,"
    " PRIMARY KEY (path, kind, value, row)) WITHOUT ROWID",
    # What `origins.Origin` says of a row. Earlier versions have no such table, and can do without it.
    "CREATE TABLE origins (row INTEGER PRIMARY KEY, digest BLOB, overlap INTEGER NOT NULL, before TEXT,"
    " after TEXT, place TEXT)",
    # What BM25 counts, in blocks of documents; `postings` says what the blobs hold.
    "CREATE TABLE word_blocks (first INTEGER PRIMARY KEY, lengths BLOB NOT NULL)",
    "CREATE TABLE postings (word TEXT NOT NULL, first INTEGER NOT NULL, content BLOB NOT NULL)",
)
# Built when all rows are in: one sort is cheaper than as many insertions in random order.
TEXTS_INDEXES: Final = (
    "CREATE INDEX documents_by_id ON documents (id, row)",
    "CREATE INDEX origins_by_digest ON origins (digest) WHERE digest IS NOT NULL",
    "CREATE INDEX postings_by_word ON postings (word, first)",
)

NPY_HEADER_BYTES: Final = 128
DIGEST_BYTES: Final = 16
COLUMN_DTYPES: Final = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<f2", "<f4"})

# Names come from a file and become paths: only plain ones may pass.
Number = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,17}$")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*(-[0-9]{1,18})?\.(npy|sqlite)$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One array with a row a token.

    Args:
        name: lower case letters, digits and underscores; becomes `<name>.npy`.
        dtype: an integer of up to 32 bits, float16 or float32, in any spelling NumPy knows.
        width: None for shape [n_tokens], else the second axis of [n_tokens, width].
    Raises:
        InvalidInput: the name, dtype or width is none of these.
    """

    name: str
    dtype: str
    width: int | None = None

    def __post_init__(self) -> None:
        reserved = [file.removesuffix(".npy") for file in _RESERVED]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in reserved:
            raise InvalidInput(
                f"Column.name should be like 'codes' and not one of {reserved}, got {self.name!r}."
            )
        if self.width is not None and self.width < 1:
            raise InvalidInput(
                f"Column.width of {self.name!r} should be None or at least 1, got {self.width}."
            )
        try:
            spelled = np.dtype(self.dtype).newbyteorder("<").str
        except TypeError:
            spelled = ""
        if spelled not in COLUMN_DTYPES:
            allowed = ", ".join(sorted(COLUMN_DTYPES))
            raise InvalidInput(
                f"Column.dtype of {self.name!r} should be one of {allowed}, got {self.dtype!r}."
            )
        msgspec.structs.force_setattr(self, "dtype", spelled)

    @property
    def file(self) -> str:
        """Name of the file inside the segment's folder."""
        return f"{self.name}.npy"

    def shape(self, n_tokens: int) -> tuple[int, ...]:
        """Shape of the array for that many tokens."""
        return (n_tokens,) if self.width is None else (n_tokens, self.width)


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the manifest knows of one file. `dtype` and `shape` are None for a file that is no array.

    The digest is BLAKE2b-128 in hex: of an array's data followed by its 128 header bytes (the header is known
    only when the last row is written), of any other file's bytes in order.
    """

    bytes: Count
    digest: Digest
    dtype: str | None = None
    shape: tuple[Count, ...] | None = None


class ModelRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder an index was made with."""

    source: str
    fingerprint: str
    precision: str
    dim: int


class CodecRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One codec: free-form `info` of the codec's own and its arrays."""

    info: dict[str, Any]
    files: dict[FileName, FileRecord]


class SegmentRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One segment; counts include deleted rows, and n_documents counts rows."""

    name: Number
    codec: Number | None
    n_documents: Count
    n_tokens: Count
    columns: tuple[Column, ...]
    files: dict[FileName, FileRecord]
    deleted: FileName | None = None
    n_deleted: Count = 0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest.json`: one committed state of the index; see `version_of` for its version."""

    format: Literal["latebolt-index"]
    format_version: Literal[1, 2, 3, 4, 5]
    generation: Count
    next_number: int
    model: ModelRecord | None
    dim: int
    bits: int
    settings: dict[str, Any]
    codec: Number | None = None
    codecs: dict[Number, CodecRecord] = {}
    segments: tuple[SegmentRecord, ...] = ()


# Made at import, as in `contract`, for threads that meet at the first use.
_DESCRIBED: Final = msgspec.json.Decoder(Manifest)


def version_of(segments: Iterable[SegmentRecord]) -> Literal[1, 2, 3, 4, 5]:
    """The oldest version that can say this: 2 knew inverted lists, 3 passages, 4 rows not read whole, 5 lists
    with centroids of their own."""
    names = {name for segment in segments for name in segment.files}
    if LIST_CENTROIDS in names:
        return 5
    if TRUNCATED in names:
        return 4
    return 3 if PASSAGES in names else 2 if LISTS in names else 1


def file_shapes(segment: SegmentRecord) -> dict[str, tuple[str | None, tuple[int, ...] | None]]:
    """The files a segment must have, each with its dtype and shape (None for the database)."""
    files: dict[str, tuple[str | None, tuple[int, ...] | None]] = {
        OFFSETS: (OFFSETS_DTYPE, (segment.n_documents + 1,)),
        TEXTS: (None, None),
    }
    for column in segment.columns:
        files[column.file] = (column.dtype, column.shape(segment.n_tokens))
    if PASSAGES in segment.files:
        files[PASSAGES] = (PASSAGES_DTYPE, (segment.n_documents,))
    if TRUNCATED in segment.files:
        files[TRUNCATED] = (TRUNCATED_DTYPE, (segment.n_documents,))
    if LISTS in segment.files:  # how long they are is said there alone; their contents must agree with it
        for name, dtype in ((LISTS, LISTS_DTYPE), (LIST_OFFSETS, OFFSETS_DTYPE)):
            recorded = segment.files.get(name)
            files[name] = (dtype, ((recorded and recorded.shape) or ())[:1])
    if LIST_CENTROIDS in segment.files or LIST_STARTS in segment.files:  # a centroid a list
        widths, starts = (segment.files.get(name) for name in (LIST_CENTROIDS, LIST_STARTS))
        n_lists = max((files.get(LIST_OFFSETS, ("", None))[1] or (0,))[0] - 1, 0)
        width = ((widths and widths.shape) or (0, 0))[1:2]
        files[LIST_CENTROIDS] = (LIST_CENTROIDS_DTYPE, (n_lists, *width))
        files[LIST_STARTS] = (OFFSETS_DTYPE, ((starts and starts.shape) or (0,))[:1])
    if segment.deleted is not None:
        files[segment.deleted] = (DELETED_DTYPE, ((segment.n_documents + 7) // 8,))
    return files


def n_centroids(manifest: Manifest, segment: SegmentRecord) -> int | None:
    """Centroids of a segment's codec; None for a codec without, and for none at all."""
    if segment.codec is None or CENTROIDS not in manifest.codecs[segment.codec].files:
        return None
    return (manifest.codecs[segment.codec].files[CENTROIDS].shape or (0,))[0]


def deleted_file(generation: int) -> str:
    """Name of the file that holds a segment's deleted rows as of that generation."""
    return f"deleted-{generation}.npy"


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The first 128 bytes of an array file, in NumPy's format 1.0.

    Written here and not by NumPy because NumPy pads differently from version to version, and a header of a
    fixed length can be filled in after the rows were streamed.
    """
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}"
    return b"\x93NUMPY\x01\x00v\x00" + text.encode("ascii").ljust(NPY_HEADER_BYTES - 11) + b"\n"


def array_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Size of an array file."""
    count = 1
    for axis in shape:
        count *= axis
    return NPY_HEADER_BYTES + count * np.dtype(dtype).itemsize


_MARK: Final = b'{"digest":"'
MANIFEST_HEAD_BYTES: Final = len(_MARK) + 2 * DIGEST_BYTES
"""The first bytes of the manifest; equal heads mean equal manifests."""
_OURS: Final = re.compile(_MARK + rb'[0-9a-f]{32}",\s*"format":\s*"' + FORMAT.encode() + b'"')


def sealed(record: msgspec.Struct) -> bytes:
    """A record as JSON whose first member is the digest of every byte after it."""
    body = b'",\n' + msgspec.json.format(msgspec.json.encode(record), indent=1)[2:] + b"\n"
    return _MARK + _digest(body) + body


def check_seal(content: bytes, path: object, fix: str) -> None:
    """Raise IndexCorrupt unless `content` is as `sealed` made it."""
    head, digest = content[:MANIFEST_HEAD_BYTES], _digest(content[MANIFEST_HEAD_BYTES:])
    if head != _MARK + digest:
        raise IndexCorrupt(path, "digest", digest.decode(), head[len(_MARK) :].decode(errors="replace"), fix)


def encode_manifest(manifest: Manifest) -> bytes:
    """What `decode_manifest` reads."""
    return sealed(manifest)


def is_manifest(content: bytes) -> bool:
    """Whether this is a manifest of ours, of any version, by how it begins; it may be damaged further on."""
    return _OURS.match(content) is not None


def decode_manifest(content: bytes, path: object) -> Manifest:
    """Read what `encode_manifest` gave.

    What every version keeps, so that an older one can tell that it is older: a JSON object with `format` and
    `format_version`, whose numbers only grow.

    Raises:
        IndexCorrupt: naming `path` and the member that is wrong.
        IndexNewer: a newer version has written it.
    """
    fix = "Restore manifest.json from a copy of the index, or build the index again."
    try:
        fields = msgspec.json.decode(content)
        kind, version = fields["format"], fields["format_version"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError) as error:
        raise IndexCorrupt(
            path, "content", "a JSON object with format_version", "something else", fix
        ) from error
    if kind != FORMAT:
        raise IndexCorrupt(path, "format", repr(FORMAT), repr(kind), "This is no latebolt index.")
    expected = " or ".join(map(str, FORMAT_VERSIONS))
    if isinstance(version, int) and version > FORMAT_VERSIONS[-1]:
        raise IndexNewer(path, "format_version", expected, version)
    if version not in FORMAT_VERSIONS or isinstance(version, bool):
        raise IndexCorrupt(path, "format_version", expected, repr(version), fix)
    check_seal(content, path, fix)
    del fields["digest"]
    try:
        manifest = msgspec.convert(fields, Manifest)
    except msgspec.ValidationError as error:
        raise IndexCorrupt(path, "content", "a valid manifest", str(error), fix) from error
    _check_references(manifest, path, fix)
    return manifest


def _check_references(manifest: Manifest, path: object, fix: str) -> None:
    if manifest.dim < 1 or manifest.bits not in BITS:
        got = f"dim {manifest.dim}, bits {manifest.bits}"
        raise IndexCorrupt(path, "dim and bits", f"1 or more, and one of {BITS}", got, fix)
    if manifest.model is not None and manifest.model.dim != manifest.dim:
        raise IndexCorrupt(path, "model.dim", manifest.dim, manifest.model.dim, fix)
    if manifest.codec is not None and manifest.codec not in manifest.codecs:
        raise IndexCorrupt(path, "codec", f"one of {sorted(manifest.codecs)}", manifest.codec, fix)
    for segment in manifest.segments:
        field = f"segments[{segment.name}]"
        if segment.codec is not None and segment.codec not in manifest.codecs:
            raise IndexCorrupt(
                path, f"{field}.codec", f"one of {sorted(manifest.codecs)}", segment.codec, fix
            )
        expected = file_shapes(segment)
        if set(expected) != set(segment.files):
            raise IndexCorrupt(path, f"{field}.files", sorted(expected), sorted(segment.files), fix)
        for name, (dtype, shape) in expected.items():
            record = segment.files[name]
            if (record.dtype, record.shape) != (dtype, shape):
                raise IndexCorrupt(
                    path, f"{field}.files[{name}]", f"{dtype} {shape}", f"{record.dtype} {record.shape}", fix
                )
        if LIST_CENTROIDS in expected:
            shape = expected[LIST_CENTROIDS][1] or ()
            if shape[1:] != (manifest.dim,):
                name = f"{field}.files[{LIST_CENTROIDS}]"
                raise IndexCorrupt(path, name, f"{manifest.dim} wide", f"{shape}", fix)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest().encode("ascii")
