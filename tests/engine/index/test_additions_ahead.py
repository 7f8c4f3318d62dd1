"""Additions of an encoder whose texts share runs as on a GPU: the next texts are encoded while the last are
written, in order, and an error on either side ends both."""

from __future__ import annotations

import threading

import pytest

import latebolt
from as_gpus import as_gpus
from latebolt.encoder import batch_runner
from latebolt.index.ingest import addition
from latebolt.index.ingest.sources import EncodedTexts
from latebolt.index.store.segment_writer import SegmentWriter

TEXTS = [f"the {word} of number {i}" for i in range(5) for word in ("cat", "river", "engine")]


@pytest.fixture
def sharing(encoder, monkeypatch):
    monkeypatch.setattr(batch_runner, "_PROBE_TOKENS", 4)
    monkeypatch.setattr(addition, "GPU_DOCUMENTS", 4)
    made = as_gpus(encoder)
    yield made
    made.close()


def no_threads_ahead():
    for thread in threading.enumerate():
        if thread.name.startswith("latebolt-ahead"):
            thread.join(20)
    return not [thread for thread in threading.enumerate() if thread.name.startswith("latebolt-ahead")]


def test_documents_are_in_order_and_found(sharing, tmp_path):
    index = latebolt.Index.create(tmp_path / "i", sharing)
    ids = index.add(TEXTS)
    assert [entry.text for entry in index.get(ids)] == TEXTS
    assert index.search("river number 3", k=1)[0].text == "the river of number 3"
    assert no_threads_ahead()


def test_texts_are_encoded_while_others_are_written(sharing, tmp_path, monkeypatch):
    second, begun = threading.Event(), []
    coded, append = EncodedTexts.coded, SegmentWriter.append

    def noted(self, rows, codec):
        begun.append(rows)
        if len(begun) == 2:
            second.set()
        return coded(self, rows, codec)

    def waiting(self, *arguments):
        assert second.wait(30), "nothing was encoded while this was about to be written"
        return append(self, *arguments)

    monkeypatch.setattr(EncodedTexts, "coded", noted)
    monkeypatch.setattr(SegmentWriter, "append", waiting)
    latebolt.Index.create(tmp_path / "i", sharing).add(TEXTS)
    assert [len(rows) for rows in begun] == [4, 4, 4, 3]


@pytest.mark.parametrize("side", ["encoding", "writing"])
def test_an_error_ends_both_and_leaves_nothing(sharing, tmp_path, monkeypatch, side):
    index = latebolt.Index.create(tmp_path / "i", sharing)
    kind, name = (EncodedTexts, "coded") if side == "encoding" else (SegmentWriter, "append")
    whole, calls = getattr(kind, name), []

    def failing(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(side)
        return whole(self, *arguments)

    monkeypatch.setattr(kind, name, failing)
    with pytest.raises((OSError, latebolt.LateboltError), match=side):
        index.add(TEXTS)
    assert len(index) == 0 and no_threads_ahead()
    monkeypatch.setattr(kind, name, whole)
    index.add(TEXTS)
    assert len(index) == len(TEXTS)
