"""A few drawn models beside the libraries that saved them; `make record-differential` takes hundreds."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from differential import comparing, keeping
from differential.asking import ask, need_sentence_transformers_6
from latebolt import Encoder
from latebolt.adapters.sentence_transformers import MultiVectorEncoder
from latebolt_export import export_model
from later import needs

MANY = 14  # models a library; the exporter's whole way is gone with the first


def save(script: str, python: str, out: Path, first: int, count: int) -> list[Path]:
    """Let a library save cases, in a process of its own."""
    ask(python, script, out, out, first, count)
    return keeping.cases(out)


def check(places: list[Path]) -> None:
    rows = [comparing.compare(place, exported=i == 0) for i, place in enumerate(places)]
    assert not comparing.bad(rows), "\n".join(comparing.bad(rows))
    # Three of four models are taken by both sides; of 14 a half or fewer once in 25 runs, three never.
    assert sum(row.outcome == "same" for row in rows) > len(rows) / 4


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> list[Path]:
    python, out = need_sentence_transformers_6(), tmp_path_factory.mktemp("native")
    return save("with_sentence_transformers", python, out, random.randrange(1000, 10**6), MANY)


def test_what_sentence_transformers_saves(native):
    check(native)


@pytest.fixture(scope="module")
def sound(native, tmp_path_factory) -> tuple[Path, Path]:
    """(a case that both sides take, our export of it)."""
    for place in native:
        record = json.loads((place / "case.json").read_text())
        if not record["outside"] and not record["refused"] and not record["settings"]["subfolder"]:
            break
    made = tmp_path_factory.mktemp("exported") / "made"
    export_model(place / "model", made, precisions=("fp32",))
    return place, made


def same(place: Path, queries: Any, documents: Any) -> None:
    expected = keeping.vectors(place)
    detail, _, _ = comparing.beside(expected, {"query": queries, "document": documents})
    assert not detail, (detail, (place / "case.json").read_text())


def test_the_adapter_gives_what_the_library_gives(sound):
    place, made = sound
    ours = MultiVectorEncoder(made)
    same(place, ours.encode_query(comparing.TEXTS), ours.encode_document(comparing.TEXTS))


def test_a_graph_beside_the_librarys_own_files(sound, tmp_path):
    """`Encoder.load` of a folder that no export of ours made: only its small files say how to read."""
    place, made = sound
    shutil.copytree(place / "model", tmp_path / "foreign")
    shutil.copytree(made / "onnx", tmp_path / "foreign" / "onnx")
    encoder = Encoder.load(tmp_path / "foreign", precision="fp32")
    assert not encoder.folder.exported
    same(place, encoder.encode_queries(comparing.TEXTS), encoder.encode_documents(comparing.TEXTS))


@needs("colbert", "latebolt[dev-frameworks]")
def test_what_colbert_ai_saves(tmp_path):
    check(save("with_colbert_ai", sys.executable, tmp_path, random.randrange(1000, 10**6), MANY // 2))
