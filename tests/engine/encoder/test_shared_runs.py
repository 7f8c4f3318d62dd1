"""Texts that share runs as on a GPU, on the CPU, which is told to do as one: vectors, order, views, ends."""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest

from as_gpus import as_gpus
from latebolt.devices import CPU, Device
from latebolt.encoder import batch_runner
from latebolt.encoder import encoder as encoders
from latebolt.encoder.batch_runner import arrays
from latebolt.encoder.batches import DEFAULT_TOKENS
from latebolt.encoder.model import Model
from latebolt.encoder.session import Session
from latebolt.encoder.text import TokenIds
from latebolt.errors import InvalidInput, ModelError, OutOfMemory, RuntimeUnavailable
from latebolt.gpu import nvml
from latebolt.gpu.nvml import Gpu

TEXTS = ["a cat", "the population of Berlin", "", "zip files can be read with the zipfile module", "a"]


@pytest.fixture
def sharing(encoder):
    made = as_gpus(encoder, 2)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_probe(monkeypatch):
    """A GPU's probe of its memory would take the CPU a second."""
    monkeypatch.setattr(batch_runner, "_PROBE_TOKENS", 4)


def assert_alike(found, expected, least):
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert found.values.dtype == np.float32
    cosine = (found.values * expected.values).sum(1)
    assert cosine.min() > least


def test_vectors_in_company_are_those_of_a_text_alone(sharing, encoder):
    """int8 quantises a whole run, so that company shows more than on a GPU's float graphs."""
    texts = TEXTS * 5
    assert_alike(sharing.encode_documents(texts), encoder.encode_documents(texts), 0.98)
    assert_alike(sharing.encode_queries(texts), encoder.encode_queries(texts), 0.98)


def test_texts_of_one_run_alone_have_the_same_bits(sharing, encoder):
    """Which shows that nothing but company makes a difference: order, padding's place, what is kept."""
    tokens = encoder.tokenize(TEXTS, "document")
    exact = replace(sharing, _gpu_runs=replace(sharing._gpu_runs, deterministic=True))
    np.testing.assert_array_equal(
        exact.encode_documents(TEXTS).values, encoder.encode_documents(TEXTS).values
    )
    alone = [exact.encode_documents([text])[0] for text in TEXTS]
    for one, other, each in zip(exact.encode_documents(TEXTS * 3), alone * 3, tokens * 3, strict=True):
        np.testing.assert_array_equal(one, other)
        assert len(one) == each.n_kept


def test_ids_are_filled_up_on_the_right():
    keep = np.array([True, False])
    rows = [
        TokenIds(np.array([5, 6, 7]), 3, None, False),
        TokenIds(np.array([8, 9]), 1, keep, False),
    ]
    ids, mask, kept = arrays(rows, pad=1)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert kept.tolist() == [0, 1, 2, 3]
    assert arrays(rows[:1], pad=1)[1] is None


def test_many_texts_are_encoded_in_parts_and_in_order(sharing, encoder, monkeypatch, caplog):
    monkeypatch.setattr(encoders, "_GPU_TEXTS", 4)
    texts = [*TEXTS, "word " * 600] * 2
    with caplog.at_level(logging.WARNING, logger="latebolt"):
        found = sharing.with_lengths(document=60).encode_documents(texts, pool_factor=2)
    assert caplog.text.count("2 of 12 documents were longer than the 60 tokens") == 1
    expected = encoder.with_lengths(document=60).encode_documents(texts)
    assert found.truncated.tolist() == expected.truncated.tolist()
    halved = [1 + -(-(n - 1) // 2) for n in expected.lengths]
    assert found.lengths.tolist() == halved


def test_chunks_of_a_stream_are_in_order_and_told_once(sharing, encoder, caplog):
    texts = [*TEXTS, "word " * 600]
    with caplog.at_level(logging.WARNING, logger="latebolt"):
        chunks = list(sharing.with_lengths(document=60).iter_documents(iter(texts * 2), chunk=5))
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]
    assert caplog.text.count("2 of 12 documents were longer") == 1
    lengths = [n for chunk in chunks for n in chunk.lengths]
    assert lengths == encoder.with_lengths(document=60).encode_documents(texts * 2).lengths.tolist()


def test_a_stream_that_is_left_early_reads_no_further(sharing):
    read = []

    def texts():
        for i in range(100):
            read.append(i)
            yield "a cat"

    chunks = sharing.iter_documents(texts(), chunk=5)
    next(chunks)
    chunks.close()
    assert len(read) <= 5 * (encoders._GPU_PARTS + 1)


def test_views_pickles_and_copies(sharing, encoder):
    narrow = sharing.with_dim(64)
    assert narrow.encode_documents(TEXTS).dim == 64 and narrow._model is sharing._model
    assert copy.deepcopy(sharing)._model is sharing._model
    chosen = encoder.with_gpu_runs(tokens=512)
    again = pickle.loads(pickle.dumps(chosen))
    assert again._gpu_runs == chosen._gpu_runs and again._gpu_runs.tokens == 512
    sharing.close()
    for use in (sharing.encode_documents, narrow.encode_documents, sharing.encode_queries):
        with pytest.raises(InvalidInput, match="closed"):
            use(TEXTS)


def test_a_pickle_of_before_opens(encoder):
    load, arguments = encoder.__reduce__()
    assert load(*arguments[:6]).dim == encoder.dim


def test_a_forked_child_has_devices_of_its_own(sharing, in_child):
    expected = sharing.encode_documents(TEXTS).lengths.tolist()
    assert in_child(lambda: sharing.encode_documents(TEXTS).lengths.tolist() == expected)
    assert sharing.encode_documents(TEXTS).lengths.tolist() == expected


def test_every_device_has_one_session_and_they_are_loaded_at_once(encoder, monkeypatch):
    opened = []

    class Counted(Session):
        def __init__(self, *arguments):
            opened.append(arguments[4])
            super().__init__(*arguments)

    monkeypatch.setattr("latebolt.encoder.model.Session", Counted)
    sharing = as_gpus(encoder, 2)
    sharing._model.open(sharing._head, 2)
    assert opened == [Device("cpu", 0), Device("cpu", 1)]
    sharing.encode_documents(TEXTS * 4)
    sharing.encode_queries(["one"])
    assert len(opened) == 2
    sharing.close()


def test_on_the_cpu_nothing_is_shared(encoder, monkeypatch):
    monkeypatch.setattr(Model, "batches", property(lambda self: pytest.fail("a run was shared")))
    assert not encoder.shares_runs
    encoder.encode_documents(TEXTS)
    encoder.vectors_of_many(encoder.tokenize(TEXTS, "document"))


def test_tokenised_texts_share_runs_too(sharing, encoder):
    tokens = encoder.tokenize(TEXTS, "document")
    found = sharing.vectors_of_many(tokens)
    assert [len(vectors) for vectors in found] == [each.n_kept for each in tokens]
    assert sharing.vectors_of_many([]) == []


def test_runs_are_as_long_as_is_asked_for(sharing, monkeypatch):
    sizes = []
    whole = Session.run_batch

    def noted(self, ids, mask, kept=None):
        sizes.append(ids.size)
        return whole(self, ids, mask, kept)

    monkeypatch.setattr(Session, "run_batch", noted)
    sharing.with_gpu_runs(tokens=40).encode_documents(TEXTS * 4)
    assert sizes and max(sizes) <= 40


def test_a_budget_is_measured_once(sharing, monkeypatch):
    free = iter([1_000_000, 999_000] * 2)  # of both devices, before and after their probe
    monkeypatch.setattr(nvml, "gpu", lambda number: Gpu("fake", 2_000_000, next(free), None))
    sharing.encode_documents(TEXTS)
    probe = batch_runner._PROBE_ROWS * batch_runner._PROBE_TOKENS
    assert sharing._model.batches._fleet.tokens == int(0.6 * 1_000_000 / 2 * probe / 1000)
    sharing.encode_documents(TEXTS)  # asks nothing any more


def test_without_figures_of_memory_there_is_a_default(sharing, monkeypatch):
    monkeypatch.setattr(nvml, "gpu", lambda number: None)
    sharing.encode_documents(TEXTS)
    assert sharing._model.batches._fleet.tokens == DEFAULT_TOKENS


def test_memory_that_ends_makes_runs_shorter_and_then_tells(sharing, monkeypatch):
    whole, most = Session.run_batch, 60
    monkeypatch.setattr(nvml, "gpu", lambda number: None)

    def small(self, ids, mask, kept=None):
        if ids.size > most and mask is not None:
            raise OutOfMemory("there is not enough memory")
        return whole(self, ids, mask, kept)

    sharing.encode_documents(TEXTS)
    monkeypatch.setattr(Session, "run_batch", small)
    assert len(sharing.encode_documents(TEXTS * 2)) == 10
    assert sharing._model.batches._fleet.halvings > 0
    most = 0
    with pytest.raises(OutOfMemory, match=r'device "cpu:\d": too little memory for a run of .* Close other'):
        sharing.encode_documents(TEXTS * 2)


def test_a_device_that_breaks_is_named(sharing, monkeypatch):
    whole = Session.run_batch

    def broken(self, ids, mask, kept=None):
        if self._device.number == 1:
            raise RuntimeError("CUDA failure 77")
        return whole(self, ids, mask, kept)

    sharing.encode_documents(TEXTS)
    monkeypatch.setattr(Session, "run_batch", broken)
    with pytest.raises(RuntimeUnavailable, match='device "cpu:1" failed: CUDA failure 77'):
        for _ in range(50):
            sharing.with_gpu_runs(tokens=1).encode_documents(TEXTS * 4)


def test_a_device_by_its_name(encoder):
    assert as_gpus(encoder).device == "cpu"
    assert Model(encoder.folder, "int8", (Device("cuda"), Device("cuda", 2))).device_name == "cuda:0,cuda:2"
    assert Model(encoder.folder, "int8", (CPU,)).device_name == "cpu"


def test_a_form_without_a_graph_is_refused_where_it_would_be_used(sharing, encoder):
    with pytest.raises(ModelError, match=r"no graph for ragged runs of a GPU at int8\. Export it again"):
        sharing.with_gpu_runs(form="ragged")
    assert encoder.with_gpu_runs(form="ragged").encode_documents(["a cat"]).dim == 128  # the CPU needs none


def test_texts_of_which_nothing_is_kept(sharing):
    none = [replace(each, keep=np.zeros(len(each.ids), bool)) for each in sharing.tokenize(TEXTS, "document")]
    assert [vectors.shape for vectors in sharing.vectors_of_many(none)] == [(0, 128)] * len(TEXTS)
