"""What users import and call: documented paths, one name for the number of hits, types that hold outside.

The snippets of README.md and docs/library.md are checked by mypy as a user's own files, with latebolt as an
installed package.
"""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import subprocess
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import latebolt
from latebolt import Hit, Index
from latebolt.aio import AsyncIndex
from latebolt.errors import InvalidInput
from readme_snippets import PAGES, PROJECT, imported, snippets

# Paths that documentation has shown, and that people's programs hold: none of them may go.
DOCUMENTED = {
    "latebolt": ["Encoder", "Hit", "Index", "LateboltError", "TokenVectors", "__version__", "maxsim"],
    "latebolt.errors": [
        "ExportError",
        "IndexCorrupt",
        "IndexExists",
        "IndexInaccessible",
        "IndexLocked",
        "IndexNewer",
        "IndexNotFound",
        "IndexReadOnly",
        "IndexUnusable",
        "InputNotFound",
        "InvalidInput",
        "LateboltError",
        "ModelError",
        "ModelMismatch",
        "ObjectStoreError",
        "OutOfMemory",
        "PublishConflict",
        "RequestInvalid",
        "RuntimeUnavailable",
        "ServerError",
        "ServerUnreachable",
        "ShardUnavailable",
        "StorageFull",
    ],
    "latebolt.sharding": ["PartialHits", "ShardedIndex", "join", "split"],
    "latebolt.aio": ["AsyncEncoder", "AsyncIndex"],
    "latebolt.corpus.documents": ["Document", "read_documents"],
    "latebolt.client": [
        "Added",
        "AsyncClient",
        "Client",
        "Document",
        "IndexInfo",
        "Job",
        "ModelInfo",
        "RequestInvalid",
        "ServerError",
        "ServerUnreachable",
        "SnapshotInfo",
    ],
    "latebolt.adapters.haystack": ["LateboltRanker", "LateboltRetriever"],
    "latebolt.adapters.langchain": ["LateboltRerank", "LateboltRetriever"],
    "latebolt.adapters.llama_index": ["LateboltRerank", "LateboltRetriever"],
    "latebolt.adapters.mteb": ["LateboltModel"],
    "latebolt.adapters.qdrant": ["Collection"],
    "latebolt.adapters.qdrant_async": ["AsyncCollection"],
    "latebolt.adapters.ragatouille": ["RAGPretrainedModel"],
    "latebolt.adapters.ray": ["write_parts"],
    "latebolt.adapters.ray.serve": ["application", "build", "deploy"],
    "latebolt.adapters.rerankers": ["Reranker"],
    "latebolt.adapters.sentence_transformers": ["MultiVectorEncoder"],
    "latebolt.adapters.stanford": [
        "Checkpoint",
        "ColBERTConfig",
        "Indexer",
        "Queries",
        "Run",
        "RunConfig",
        "Searcher",
    ],
}
COMMANDS = ["latebolt_export.calibrate", "latebolt_export.cut_vocabulary", "latebolt_export.fit_head"]
COMMANDS += ["latebolt_export.multilingual", "latebolt_export.starter"]  # python -m ...
PASSAGES = ["ovens are hot", "cats sleep", "trains run late"]

# What somebody who checks types expects to write: ids of searches are str, metadata may be looked into.
OUTSIDE = """
import latebolt
from latebolt import Encoder, Hit, Index


def best(index: Index, encoder: Encoder) -> str:
    hits: list[Hit] = index.search("cats", k=1)
    [several] = index.search_many(["cats"], k=1)
    first = encoder.rerank("cats", ["a cat"], k=1)[0]
    year = hits[0].metadata.get("year", 0) + first.id
    return hits[0].id.upper() + several[0].id + str(year + len(index.search("cats", explain=True).stages))


def wrong(index: Index) -> None:
    print(index.search("cats")[0].id + 1)  # error
"""


@pytest.mark.parametrize("module", DOCUMENTED)
def test_documented_paths_are_there(module):
    path = "engine/" + module.replace(".", "/")
    assert (PROJECT / f"{path}.py").exists() or (PROJECT / path / "__init__.py").exists()
    missing = [name for name in imported(f"import {module}") if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(sorted(missing))}")
    found = import_module(module)
    for name in DOCUMENTED[module]:
        assert getattr(found, name) is not None


def test_modules_that_are_run_are_there():
    for module in COMMANDS:
        assert (PROJECT / "export" / module.replace(".", "/")).with_suffix(".py").exists(), module


def test_all_that_documentation_imports_is_listed():
    for snippet in snippets(*PAGES):
        if snippet.kind == "python":
            for node in ast.walk(ast.parse(snippet.code)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "latebolt":
                    assert {alias.name for alias in node.names} <= set(DOCUMENTED[node.module or ""]), snippet
                elif isinstance(node, ast.Import):
                    names = {alias.name for alias in node.names if alias.name.startswith("latebolt")}
                    assert names <= DOCUMENTED.keys(), snippet


def test_k_is_the_number_of_hits_and_its_old_name_warns(encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = encoder.rerank("cats", PASSAGES, k=2)
        assert len(hits) == 2 and encoder.rerank("cats", PASSAGES, 2) == hits
    with pytest.warns(DeprecationWarning, match="top_k is called k now") as told:
        assert encoder.rerank("cats", PASSAGES, top_k=2) == hits
    assert told[0].filename == __file__
    with pytest.raises(InvalidInput, match="both given"):
        encoder.rerank("cats", PASSAGES, 2, top_k=2)
    with pytest.raises(InvalidInput, match="k should be"):
        encoder.rerank("cats", PASSAGES, k=0)


def test_hits_have_str_ids_and_metadata_to_look_into(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder)
    index.add(PASSAGES, metadata=[{"n": 1}, None, None])
    for mode in ("late", "bm25", "hybrid"):
        hits = index.search("cats sleep", mode=mode)
        assert {type(hit.id) for hit in hits} == {str} and {type(hit.metadata) for hit in hits} == {dict}
        assert hits[0].id == "1" and hits[0].metadata == {} and hits[0].record()["metadata"] is None
    [hit] = index.search("ovens", k=1)
    assert hit.metadata == {"n": 1} == hit.record()["metadata"] and pickle.loads(pickle.dumps(hit)) == hit
    assert {hit} == {hit}  # metadata is no part of the hash
    assert encoder.rerank("ovens", PASSAGES, 1)[0] == Hit(0, pytest.approx(hit.score, abs=1), PASSAGES[0])


def test_an_index_is_opened_or_made_alike_whether_awaited_or_not():
    own, awaited = (inspect.signature(kind.open_or_create) for kind in (Index, AsyncIndex))
    assert list(own.parameters.values()) == list(awaited.parameters.values())
    wanted = [
        "path",
        "encoder",
        "bits",
        "dim",
        "passage_tokens",
        "passage_overlap",
        "late_chunking",
        "device",
        "pool_factor",
        "max_vectors",
    ]
    assert list(own.parameters) == wanted and own.parameters["bits"].default is None


def test_an_empty_index_is_an_index(tmp_path):
    index = Index.create(tmp_path / "i", None, dim=8)
    assert len(index) == 0 and bool(index) and (index or None) is index


def test_types_hold_in_a_program_that_uses_the_library(tmp_path):
    assert (Path(latebolt.__file__).parent / "py.typed").exists()
    pages = (PROJECT / "README.md", PROJECT / "docs" / "library.md")
    codes = [snippet.code for snippet in snippets(*pages) if snippet.kind == "python"]
    assert len(codes) >= 2
    for n, code in enumerate([*codes, OUTSIDE]):
        (tmp_path / f"program_{n}.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "."]
    # mypy does not follow an editable installation's import hook, but looks where Python is told to look.
    found = {**os.environ, "PYTHONPATH": str(Path(latebolt.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=found)
    wanted = 1 + OUTSIDE[: OUTSIDE.index("# error")].count("\n")
    [error] = done.stdout.splitlines() or [done.stderr]
    assert error.startswith(f"program_{len(codes)}.py:{wanted}: error: Unsupported operand types"), (
        done.stdout
    )
