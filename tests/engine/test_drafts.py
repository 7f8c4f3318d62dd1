"""A file or folder appears whole or not at all, and nothing that somebody else made is ever touched."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from latebolt import drafts
from latebolt.errors import LateboltError, StorageFull

MAKER = """
import signal, sys
from pathlib import Path
from latebolt import drafts
target, behave = Path(sys.argv[1]), sys.argv[2]
with drafts.folder_for(target, lambda path: None) as draft:
    (draft / "half").write_text("half")
    if behave == "aside":  # killed between the two renames
        target.rename(draft.parent / "old")
    print("ready", flush=True)
    sys.stdin.read()
"""


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def agree(_: Path) -> None:
    pass


def refuse(path: Path) -> None:
    raise LateboltError(f"{path}: exists already")


def make(target: Path, content: str = "new", check=agree) -> None:
    with drafts.folder_for(target, check) as draft:
        (draft / "content").write_text(content)


@pytest.fixture
def neighbours(tmp_path):
    """What a user may well keep beside a target."""
    for name in ("mine.draft", "mine.old.draft", ".latebolt-draft-mine", f".latebolt-draft-{'0' * 32}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    (tmp_path / "mine.npz.draft").write_text("years of work")
    return tree(tmp_path)


def hear_of_hanging_up() -> None:
    """A parent that ignores SIGHUP, as nohup makes it, would hand that on."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def maker(tmp_path):
    """maker(target, behave) -> a process that is in the middle of making a folder."""
    started: list[subprocess.Popen] = []

    def start(target: Path, behave: str = "") -> subprocess.Popen:
        command = [sys.executable, "-c", MAKER, str(target), behave]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **pipes, preexec_fn=hear_of_hanging_up)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_neighbours_are_never_touched(tmp_path, neighbours, there, fails):
    target = tmp_path / "mine"
    if there:
        make(target, "first")
    before = tree(tmp_path)
    if fails:
        with pytest.raises(ZeroDivisionError), drafts.folder_for(target, agree) as draft:
            (draft / "half").write_text("half")
            raise ZeroDivisionError
        assert tree(tmp_path) == before
    else:
        make(target, "second")
        assert tree(tmp_path) == neighbours | {"mine": None, "mine/content": b"second"}
    drafts.remove_leftovers(tmp_path)
    assert neighbours.items() <= tree(tmp_path).items()


@pytest.mark.parametrize("there", [False, True])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, neighbours, there):
    target = tmp_path / "mine.npz"
    if there:
        target.write_text("first")
    before = tree(tmp_path)
    with pytest.raises(ZeroDivisionError), drafts.file_for(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert tree(tmp_path) == before
    with drafts.file_for(target) as file:
        file.write(b"second")
    assert tree(tmp_path) == before | {"mine.npz": b"second"}
    assert target.stat().st_mode == (tmp_path / "mine.npz.draft").stat().st_mode


def test_behind_a_link_the_place_it_points_to_is_meant(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "model")
    (tmp_path / "link.npz").symlink_to(tmp_path / "disk" / "vectors.npz")
    for content in ("first", "second"):
        make(tmp_path / "link", content)
        with drafts.file_for(tmp_path / "link.npz") as file:
            file.write(content.encode())
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link.npz").is_symlink()
    assert tree(tmp_path / "disk") == {"model": None, "model/content": b"second", "vectors.npz": b"second"}


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StorageFull, "the disk is full, nothing was written"),
        (errno.EDQUOT, StorageFull, "the disk quota is used up, nothing was written"),
        (errno.EFBIG, LateboltError, "larger than this process may write"),
        (errno.EROFS, LateboltError, "the disk is read-only"),
        (errno.EACCES, LateboltError, "Permission denied"),
        (errno.EIO, LateboltError, "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_leaves_nothing(tmp_path, number, kind, words):
    for enter in (drafts.file_for(tmp_path / "a"), drafts.folder_for(tmp_path / "deep" / "b", agree)):
        with pytest.raises(kind, match=words) as caught, enter:
            raise OSError(number, os.strerror(number))
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
        assert tree(tmp_path) == {}


def test_every_operation_may_fail(tmp_path, monkeypatch):
    """Each call that touches the disk fails once; the target is the old one or the new one, and no more."""
    target = tmp_path / "deep" / "mine"
    make(target, "first")
    originals = {name: getattr(Path, name) for name in ("mkdir", "rename", "write_text", "replace")}
    calls, fatal = [0], [-1]

    def failing(name):
        def call(self, *arguments, **options):
            calls[0] += 1
            if calls[0] == fatal[0]:
                raise OSError(errno.EIO, "Input/output error", str(self))
            return originals[name](self, *arguments, **options)

        return call

    for name in originals:
        monkeypatch.setattr(Path, name, failing(name))
    make(target, "second")
    many = calls[0]
    assert many >= 5
    for number in range(1, many + 1):
        before = tree(tmp_path)
        calls[0], fatal[0] = 0, number
        with pytest.raises(LateboltError, match="Input/output error"):
            make(target, f"number {number}")
        fatal[0] = -1
        assert tree(tmp_path) == before, number


@pytest.mark.parametrize("way", ["parent is a file", "target is a file"])
def test_a_file_in_the_way_is_one_line(tmp_path, way):
    (tmp_path / "file").write_text("mine")
    target = tmp_path / "file" / "model" if way == "parent is a file" else tmp_path / "file"
    with pytest.raises(LateboltError) as caught:
        make(target, check=refuse)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == {"file": b"mine"}


def test_the_limit_of_a_files_size_is_one_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(LateboltError, match="larger than this process may write"):
            make(tmp_path / "mine", "x" * 10_000)
        with (
            pytest.raises(LateboltError, match="larger than this process may write"),
            drafts.file_for(tmp_path / "mine.npz") as file,
        ):
            file.write(b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing(tmp_path, maker, number):
    before = signal.getsignal(signal.SIGTERM)  # other libraries that tests use may have set it
    process = maker(tmp_path / "mine")
    process.send_signal(number)
    process.communicate()
    assert process.returncode not in (0, -signal.SIGTERM, -signal.SIGHUP)
    assert tree(tmp_path) == {}
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_killed_maker_left_is_told_from_what_is_being_made(tmp_path, maker):
    living = maker(tmp_path / "other")
    killed = maker(tmp_path / "mine")
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    [line] = drafts.remove_leftovers(tmp_path)
    assert "left by a process that was killed; removed" in line
    assert drafts.remove_leftovers(tmp_path) == []
    living.communicate("")
    assert tree(tmp_path) == {"other": None, "other/half": b"half"}


def test_what_a_killed_maker_had_set_aside_is_put_back(tmp_path, maker):
    make(tmp_path / "mine", "first")
    killed = maker(tmp_path / "mine", "aside")
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "mine").exists()
    [line] = drafts.remove_leftovers(tmp_path)
    assert line == f"{tmp_path / 'mine'}: set aside by a process that was killed; put back"
    assert tree(tmp_path) == {"mine": None, "mine/content": b"first"}


def test_what_was_set_aside_is_kept_where_something_else_took_its_place(tmp_path, maker):
    make(tmp_path / "mine", "first")
    killed = maker(tmp_path / "mine", "aside")
    killed.kill()
    killed.communicate()
    (tmp_path / "mine").mkdir()
    [line] = drafts.remove_leftovers(tmp_path)
    assert "left for you to look at" in line
    assert b"first" in tree(tmp_path).values()


def test_a_second_maker_of_one_target_is_told_of_the_first(tmp_path, maker):
    first = maker(tmp_path / "mine")
    with pytest.raises(LateboltError, match=rf"mine: process {first.pid} is making it"):
        make(tmp_path / "mine")
    make(tmp_path / "other")
    first.communicate("")
    assert sorted(tree(tmp_path)) == ["mine", "mine/half", "other", "other/content"]


def test_a_target_that_appears_meanwhile_is_not_replaced_unasked(tmp_path):
    target = tmp_path / "mine"
    with (
        pytest.raises(LateboltError, match="exists already"),
        drafts.folder_for(target, refuse) as draft,
    ):
        (draft / "content").write_text("new")
        target.mkdir()
        (target / "thesis.txt").write_text("years of work")
    assert tree(tmp_path) == {"mine": None, "mine/thesis.txt": b"years of work"}


def test_what_was_replaced_does_not_come_back_while_the_next_maker_is_at_it(tmp_path, monkeypatch):
    """The next one has set ours aside just when we have put it there."""
    target, replace = tmp_path / "mine", drafts._replace
    make(target, "first")

    def replace_and_lose(target, draft, check):
        replace(target, draft, check)
        target.rename(tmp_path / "aside")

    monkeypatch.setattr(drafts, "_replace", replace_and_lose)
    make(target, "second")
    assert tree(tmp_path) == {"aside": None, "aside/content": b"second"}


def test_what_was_set_aside_goes_where_another_took_its_place_at_the_last_moment(tmp_path, monkeypatch):
    target, rename = tmp_path / "mine", Path.rename
    make(target, "first")

    def fail(target, draft, check):
        rename(target, draft / "old")
        raise LateboltError("no")

    def rename_late(self, to):
        if self.name == "old":
            (tmp_path / "mine").mkdir()
            (tmp_path / "mine" / "content").write_text("another's")
        return rename(self, to)

    monkeypatch.setattr(drafts, "_replace", fail)
    monkeypatch.setattr(Path, "rename", rename_late)
    with pytest.raises(LateboltError, match=r"^no$"):
        make(target, "second")
    assert tree(tmp_path) == {"mine": None, "mine/content": b"another's"}


def test_many_makers_at_once_leave_one_whole_folder(tmp_path):
    def keep_making(content):
        for _ in range(25):
            try:
                make(tmp_path / "mine", content)
            except LateboltError as error:
                assert "is making it" in str(error)

    threads = [threading.Thread(target=keep_making, args=(str(i) * 50,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = tree(tmp_path)
    assert set(found) == {"mine", "mine/content"}
    assert len(found["mine/content"]) == 50 and len(set(found["mine/content"])) == 1
