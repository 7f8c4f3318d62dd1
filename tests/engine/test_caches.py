"""The cache folder: files count only where nobody else could have written them, and nothing is left open."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from latebolt import caches

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners of files on this system")

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home" / "cache" / "latebolt"
    monkeypatch.setenv("LATEBOLT_CACHE", str(folder))
    caches._warn.cache_clear()
    return folder


@pytest.fixture
def kept(root: Path) -> Path:
    path = caches.cache_folder("kernels") / "key" / "code.o"
    caches.write(path, b"code")
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def folders(root: Path, kept: Path) -> list[Path]:
    return [root, kept.parent.parent, kept.parent]


def test_everything_made_is_ours_alone(root, kept):
    old = os.umask(0)
    try:
        caches.write(caches.cache_folder("digests") / "d", b"1")
    finally:
        os.umask(old)
    made = [root.parent.parent, root.parent, root, *root.rglob("*")]
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}
    assert caches.read(kept) == b"code"
    assert len(list(kept.parent.iterdir())) == 1  # no draft stays


@pytest.mark.parametrize("bits", (0o020, 0o002, 0o022))
@pytest.mark.parametrize("which", (0, 1, 2))
def test_a_folder_of_ours_that_others_may_write_is_closed_and_emptied(root, kept, which, bits, caplog):
    """Others may have put there what they like: it never counts again."""
    folder = folders(root, kept)[which]
    folder.chmod(0o755 | bits)
    assert caches.read(kept) is None
    assert mode(folder) == 0o755 and not kept.exists()
    assert str(folder) in caplog.text
    caches.write(kept, b"again")
    assert caches.read(kept) == b"again"


def test_what_is_only_kept_and_never_trusted_stays_when_the_cache_is_closed(root, kept):
    encodings = caches.cache_folder("eval") / "a.npz"
    caches.write(encodings, b"vectors")
    root.chmod(0o777)
    caches.read(kept)
    assert encodings.read_bytes() == b"vectors"


@pytest.mark.parametrize("bits", (0o020, 0o002))
def test_a_file_that_others_may_write_does_not_count(kept, bits, caplog):
    kept.chmod(0o600 | bits)
    assert caches.read(kept) is None and "chmod go-w" in caplog.text
    caches.write(kept, b"again")
    assert caches.read(kept) == b"again"


@pytest.mark.skipif("os.geteuid() != 0", reason="only root can give files away")
@pytest.mark.parametrize("which", (0, 1, 2, 3))
def test_what_belongs_to_somebody_else_is_not_used_and_not_touched(root, kept, which, caplog):
    path = [*folders(root, kept), kept][which]
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o777)
    assert caches.read(kept) is None
    assert mode(path) == 0o777 and kept.exists() and "belongs to another user" in caplog.text
    if path != kept:  # a file of theirs in a folder of ours is replaced
        with pytest.raises(OSError, match="others"):
            caches.write(kept, b"again")


@pytest.mark.skipif("os.geteuid() != 0", reason="only root can become somebody else")
def test_what_root_left_in_an_image_serves_other_users(root, kept, tmp_path, in_child):
    for folder in (*folders(root, kept), root.parent, root.parent.parent, tmp_path, *tmp_path.parents):
        if "pytest" in str(folder):
            folder.chmod(0o755)
    kept.chmod(0o644)

    def as_nobody() -> bool:
        os.setuid(NOBODY)
        return caches.read(kept) == b"code"

    assert in_child(as_nobody)


def test_a_sticky_folder_such_as_tmp_is_left_as_it_is(root, kept):
    """Others can add names there, not exchange ours."""
    root.chmod(0o1777)
    assert caches.read(kept) == b"code" and mode(root) == 0o1777


@pytest.mark.parametrize("which", (0, 1, 2))
def test_links_are_followed_and_what_they_lead_to_is_judged(root, kept, which, tmp_path):
    folder = folders(root, kept)[which]
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    assert caches.read(kept) == b"code"
    elsewhere.chmod(0o777)
    assert caches.read(kept) is None and mode(elsewhere) == 0o755


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(kept):
    kept.unlink()
    os.mkfifo(kept, 0o600)
    assert caches.read(kept) is None
    caches.write(kept, b"again")
    assert caches.read(kept) == b"again"


def test_writers_and_readers_at_once_see_whole_files(kept):
    contents = {bytes([letter]) * 100_000 for letter in b"abcd"}
    caches.write(kept, b"a" * 100_000)
    seen: set[bytes | None] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(caches.read(kept))

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [
        threading.Thread(target=lambda c=c: [caches.write(kept, c) for _ in range(50)]) for c in contents
    ]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert seen and seen <= contents
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_failed_write_leaves_no_draft(kept, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="full"):
        caches.write(kept, b"again")
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
