"""Searches of an index whose codes live on a GPU against those of the CPU, on a GPU or in numba's simulator.

Run by `test_device.py`, in a process of its own: the simulator is chosen before numba is imported.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import latebolt
from latebolt.errors import IndexUnusable, InvalidInput, OutOfMemory, RuntimeUnavailable
from latebolt.gpu import resident
from latebolt.gpu.cuda import Gpu
from latebolt.gpu.resident import Resident
from latebolt.index.index import Index
from latebolt.index.ingest import train

sys.setswitchinterval(1e-4)  # the simulator's threads wait for each other all the time
DIM = 16
IDS = [f"d{i}" for i in range(6)]


def unit(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch):
    monkeypatch.setattr(train, "TRAIN_TOKENS", 8)  # a codec is learnt from so few


def index_of(folder, rng, bits=2, n_tokens=3):
    """An index of 6 documents, of which d4 has no token and d5 those of d3."""
    vectors = [unit(rng, n_tokens, DIM) for _ in IDS]
    vectors[4], vectors[5] = vectors[4][:0], vectors[3]
    index = Index.create(folder / "index", None, bits=bits, dim=DIM)
    index.add_vectors(IDS, vectors, metadata=[{"n": i} for i in range(6)])
    return index


def on_device(index, **settings):
    return Index.open(index.path, device=settings.pop("device", "cuda"), **settings)


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_hits_and_scores_are_those_of_the_cpu(tmp_path, rng, bits):
    index = index_of(tmp_path, rng, bits)
    with on_device(index) as device:
        query = unit(rng, 3, DIM)
        assert device.search_vectors(query, 3) == index.search_vectors(query, 3, exhaustive=True)
        assert len(device._devices._resident.segments) == 1


def test_many_queries_at_once_filters_and_ties(tmp_path, rng):
    index = index_of(tmp_path, rng)
    queries = [unit(rng, 2, DIM), unit(rng, 5, DIM)]
    with on_device(index) as device:
        for where in (None, "n < 2", "n >= 3"):
            found = device.search_vectors_many(queries, 3, where)
            assert found == index.search_vectors_many(queries, 3, where, exhaustive=True)
        assert {hit.id for hit in found[0]} == {"d3", "d4", "d5"}
        ids = [hit.id for hit in device.search_vectors(queries[0], 6)]
        assert ids.index("d5") == ids.index("d3") + 1  # they score the same
        assert device.search_vectors(queries[0], 3, "n > 99") == []


def test_a_query_of_more_blocks_than_one_pass_serves(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(resident, "MOST_BLOCKS", 1)
    index, query = index_of(tmp_path, rng, n_tokens=2), unit(rng, 33, DIM)
    with on_device(index) as device:
        assert device.search_vectors(query, 3) == index.search_vectors(query, 3, exhaustive=True)


def test_commits_and_deletions_are_seen_and_only_new_segments_go_up(tmp_path, rng, monkeypatch):
    index, query = index_of(tmp_path, rng), unit(rng, 2, DIM)
    went_up = []
    put_up = Resident._codec
    monkeypatch.setattr(
        Resident, "_codec", lambda self, *of: went_up.append(len(self.segments)) or put_up(self, *of)
    )
    with on_device(index) as device:
        best = device.search_vectors(query, 2)
        index.delete([best[0].id])
        after = device.search_vectors(query, 2)
        assert after == index.search_vectors(query, 2, exhaustive=True)
        assert best[0].id not in [hit.id for hit in after]
        index.delete([after[0].id])
        assert device.search_vectors(query, 2) == index.search_vectors(query, 2, exhaustive=True)
        assert len(went_up) == 1
        index.add_vectors(["new"], [query])
        assert device.search_vectors(query, 1)[0].id == "new"
        assert len(went_up) == 2
        index.compact()
        assert device.search_vectors(query, 2) == index.search_vectors(query, 2, exhaustive=True)
        assert set(device._devices._resident.segments) == {s.name for s in index._store.snapshot().segments}
    assert device._devices._resident is None
    with pytest.raises(IndexUnusable, match="closed"):
        device.search_vectors(query, 1)


def test_vectors_without_a_kernel_are_scored_on_the_cpu_and_told(tmp_path, encoder):
    texts = ["a cat sat", "dogs bark", "fresh bread", "the sea"]
    made = {}
    for bits in (8, 16):
        made[bits] = Index.create(tmp_path / str(bits), encoder, bits=bits)
        made[bits].add(texts, list("abcd"))
    told = {}
    for bits, index in made.items():
        with on_device(index, encoder=encoder) as device:
            for mode in ("late", "hybrid"):
                expected = index.search("cat", 2, exhaustive=True, mode=mode)
                assert device.search("cat", 2, mode=mode) == expected
            assert device.search("cat", 2, mode="bm25") == index.search("cat", 2, mode="bm25")
            found = device.search("cat", 2, explain=True)
            assert found.hits == index.search("cat", 2, exhaustive=True)
            told[bits] = found.roads[0].why
    assert told[8] == "exhaustive on the CPU: vectors of 8 bits a dimension have no kernel for a GPU"
    assert told[16].startswith("exhaustive on cuda:0; ")


def test_a_document_of_many_passages_comes_once(tmp_path, encoder):
    index = Index.create(tmp_path / "i", encoder, bits=16, passage_tokens=2, passage_overlap=0)
    index.add(["cat cats cat cats cat cats cat cats", "a dog"], ["cats", "dog"])
    assert index.info()["passages"] > 3
    with on_device(index, encoder=encoder) as device:
        assert device.search("cat", 2) == index.search("cat", 2, exhaustive=True)
        assert {hit.id for hit in device.search("cat", 2)} == {"cats", "dog"}


def test_an_index_without_documents(tmp_path, rng):
    index = Index.create(tmp_path / "i", None, dim=DIM, device="cuda")
    assert index.search_vectors(unit(rng, 2, DIM)) == []
    index.add_vectors(["none"], [unit(rng, 0, DIM)], device="cpu")
    assert [hit.id for hit in index.search_vectors(unit(rng, 2, DIM))] == ["none"]


def test_what_does_not_fit_a_query_is_told(tmp_path, rng):
    index = index_of(tmp_path, rng)
    with on_device(index) as device:
        with pytest.raises(InvalidInput, match="should be"):
            device.search_vectors_many([unit(rng, 2, DIM), unit(rng, 2, 8)])
        with pytest.raises(InvalidInput, match="finite"):
            device.search_vectors(np.full((1, DIM), np.nan, np.float32))


def test_segments_spread_over_several_gpus(tmp_path, rng, monkeypatch):
    """Two names of one device, where there is one."""

    class Twin(Gpu):
        def __init__(self, number):
            super().__init__(0)
            self.number = number

    monkeypatch.setattr("latebolt.gpu.cuda.Gpu", Twin)
    index, query = index_of(tmp_path, rng), unit(rng, 2, DIM)
    index.add_vectors(["x", "y"], [unit(rng, 40, DIM), unit(rng, 2, DIM)])
    with on_device(index, device="cuda:0,cuda:1") as device:
        assert device.search_vectors(query, 4) == index.search_vectors(query, 4, exhaustive=True)
        where = {str(each.gpu) for each in device._devices._resident.segments.values()}
        assert where == {"cuda:0", "cuda:1"}


def test_codes_that_do_not_fit_are_refused_with_the_way_out(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(Gpu, "free_bytes", lambda self: 1e9)
    monkeypatch.setattr(resident, "resident_bytes", lambda *_: 10**12)
    index = index_of(tmp_path, rng)
    with (
        on_device(index) as device,
        pytest.raises(OutOfMemory, match=r"takes 1000.0 GB .* cuda:0 has 1.0 GB free\. Spread the index"),
    ):
        device.search_vectors(unit(rng, 2, DIM))


def test_the_bytes_that_are_stated_are_those_that_are_taken(tmp_path, rng):
    index = index_of(tmp_path, rng)
    with on_device(index) as device:
        device.search_vectors(unit(rng, 2, DIM), 1, "n > 2")  # with a mask
        (held,) = device._devices._resident.segments.values()
        arrays = (held.codes, held.cells, held.norms, held.offsets, held._masked)
        assert held.bytes == sum(array.nbytes for array in arrays)


def test_maxsim_of_vectors_given_on_the_spot(rng):
    query, documents = unit(rng, 3, 8), [unit(rng, n, 8) for n in (2, 0, 1)]
    found = latebolt.maxsim(query, documents, device="cuda")
    np.testing.assert_allclose(found, latebolt.maxsim(query, documents), rtol=1e-5)


def test_a_gpu_that_is_not_there(rng):
    with pytest.raises(RuntimeUnavailable, match="there is no cuda:9 here"):
        latebolt.maxsim(unit(rng, 1, 8), [unit(rng, 1, 8)], device="cuda:9")


def test_a_fork_is_told(tmp_path, rng, monkeypatch):
    index, query = index_of(tmp_path, rng), unit(rng, 1, DIM)
    with on_device(index) as device:
        device.search_vectors(query, 1)
        here = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: here + 1)
        with pytest.raises(IndexUnusable, match="forked"):
            device.search_vectors(query, 1)
