"""What lies at a URI: names, and a commit, which is one state of an index whole; nothing here asks a store.

    latebolt.json                         the mark, the same everywhere
    commits/<number>.json                 a commit: an index's manifest, and in which object each file is
    files/<digest>-<token>[.npy]          a file of an index; of an array with its ending
    shard-<n>/...                         of a set of shards: the same again for each
    shards.json                           and what says so, see `sharding.set_file`

Nothing is ever written twice but the last of these. A commit exists once an exclusive creation of its number
has succeeded, so two publishers cannot overwrite each other. The token is of the upload: a file that is
uploaded again is another object, and removing an old one can never hit what a newer commit relies on. A
digest is as `FileRecord` has it, of an array's data before its header, hence the ending.

All of it may have been written by somebody who means harm: names become paths only after these types took
them, nothing larger than a commit says is read, and every byte of a file is held against its digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from latebolt import system
from latebolt.errors import IndexCorrupt, IndexNewer, PublishConflict
from latebolt.index.format import layout
from latebolt.index.format.layout import FileRecord, Manifest
from latebolt.index.store.check import named_files

MARK: Final = "latebolt.json"
MARK_CONTENT: Final = b'{"format":"latebolt-objects","format_version":1}\n'
COMMITS: Final = "commits"
FILES: Final = "files"
FORMAT: Final = "latebolt-commit"
FORMAT_VERSION: Final = 1
MOST_COMMIT_BYTES: Final = 256_000_000  # of a manifest of a million files
FIX: Final = "Publish the index again; --again uploads files anew that are damaged there."

_COMMIT: Final = re.compile(r"([0-9]{12})\.json\Z")
_OBJECT: Final = re.compile(r"([0-9a-f]{32})-([0-9a-f]{12})(\.npy)?\Z")
_ARRAY: Final = ".npy"
_DTYPE: Final = re.compile(r"[<|][iuf][1248]\Z")

Key = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(\.npy)?\Z")]
Token = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")]
Companion = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")]


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`commits/<number>.json`.

    Args:
        number: from 1 on, each one more than the last; the name has it, too.
        id: tells this commit from another publisher's of the same number.
        made: when, by the publisher's clock.
        manifest: of the index, as it was written.
        companions: files that others keep beside the index.
        objects: where the files are; the token of the object by the file's key.
        cutoff: objects that are older, by the store's clock, and that no commit kept then named, may be gone.
    """

    format: Literal["latebolt-commit"]
    format_version: Literal[1]
    number: Annotated[int, msgspec.Meta(ge=1, lt=10**12)]
    id: Token
    made: str
    manifest: str
    companions: dict[Companion, FileRecord]
    objects: dict[Key, Token]
    cutoff: float = 0.0


_DESCRIBED: Final = msgspec.json.Decoder(Commit)  # made at import, for threads that meet at the first use


class File(NamedTuple):
    """A file that a commit names: its path in the index's folder, and what is known of it."""

    path: PurePosixPath
    record: FileRecord

    @property
    def key(self) -> str:
        """What it is found by among the objects."""
        return key_of(self.record)


class Published(NamedTuple):
    """A commit with its manifest, both checked."""

    commit: Commit
    manifest: Manifest

    @property
    def files(self) -> list[File]:
        """All files but the manifest."""
        return files_of(self.manifest, self.commit.companions)

    def object_of(self, file: File) -> str:
        """The name of the object that holds a file."""
        return object_name(file.key, self.commit.objects[file.key])

    @property
    def object_names(self) -> set[str]:
        """The names of all objects that the commit needs."""
        return {object_name(*each) for each in self.commit.objects.items()}


def key_of(record: FileRecord) -> str:
    """What a file is found by: two with one key have the same bytes."""
    return record.digest + (_ARRAY if record.dtype is not None else "")


def object_name(key: str, token: str) -> str:
    """Where a file lies that was uploaded with that token."""
    digest, ending = key[: 2 * layout.DIGEST_BYTES], key[2 * layout.DIGEST_BYTES :]
    return f"{FILES}/{digest}-{token}{ending}"


def parts_of(name: str) -> tuple[str, str] | None:
    """Key and token of an object of ours, by its name without the folder; None for anything else."""
    found = _OBJECT.match(name)
    return None if found is None else (found[1] + (found[3] or ""), found[2])


def commit_name(number: int) -> str:
    """Where the commit of a number lies."""
    return f"{COMMITS}/{number:012d}.json"


def number_of(name: str) -> int | None:
    """The number of a commit by its name without the folder; None for anything else."""
    found = _COMMIT.match(name)
    return (int(found[1]) or None) if found else None


def files_of(manifest: Manifest, companions: Mapping[str, FileRecord]) -> list[File]:
    """All files of an index but its manifest, the largest ones as they come."""
    named = [
        File(PurePosixPath(path.as_posix()), record) for path, record, _ in named_files(Path(), manifest)
    ]
    return named + [File(PurePosixPath(name), record) for name, record in companions.items()]


def is_companion(name: str) -> bool:
    """Whether a file of that name may come along: it is none of the index's own, on no system."""
    ours = name.lower() in (layout.MANIFEST, layout.LOCK, layout.CODECS, layout.SEGMENTS)
    fits = re.match(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z", name) is not None
    is_plain = not name.endswith((layout.DRAFT_SUFFIX, ".")) and not system.is_device(name)
    return fits and is_plain and not ours


def encode_commit(commit: Commit) -> bytes:
    """What `decode_commit` reads."""
    return layout.sealed(commit)


def decode_commit(content: bytes, number: int, where: str) -> Published:
    """Read what `encode_commit` wrote, and check all that it names.

    Args:
        where: the object, for messages.
    Raises:
        IndexCorrupt: it is damaged, or names what no index has.
        IndexNewer: a newer version wrote it, or the index in it.
    """
    try:
        fields = msgspec.json.decode(content)
        kind, version = fields["format"], fields["format_version"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError) as error:
        raise IndexCorrupt(where, "content", "a commit of latebolt", "something else", FIX) from error
    if kind == FORMAT and isinstance(version, int) and version > FORMAT_VERSION:
        raise IndexNewer(where, "format_version", FORMAT_VERSION, version)
    layout.check_seal(content, where, FIX)
    del fields["digest"]
    try:
        commit = msgspec.convert(fields, Commit)
    except msgspec.ValidationError as error:
        raise IndexCorrupt(where, "content", "a commit", str(error), FIX) from error
    if commit.number != number:
        raise IndexCorrupt(where, "number", number, commit.number, FIX)
    manifest = layout.decode_manifest(commit.manifest.encode(), where)
    _check_names(commit, manifest, where)
    return Published(commit, manifest)


def _check_names(commit: Commit, manifest: Manifest, where: str) -> None:
    wrong = [name for name in commit.companions if not is_companion(name)]
    if wrong or len({name.lower() for name in commit.companions}) < len(commit.companions):
        raise IndexCorrupt(where, "companions", "names of files beside an index", wrong or "one twice", FIX)
    sizes: dict[str, int] = {}
    for file in files_of(manifest, commit.companions):
        if not _is_array_or_plain(file.record):
            got = f"{file.record.bytes} bytes of {file.record.dtype} {file.record.shape}"
            raise IndexCorrupt(where, f"{file.path}, shape", "an array's or none", got, FIX)
        if file.key not in commit.objects:
            raise IndexCorrupt(where, f"objects[{file.key}]", "there", "nothing", FIX)
        if sizes.setdefault(file.key, file.record.bytes) != file.record.bytes:
            raise IndexCorrupt(where, f"{file.path}, bytes", sizes[file.key], file.record.bytes, FIX)
    if commit.objects.keys() != sizes.keys():
        raise IndexCorrupt(where, "objects", f"those of {len(sizes)} files", len(commit.objects), FIX)


def _is_array_or_plain(record: FileRecord) -> bool:
    """Whether dtype, shape and size agree with each other; NumPy is asked about plain numbers only."""
    if record.dtype is None or record.shape is None:
        return record.dtype is None and record.shape is None
    return _DTYPE.match(record.dtype) is not None and record.bytes == layout.array_bytes(
        record.dtype, record.shape
    )


def clashes(before: Manifest, after: Manifest) -> str | None:
    """The first path that two manifests have for different bytes; None where one may follow on the other.

    A number is never used twice within an index, so this tells one from another, or from a copy of it that
    has gone its own way.
    """
    known = {file.path: file.record for file in files_of(before, {})}
    for file in files_of(after, {}):
        if known.get(file.path, file.record) != file.record:
            return str(file.path)
    return None


def check_follows(published: Manifest, manifest: Manifest, uri: str, source: str) -> None:
    """Raise PublishConflict unless an index is a later state of the published one, or the same."""
    reason = None
    if (published.dim, published.bits) != (manifest.dim, manifest.bits):
        reason = f"dim {published.dim}, {published.bits} bits, and not {manifest.dim}, {manifest.bits} bits"
    elif published.model != manifest.model:
        reason = "another model"
    elif manifest.generation < published.generation:
        reason = f"commit {published.generation}, which is later than {manifest.generation}"
    elif (path := clashes(published, manifest)) is not None:
        reason = f"other bytes in {path}"
    elif manifest.generation == published.generation and manifest != published:
        reason = f"another commit {published.generation}"
    if reason is not None:
        raise PublishConflict(
            f"{uri}: has {reason}: it is another index than {source}, or a later state of it. Publish to "
            "another URI, or say --replace (replace=True) to put this one in its place."
        )


def total_bytes(files: Iterable[File]) -> int:
    """Bytes of the objects that hold these files; equal ones are one."""
    return sum({file.key: file.record.bytes for file in files}.values())
