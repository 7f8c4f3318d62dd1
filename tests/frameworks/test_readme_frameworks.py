"""The README's blocks once more, here with the frameworks that bring torch and with the exporter."""

from __future__ import annotations

import pytest

from readme_snippets import run, snippets, write_what_they_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("readme")
    write_what_they_name(made)
    return made


# The commands that need no exporter have run in the engine's environment.
HERE = [snippet for snippet in snippets() if snippet.kind == "python" or "latebolt export" in snippet.code]


@pytest.mark.parametrize("snippet", HERE, ids=str)
def test_it_runs_as_it_stands(snippet, folder):
    run(snippet, folder)
