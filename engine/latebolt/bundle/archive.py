"""The tar of a bundle: every file with its digest, in one order, with one time, the same bytes each time.

What is put in is a folder that this package has filled; only plain files below it are taken, by names that no
unpacking can lead elsewhere.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, NamedTuple

from latebolt.errors import LateboltError

# The time of every member; the first second that a zip can say, too.
EPOCH: Final = 315_532_800


class Member(NamedTuple):
    """A file of a bundle; `path` has "/" and is relative."""

    path: str
    bytes: int
    sha256: str


def members_of(folder: Path) -> list[Member]:
    """The files below a folder, by path.

    Raises:
        LateboltError: something is no plain file, or has a name that does not belong into a tar.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or not is_safe(name):
            raise LateboltError(f"{path}: is no plain file, or has a name that cannot be in a bundle.")
        found.append(Member(name, path.stat().st_size, digest_of(path)))
    return found


def is_safe(name: str) -> bool:
    """Whether a path stays below the folder that it is unpacked into, on every system."""
    parts = name.split("/")
    return not any(
        part in ("", ".", "..") or "\\" in part or ":" in part or any(ord(letter) < 32 for letter in part)
        for part in parts
    )


def digest_of(path: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(
    file: BinaryIO, root: str, folder: Path, members: Iterable[Member], step: Callable[[int], None]
) -> None:
    """Write the tar.

    Args:
        root: the folder that everything in the tar lies in.
        step: called with the bytes of each file that is in.
    """
    # GNU's form has no numbers or names that an old tar could not read, and nothing about who made it.
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member in sorted(members):
            info = tarfile.TarInfo(str(PurePosixPath(root, member.path)))
            info.size, info.mtime = member.bytes, EPOCH
            info.mode = 0o755 if member.path.endswith(".sh") else 0o644
            with (folder / member.path).open("rb") as content:
                tar.addfile(info, content)
            step(member.bytes)
