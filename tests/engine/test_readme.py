"""The code of the README and of docs/ runs as it stands, and the README's beginning is short."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from pathlib import Path

import pytest

from readme_snippets import PAGES, PROJECT, README, Snippet, commands, imported, promises, run, snippets

SNIPPETS = snippets()
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_it_runs_as_it_stands(snippet, folder):
    run(snippet, folder)


def test_the_programs_of_the_readme_run_twice(folder):
    for snippet in snippets(README):
        if snippet.kind == "python":
            for _ in range(2):
                run(snippet, folder)


def test_the_first_example_comes_early():
    first = next(snippet for snippet in snippets(README) if snippet.kind == "python")
    assert first.line < 30 and len(promises(first.code)) == 2


def test_every_block_is_looked_at():
    for page in PAGES:
        fences = re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert [snippet.kind for snippet in snippets(page)] == fences


def test_what_is_not_installed_here_is_what_a_test_a_benchmark_or_the_engine_imports():
    """Or a name with a typing error would be skipped everywhere."""
    known = set(sys.stdlib_module_names)
    folders = TESTS, PROJECT / "engine", PROJECT / "benchmarks"
    for path in itertools.chain.from_iterable(folder.rglob("*.py") for folder in folders):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                known.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                known |= {alias.name.split(".")[0] for alias in node.names}
    for snippet in SNIPPETS:
        if snippet.kind == "python":
            assert imported(snippet.code) <= known, snippet


def test_every_command_it_names_exists():
    from latebolt.cli import cli

    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"^latebolt (\w+)", text, re.MULTILINE))
    assert named and named <= set(cli.list_commands(None))


def test_a_block_that_fails_or_breaks_its_promise_is_seen(folder):
    for code in ("raise SystemExit(3)", 'print("two")  # one', 'print("b")  # a\nprint("a")  # b'):
        with pytest.raises(AssertionError):
            run(Snippet("x.md", "python", code, 1, None), folder)
    run(Snippet("x.md", "python", 'print("one", "two")  # one, ...', 1, None), folder)
    with pytest.raises(AssertionError, match=r"no-such\.index"):
        run(Snippet("x.md", "sh", 'latebolt search no-such.index "a"', 1, None), folder)
    with pytest.raises(pytest.skip.Exception, match="a server"):
        run(Snippet("x.md", "python", "raise SystemExit(3)", 1, "needs a server"), folder)


def test_how_blocks_are_read(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- not run: no net -->\n```sh\nb\n```\n\n```python\nc\n```\n```json\n{}\n```\n")
    assert snippets(page) == [
        Snippet("page.md", "sh", "b\n", 5, "no net"),
        Snippet("page.md", "python", "c\n", 9, None),
    ]
    lines = "pip install 'x[y]'  # z\ncurl a -d '{\n \"b\": 1}'\nlatebolt c \\\n  -k 3\n"
    assert list(commands(lines)) == [
        ["pip", "install", "x[y]"], ["curl", "a", "-d", '{\n "b": 1}'], ["latebolt", "c", "-k", "3"]
    ]  # fmt: skip
    assert {"latebolt", "mteb", "numpy"} <= imported("from latebolt.adapters.mteb import LateboltModel")


def test_every_test_that_a_promise_names_exists():
    text = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")
    folder, named = "", re.findall(r"`((?:tests/[\w/.]+|test_\w+\.py)?(?:::\w+)?)`", text)
    assert len(named) > 20
    for name in named:
        path, _, test = name.partition("::")
        folder = (
            path
            if path.startswith("tests/")
            else folder
            if not path
            else f"{folder.rpartition('/')[0]}/{path}"
        )
        assert (PROJECT / folder).exists(), name
        if test:
            assert f"def {test}(" in (PROJECT / folder).read_text(encoding="utf-8"), name


def test_the_front_door_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
