"""The table of slips stays true: each line is still there, once, and its test too; nothing here is broken."""

from __future__ import annotations

import ast

import pytest

from mutations import ENGINE, MUTATIONS, PROJECT, mutated, page

TESTS = PROJECT / "tests" / "engine"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.module)
def test_each_slip_can_still_be_made(mutation):
    source = (ENGINE / mutation.module).read_text()
    broken = mutated(mutation, source)
    assert broken != source
    compile(broken, mutation.module, "exec")
    assert (TESTS / mutation.test).is_file()


def test_the_slips_are_in_ten_modules_of_many_rooms():
    modules = {mutation.module for mutation in MUTATIONS}
    rooms = {module.rpartition("/")[0] for module in modules}
    assert len(modules) == len(MUTATIONS) >= 10 and len(rooms) >= 10


def test_the_page_is_what_the_command_writes():
    """Every row in every cell; which test noticed a slip is the page's word, and that test is there."""
    text = (PROJECT / "docs" / "mutations.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    noticed = [row.rsplit("`", 2)[1] for row in rows]
    again = "run tests/mutations.py --write docs/mutations.md"
    assert len(rows) == len(MUTATIONS), again
    assert page(list(zip(MUTATIONS, noticed, strict=True))) == text, again
    for mutation, test in zip(MUTATIONS, noticed, strict=True):
        file, _, name = test.partition("::")
        module = ast.parse((TESTS / file).read_text())
        assert file == mutation.test, again
        assert name in {each.name for each in module.body if isinstance(each, ast.FunctionDef)}, again
