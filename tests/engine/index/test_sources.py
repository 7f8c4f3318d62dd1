"""Documents in batches: sequences whole, streams in lockstep and in bounded memory, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from latebolt import Index
from latebolt.errors import InvalidInput
from latebolt.index import index as index_module
from latebolt.index.ingest import sources, sync, train
from latebolt.index.store.check import check_index

WORDS = ["cats", "dogs", "rain", "trains", "bread"]
TEXTS = [f"text number {i} about {WORDS[i % 5]}" for i in range(40)]


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    return Index.create(tmp_path / "i", encoder)


def ids(hits) -> list:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("train_tokens", [300, 10**9])
def test_a_stream_gives_what_a_list_gives(tmp_path, encoder, monkeypatch, train_tokens):
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(train, "TRAIN_TOKENS", train_tokens)
    names, metadata = [f"d{i}" for i in range(40)], [{"n": i} for i in range(40)]
    listed = Index.create(tmp_path / "l", encoder)
    listed.add(TEXTS, names, metadata)
    streamed = Index.create(tmp_path / "s", encoder)
    generation = streamed.info()["generation"]
    assert streamed.add((t for t in TEXTS), iter(names), (m for m in metadata)) == names
    assert streamed.info()["generation"] == generation + 1  # one commit
    assert check_index(streamed.path) == []
    assert (streamed.info()["centroids"] is None) == (train_tokens == 10**9)
    for query in ("a train", "baking bread"):
        a, b = (each.search(query, k=8, where="n < 20", exhaustive=True) for each in (listed, streamed))
        assert set(ids(a[:4])) == set(ids(b[:4])) and {h.metadata["n"] < 20 for h in b} == {True}
        words = [each.search(query, k=40, mode="bm25") for each in (listed, streamed)]
        assert words[0] == words[1]


def test_a_stream_may_be_mixed_with_lists_and_lack_ids(index):
    assert index.add((t for t in TEXTS), metadata=[{"n": i} for i in range(40)])[-1] == "39"
    assert index.add(iter(TEXTS[:2]), ids=["x", "0"]) == ["x", "0"] and len(index) == 41
    assert index.add(iter(())) == [] and index.add(map(str, range(3))) == ["40", "41", "42"]


def test_made_ids_of_many_lots_are_free(index, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 3)
    index.add(["given"], ids=["4"])
    assert index.add(iter(TEXTS[:7])) == ["0", "1", "2", "3", "5", "6", "7"] and len(index) == 8


def broken(n: int):
    yield from TEXTS[:n]
    raise KeyError("the source broke")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": iter(TEXTS), "ids": map(str, range(39))}, InvalidInput, "ids .*ended after 39"),
        ({"texts": iter(TEXTS), "ids": (f"{i}" for i in range(41))}, InvalidInput, "texts .*ended after 40"),
        ({"texts": iter([*TEXTS[:8], None])}, InvalidInput, r"texts\[8\]"),
        ({"texts": iter(TEXTS), "ids": [*map(str, range(38)), "", "b"]}, InvalidInput, r"ids\[38\]"),
        ({"texts": iter(TEXTS), "ids": [*map(str, range(39)), "2"]}, InvalidInput, r"ids\[39\] .*ids\[2\]"),
        ({"texts": iter(TEXTS), "metadata": [{}] * 39 + [{"x": object()}]}, InvalidInput, r"metadata\[39\]"),
        ({"texts": iter(TEXTS), "metadata": {"x": 1}}, InvalidInput, "metadata should be a list"),
        ({"texts": 5}, InvalidInput, "texts should be a list"),
        ({"texts": broken(20)}, KeyError, "the source broke"),
    ],
)
def test_a_stream_that_fails_adds_nothing(index, monkeypatch, arguments, error, message):
    monkeypatch.setattr(sources, "BATCH_DOCUMENTS", 6)
    index.add(["before"], ids=["before"])
    with pytest.raises(error, match=message):
        index.add(**arguments)
    assert len(Index.open(index.path)) == 1 and check_index(index.path) == []
    assert index.add(["after"]) == ["0"]  # and numbers were not spent


@pytest.mark.parametrize("way", ["add", "sync"])
def test_what_is_held_of_a_stream_is_bounded_by_its_texts_too(index, monkeypatch, way):
    """A folder of books: what a few of them take must not be taken by thousands."""
    for module, name in ((sources, "BATCH_CHARACTERS"), (sync, "BATCH_CHARACTERS")):
        monkeypatch.setattr(module, name, 400)
    monkeypatch.setattr(sync, "LOOKUP_CHARACTERS", 200)
    given, held = 0, []

    def texts():
        nonlocal given
        for text in TEXTS:
            given += 1
            yield text

    rows_of = index_module.rows_of

    def noted(batch, *rest):
        held.append((given - sum(held_before for _, held_before in held), len(batch)))
        return rows_of(batch, *rest)

    monkeypatch.setattr(index_module, "rows_of", noted)
    if way == "add":
        index.add(texts())
    else:
        index.sync((str(i), text) for i, text in enumerate(texts()))
    assert sum(n for _, n in held) == len(TEXTS) == len(index)
    assert all(ahead <= 30 and n <= 20 for ahead, n in held) and len(held) > 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream(tmp_path):
    """Texts of 40 kB of which the model sees little: a list of them would take 60 MB."""
    code = """
        import sys
        from latebolt import Encoder, Index
        from latebolt.cli.common import resident_mb
        from latebolt.index.ingest import train
        from latebolt.index.ingest import sources

        sources.BATCH_DOCUMENTS, train.TRAIN_TOKENS = 50, 1
        texts = (f"{i} " + "x" * 40_000 for i in range(int(sys.argv[2])))
        index = Index.create(sys.argv[1], Encoder.load("starter", dim=64, threads=2))
        index.add(texts)
        print(resident_mb())
    """

    def peak(n: int) -> float:
        arguments = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / str(n)), str(n)]
        return float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)

    assert peak(1600) < peak(100) + 50
