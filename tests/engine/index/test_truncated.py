"""An index knows how many of its documents the model did not read to their end."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from latebolt import Index, TokenVectors
from latebolt.index.format.layout import TRUNCATED
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.ingest import train
from latebolt.index.store.check import check_index

LONG = "word " * 600


@pytest.fixture
def index(tmp_path, encoder):
    return Index.create(tmp_path / "index", encoder)


def truncated(index) -> int | None:
    assert check_index(index.path) == []
    return Index.open(index.path).info()["truncated"]


def test_it_is_counted_and_told_once_an_addition(index, caplog):
    caplog.set_level(logging.WARNING, "latebolt")
    index.add([LONG, "short", LONG, *["text"] * 600])
    assert truncated(index) == 2
    [record] = [each for each in caplog.records if each.name == "latebolt"]
    assert record.getMessage().startswith("2 of 603 documents were longer than the 512 tokens")
    assert "Make the index with passage_tokens=..." in record.getMessage()
    caplog.clear()
    index.search("a word", explain=True)
    assert not caplog.records  # the hits' texts are encoded again, which nobody has to be told


def test_an_encoder_of_a_shorter_length_names_both_ways(tmp_path, encoder, caplog):
    Index.create(tmp_path / "short", encoder.with_lengths(document=5)).add(["a b c d e f g h"])
    assert "with_lengths(document=...), up to 512" in caplog.text


def test_the_count_follows_deletions_replacements_and_merges(index):
    assert truncated(index) == 0 and read_manifest(index.path).format_version == 1
    index.add([LONG, "a", LONG, "b"], ids=["0", "1", "2", "3"])
    assert truncated(index) == 2 and read_manifest(index.path).format_version == 4
    index.add(["short now", LONG], ids=["0", "4"])
    assert truncated(index) == 2
    index.delete(["2"])
    assert truncated(index) == 1
    index.compact()
    assert truncated(index) == 1
    index.delete(["4"])
    index.compact()
    assert truncated(index) == 0 and read_manifest(index.path).format_version == 1


def test_it_survives_the_learning_of_a_codec(index, monkeypatch):
    """Drawn samples and the vectors that waited for centroids keep their marks."""
    monkeypatch.setattr(train, "TRAIN_TOKENS", 4000)
    texts = [f"{LONG if i % 3 == 0 else 'a text'} of number {i}" for i in range(30)]
    index.add(texts[:10])
    assert index.info()["centroids"] is None and truncated(index) == 4
    index.add(texts[10:])
    assert index.info()["centroids"] and truncated(index) == 10


def test_texts_cut_into_passages_are_read_whole(tmp_path, encoder):
    index = Index.create(tmp_path / "index", encoder, passage_tokens=100)
    index.add([LONG, "short"])
    assert truncated(index) == 0


def test_given_vectors_bring_their_marks(index, encoder):
    vectors = encoder.encode_documents([LONG, "a", "b"])
    index.add_vectors(["x", "y", "z"], vectors)
    assert truncated(index) == 1
    index.add_vectors(["x"], TokenVectors(vectors[1], np.array([0, len(vectors[1])])))
    assert truncated(index) == 0


def test_a_part_that_is_adopted_brings_its_marks(index, tmp_path):
    part = index.new_part(tmp_path / "part")
    part.add(["a", LONG], ids=["0", "1"])
    index.adopt(part.path)
    assert truncated(index) == 1


def without_the_count(index) -> None:
    """As an earlier version would have left it."""
    with index._store.writer() as writer:
        settings = dict(writer.manifest.settings)
        del settings["counts_truncated"]
        writer.set_settings(settings)
        writer.commit()


def test_an_index_from_before_the_count_has_none(index, tmp_path, encoder):
    without_the_count(index)
    index.add(["a", LONG])
    assert truncated(index) is None
    newer = Index.create(tmp_path / "newer", encoder)
    newer.adopt(index.path)
    assert truncated(newer) is None


def test_a_mark_that_is_none_is_damage(index):
    index.add([LONG, "a"])
    [path] = index.path.glob(f"segments/*/{TRUNCATED}")
    data = bytearray(path.read_bytes())
    data[-1] = 7
    path.write_bytes(bytes(data))
    assert any(TRUNCATED in str(problem) for problem in check_index(index.path))
