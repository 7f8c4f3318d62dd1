"""The table of slips stays true: each line is still there, once, and its test too; nothing here is broken."""

from __future__ import annotations

import pytest

from mutations import ENGINE, MUTATIONS, PROJECT, mutated, row


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.module)
def test_each_slip_can_still_be_made(mutation):
    source = (ENGINE / mutation.module).read_text()
    broken = mutated(mutation, source)
    assert broken != source
    compile(broken, mutation.module, "exec")
    assert (PROJECT / "tests" / "engine" / mutation.test).is_file()


def test_the_slips_are_in_ten_modules_of_many_rooms_and_on_the_page():
    modules = {mutation.module for mutation in MUTATIONS}
    rooms = {module.rpartition("/")[0] for module in modules}
    assert len(modules) == len(MUTATIONS) >= 10 and len(rooms) >= 10
    page = (PROJECT / "docs" / "mutations.md").read_text()
    for mutation in MUTATIONS:
        assert row(mutation) in page, f"{mutation.module}: run tests/mutations.py --write docs/mutations.md"
