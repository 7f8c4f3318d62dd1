"""Blocks of the README and of docs/ that want torch, mteb or the exporter, or stand for what brings torch.

All others have run in the engine's environment, which has what `ENGINES` names; a block that imports anything
else runs here.
"""

from __future__ import annotations

import sys

import pytest

from readme_snippets import ADAPTERS, Snippet, imported, run, snippets

ENGINES = {
    *sys.stdlib_module_names, "latebolt", "numpy", "msgspec", "pydantic", "langchain_core", "llama_index",
    "haystack", "rerankers", "qdrant_client", "grpc", "tenacity", "ray", "pyarrow",
}  # fmt: skip
WITH_TORCH = tuple(f"{ADAPTERS}{name}" for name in ("stanford", "ragatouille", "sentence_transformers"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def wants_more_than_the_engine(snippet: Snippet) -> bool:
    if snippet.kind == "sh":
        return "latebolt export " in snippet.code  # and not export-docs
    return not imported(snippet.code) <= ENGINES or any(name in snippet.code for name in WITH_TORCH)


HERE = [snippet for snippet in snippets() if wants_more_than_the_engine(snippet)]


@pytest.mark.parametrize("snippet", HERE, ids=str)
def test_it_runs_as_it_stands(snippet, folder):
    run(snippet, folder)


def test_the_exporter_and_mteb_are_among_them():
    code = "\n".join(snippet.code for snippet in HERE)
    assert all(name in code for name in ("latebolt export ", f"{ADAPTERS}mteb", *WITH_TORCH))
