"""What .gitignore files leave out of a folder, beside git itself."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latebolt.corpus.documents import read_documents
from latebolt.errors import InvalidInput

ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", *arguments], cwd=folder, input=given, capture_output=True, env=ENVIRONMENT, check=False
    ).stdout


def make(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path, **options) -> set[str]:
    """Names of the files that are read of a folder."""
    skipped: list = []
    try:
        found = {document.id for document in read_documents([str(folder)], True, skipped, **options)}
    except InvalidInput:
        found = set()
    assert skipped == []
    return {os.path.relpath(name, folder) for name in found}


def kept_by_git(folder: Path, names: list[str]) -> set[str]:
    ignored = git(folder, "check-ignore", "--no-index", "-z", "--stdin", given="\0".join(names).encode())
    return set(names) - set(ignored.decode().split("\0"))


RULES = """# comment
*.tmp.txt
/only-here.md
build/
!keep.txt
docs/**/old.md
**/cache
a?c.txt
[xy].txt
\\#odd.txt
\\!odd.txt
spaced\\ .txt
trailing.txt@@@
!build/never.txt
/deep/*
!/deep/down
crlf.txt\r
[
!
""".replace("@", " ")  # git drops white space at the end

NAMES_OF_RULES = """\
a.txt
b.tmp.txt
sub/b.tmp.txt
only-here.md
sub/only-here.md
build/x.txt
sub/build/y.txt
build/never.txt
keep.txt
docs/old.md
docs/a/b/old.md
docs/a/new.md
cache/z.txt
q/cache/z.txt
abc.txt
abbc.txt
x.txt
z.txt
#odd.txt
!odd.txt
trailing.txt
deep/up/a.txt
deep/down/a.txt
deep/a.txt
crlf.txt
nested/one.txt
nested/two.txt
nested/again/two.txt
nested/b.tmp.txt
sub/build.txt
"""


def test_as_git_does(tmp_path):
    git(tmp_path, "init", "-q")
    names = NAMES_OF_RULES.splitlines()
    make(tmp_path, dict.fromkeys(names, "text"))
    (tmp_path / ".gitignore").write_text(RULES)
    (tmp_path / "nested/.gitignore").write_text("/one.txt\n!*.tmp.txt\nagain/*\n")
    (tmp_path / "nested/again/.gitignore").write_text("!two.txt")
    expected = kept_by_git(tmp_path, names)
    assert read(tmp_path) == expected and 5 < len(expected) < len(names)
    assert read(tmp_path, ignored=True) == set(names)
    for folder in ("nested", "docs", "deep", "sub"):  # the rules of the repository hold in a folder of it
        inside = {os.path.relpath(name, folder) for name in expected if name.startswith(f"{folder}/")}
        assert read(tmp_path / folder) == inside, folder


def test_what_is_named_is_read(tmp_path):
    git(tmp_path, "init", "-q")
    make(
        tmp_path,
        {".gitignore": "build/\n*.txt\n", "build/a.md": "x", "build/b.txt": "x", "a.txt": "x", "a.md": "x"},
    )
    assert read(tmp_path) == {"a.md"}
    assert read(tmp_path / "build") == {"a.md", "b.txt"}  # nobody names a folder to have nothing of it
    [document] = read_documents([str(tmp_path / "a.txt")])
    assert document.text == "x"
    found = [document.id for document in read_documents([str(tmp_path), str(tmp_path / "a.txt")], True)]
    assert found == [str(tmp_path / "a.md"), str(tmp_path / "a.txt")]


def test_without_a_repository(tmp_path):
    make(
        tmp_path,
        {".gitignore": "*.txt", "sub/.gitignore": "!b.txt", "a.txt": "x", "sub/b.txt": "x", "sub/c.txt": "x"},
    )
    assert read(tmp_path) == {"sub/b.txt"}
    assert read(tmp_path / "sub") == {"b.txt", "c.txt"}  # no repository, so nothing above the folder counts


def test_relative_names_and_links(tmp_path, monkeypatch):
    make(tmp_path, {"r/.gitignore": "a.txt\n", "r/a.txt": "x", "r/b.txt": "x", "rules": "b.txt"})
    (tmp_path / "r/sub").mkdir()
    (tmp_path / "r/sub/b.txt").write_text("y")
    (tmp_path / "r/sub/.gitignore").symlink_to(tmp_path / "rules")  # git follows none, nor do we
    monkeypatch.chdir(tmp_path / "r")
    assert [document.id for document in read_documents(["."], True)] == ["b.txt", "sub/b.txt"]
    monkeypatch.chdir(tmp_path)
    assert [document.id for document in read_documents(["r/"], True)] == ["r/b.txt", "r/sub/b.txt"]
    (tmp_path / "r/sub/.gitignore").unlink()
    os.mkfifo(tmp_path / "r/sub/.gitignore")  # to open it would wait for ever
    assert read(tmp_path / "r") == {"b.txt", "sub/b.txt"}


def test_rules_made_to_take_for_ever(tmp_path):
    (tmp_path / ("a" * 240 + ".txt")).write_text("x")
    (tmp_path / ".gitignore").write_text(
        "*a" * 60 + "b\n" + "*a*" * 4 + "b\n" + "**/a" * 30 + "\n" + "x\n" * 200_000
    )
    started = time.monotonic()
    assert len(read(tmp_path)) == 1 and time.monotonic() - started < 20


PART = st.sampled_from(["a", "b", "*", "a*", "*b", "?", "**", "[ab]", "ab"])
PATTERN = st.builds(
    lambda negated, rooted, parts, folder: f"{negated}{rooted}{'/'.join(parts)}{folder}",
    st.sampled_from(["", "", "!"]), st.sampled_from(["", "/"]), st.lists(PART, min_size=1, max_size=3),
    st.sampled_from(["", "/", "/*", "/**", ".txt"]),
)  # fmt: skip
NAMES = [
    f"{way}{name}.txt" for way in ("", "a/", "b/", "a/b/", "a/a/", "b/ab/a/") for name in ("a", "ab", "c")
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    git(folder, "init", "-q")
    make(folder, dict.fromkeys(NAMES, "text"))
    return folder


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PATTERN, max_size=4), st.lists(PATTERN, max_size=3))
def test_any_rules_as_git_does(tree, above, below):
    (tree / ".gitignore").write_text("\n".join(above))
    (tree / "a/.gitignore").write_text("\n".join(below))
    assert read(tree) == kept_by_git(tree, NAMES)
