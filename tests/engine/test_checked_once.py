"""A document is checked once, whichever way it comes into an index: calls of the checks are counted."""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from latebolt import Encoder, Index, TokenVectors, checks
from latebolt.cli import run
from latebolt.index.documents import checked
from latebolt.index.ingest import sources, train
from latebolt.serve.http.requests import Reader
from latebolt.serve.http.schemas import DocumentsRequest
from latebolt.serve.settings import Settings
from latebolt.serve.state.data_folder import make_folders
from latebolt.serve.state.indexes import Indexes
from latebolt.serve.state.jobs import Jobs

N = 40
IDS = [f"name {i}" for i in range(N)]
TEXTS = [f"text number {i} about cats that sleep and trains that are late" for i in range(N)]
METADATA = [{"n": i, "tags": ["a", f"b{i}"]} for i in range(N)]
RECORDS = [
    {"id": id, "text": text, "metadata": each} for id, text, each in zip(IDS, TEXTS, METADATA, strict=True)
]


class Counts:
    """How often each value was looked at by the checks."""

    def __init__(self) -> None:
        self.strings: collections.Counter[str] = collections.Counter()
        self.metadata: collections.Counter[str] = collections.Counter()

    def of(self, act: Callable[[], Any]) -> Counts:
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        try:
            act()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        return self

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        if frame.f_code is checks.clean_text.__code__:
            self.strings[frame.f_locals["text"]] += 1
        elif frame.f_code is checked.check_metadata.__code__ and frame.f_locals["metadata"] is not None:
            self.metadata[json.dumps(frame.f_locals["metadata"])] += 1


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Index:
    return Index.create(tmp_path / "i", encoder)


def once(index: Index, counts: Counts, most_of_strings: int = 1) -> None:
    """Nothing more than once, metadata exactly so, and all of it is there."""
    assert counts.metadata == {json.dumps(each): 1 for each in METADATA}
    assert {counts.strings[each] for each in [*IDS, *TEXTS]} == {most_of_strings}
    assert index.get(IDS) == list(zip(IDS, TEXTS, METADATA, strict=True))


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_texts(index: Index, monkeypatch: pytest.MonkeyPatch, stream: bool, learns: bool) -> None:
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 16)
    if learns:
        monkeypatch.setattr(train, "TRAIN_TOKENS", 1)
    texts: Any = iter(TEXTS) if stream else TEXTS
    once(index, Counts().of(lambda: index.add(texts, IDS, METADATA)))
    index.compact()
    assert index.get(IDS[:1])[0] == (IDS[0], TEXTS[0], METADATA[0])


def test_texts_without_ids(index: Index) -> None:
    counts = Counts().of(lambda: index.add(TEXTS, metadata=METADATA))
    assert {counts.strings[text] for text in TEXTS} == set(counts.metadata.values()) == {1}


def test_texts_that_are_cut(tmp_path: Path, encoder: Encoder) -> None:
    index = Index.create(tmp_path / "i", encoder, passage_tokens=5)
    counts = Counts().of(lambda: index.add(TEXTS, IDS, METADATA))
    assert index.info()["passages"] > N
    assert {counts.strings[each] for each in [*IDS, *TEXTS]} == set(counts.metadata.values()) == {1}
    passages = {each for block in index.iter_documents() for each in block.texts if each is not None}
    assert {counts.strings[each] for each in passages} == {0}


def test_vectors(index: Index) -> None:
    vectors = TokenVectors(np.eye(128, dtype=np.float32)[:N], np.arange(N + 1))
    once(index, Counts().of(lambda: index.add_vectors(IDS, vectors, TEXTS, METADATA)))


def test_what_waits_for_its_centroids_is_not_checked_again(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(TEXTS, IDS, METADATA)
    monkeypatch.setattr(train, "TRAIN_TOKENS", 1)
    counts = Counts().of(lambda: index.add(["one more"], ["more"]))
    assert index.info()["centroids"] and not counts.metadata
    assert {counts.strings[each] for each in [*IDS, *TEXTS]} == {0}
    assert index.get(IDS) == list(zip(IDS, TEXTS, METADATA, strict=True))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(map(json.dumps, RECORDS)))
    arguments = ["index", str(tmp_path / "i"), str(path), "--dim", "64"]
    counts = Counts().of(lambda: run(arguments))
    once(Index.open(tmp_path / "i"), counts)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("spaces", [1, 2000], ids=["small body", "body in pieces"])
def test_requests(tmp_path: Path, encoder: Encoder, spaces: int, background: bool) -> None:
    body = json.dumps({"documents": RECORDS}, separators=("," + " " * spaces, ":")).encode()
    make_folders(tmp_path, tmp_path / "snapshots")
    indexes = Indexes(tmp_path / "indexes", lambda dim: encoder)
    indexes.create("i", encoder.dim, 2, None, None)
    jobs = Jobs(tmp_path / "jobs", indexes)

    def post() -> None:
        request = asyncio.run(Reader(Settings()).read(DocumentsRequest, b"application/json", body))
        if background:
            jobs.start()
            job = jobs.begin("i", request.documents)
            while jobs.get(job["id"])["ended"] is None:
                time.sleep(0.01)
            jobs.close(60)
        else:
            indexes.add("i", request.documents)

    # What JSON in UTF-8 has given is clean, and that it is text the model of the request says.
    once(indexes.get("i"), Counts().of(post), most_of_strings=0)


def test_a_collection_of_qdrant(encoder: Encoder) -> None:
    qdrant = pytest.importorskip("qdrant_client")
    from latebolt.adapters.qdrant import Collection

    collection = Collection.create(qdrant.QdrantClient(":memory:"), "docs", encoder)
    counts = Counts().of(lambda: collection.add(TEXTS, IDS, METADATA))
    assert {counts.strings[each] for each in [*IDS, *TEXTS]} == set(counts.metadata.values()) == {1}


def test_an_encoder_takes_checked_texts_as_they_are(encoder: Encoder) -> None:
    texts = checks.check_texts(TEXTS)
    counts = Counts().of(lambda: encoder.encode_documents(texts))
    assert texts == TEXTS and checks.check_texts(texts) is texts and not counts.strings
    counts = Counts().of(lambda: encoder.encode_documents(TEXTS))
    assert {counts.strings[text] for text in TEXTS} == {1}
