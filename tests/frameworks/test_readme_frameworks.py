"""The blocks of the README and of docs/ once more, with frameworks that bring torch and the exporter."""

from __future__ import annotations

import pytest

from readme_snippets import run, snippets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


# The commands that need no exporter have run in the engine's environment.
HERE = [snippet for snippet in snippets() if snippet.kind == "python" or "latebolt export" in snippet.code]


@pytest.mark.parametrize("snippet", HERE, ids=str)
def test_it_runs_as_it_stands(snippet, folder):
    run(snippet, folder)
