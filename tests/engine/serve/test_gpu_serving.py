"""A server on a GPU: takes of several requests in one run, memory that runs out, figures of the device.

No GPU is asked: encoders are fakes, or the real one, told to share runs as on a GPU, on the CPU.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers import serving

from latebolt import Encoder
from latebolt.encoder import batch_runner
from latebolt.encoder.model import Model
from latebolt.encoder.text import TokenIds
from latebolt.errors import OutOfMemory, RuntimeUnavailable
from latebolt.gpu import nvml
from latebolt.serve import metrics
from latebolt.serve.engine.batcher import Batcher
from latebolt.serve.engine.cache import VectorCache
from latebolt.serve.state import service

BUDGET = 100


def text(number: int, tokens: int = 10) -> TokenIds:
    return TokenIds(np.full(tokens, number), tokens, None, False)


class FakeGpu:
    """An encoder whose texts share runs: vectors hold the text's number; what is too large does not fit.

    Args:
        room: tokens that memory is enough for.
    """

    def __init__(self, dim: int = 4, room: int = 10_000):
        self.dim, self.room = dim, room
        self.runs: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def vectors_of_many(self, tokens):
        assert self.go.wait(20)
        self.runs.append([int(each.ids[0]) for each in tokens])
        if self.error is not None:
            raise self.error
        if sum(len(each.ids) for each in tokens) > self.room:
            raise OutOfMemory("cuda:0: too little memory")
        run = np.concatenate([np.full((len(each.ids), self.dim), each.ids[0], np.float32) for each in tokens])
        return np.split(run, np.cumsum([len(each.ids) for each in tokens])[:-1])

    def vectors_of(self, tokens, threads=None):
        return self.vectors_of_many([tokens])[0]


@pytest.fixture
def batcher():
    made: list[Batcher] = []

    def make(cache_bytes: int = 0, streams: int = 1) -> Batcher:
        cache = VectorCache(cache_bytes)
        made.append(Batcher(streams, BUDGET, 1_000_000, cache, shares_runs=True))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(engine: Batcher, gpu, numbers, tokens: int = 10):
    texts = [text(number, tokens) for number in numbers]
    return engine.submit(gpu, "document", texts, lambda _, vectors: vectors)


def held(engine: Batcher, gpu: FakeGpu):
    """Something is run, and all that comes meanwhile waits until `go`."""
    gpu.go.clear()
    first = ask(engine, gpu, [0])
    while engine._lanes.texts["document"]:  # it has been taken
        threading.Event().wait(0.001)
    return first


def test_what_has_come_during_a_run_is_the_next_one_up_to_the_budget(batcher):
    engine, gpu = batcher(), FakeGpu()
    held(engine, gpu)
    requests = [ask(engine, gpu, [1, 2, 3]), ask(engine, gpu, [4]), ask(engine, gpu, range(5, 13))]
    gpu.go.set()
    found = [[int(vectors[0, 0]) for vectors in request.result(20)] for request in requests]
    assert found == [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12]]
    assert gpu.runs[0] == [0]
    assert sorted(gpu.runs[1] + gpu.runs[2]) == list(range(1, 13))
    assert len(gpu.runs[1]) == BUDGET // 10 and len(gpu.runs) == 3


def test_texts_of_one_width_share_a_run(batcher):
    engine, wide, narrow = batcher(), FakeGpu(), FakeGpu(dim=2)
    held(engine, wide)
    requests = [ask(engine, wide, [1]), ask(engine, narrow, [2]), ask(engine, wide, [3])]
    wide.go.set()
    assert [request.result(20)[0].shape for request in requests] == [(10, 4), (10, 2), (10, 4)]
    assert wide.runs == [[0], [1, 3]] and narrow.runs == [[2]]


def test_a_request_that_does_not_fit_takes_no_other_with_it_and_the_next_one_is_served(batcher):
    engine, gpu = batcher(), FakeGpu(room=60)
    held(engine, gpu)
    small, large = ask(engine, gpu, [1, 2]), ask(engine, gpu, [3], tokens=70)
    gpu.go.set()
    assert [int(vectors[0, 0]) for vectors in small.result(20)] == [1, 2]
    with pytest.raises(OutOfMemory):
        large.result(20)
    assert gpu.runs == [[0], [1, 2, 3], [1], [2], [3]]
    assert len(ask(engine, gpu, [4]).result(20)[0]) == 10


def test_another_failure_is_told_to_all_who_shared_the_run_and_nothing_is_tried_again(batcher):
    engine, gpu = batcher(), FakeGpu()
    held(engine, gpu).add_done_callback(lambda _: setattr(gpu, "error", RuntimeUnavailable("cuda:0 failed")))
    requests = [ask(engine, gpu, [1]), ask(engine, gpu, [2])]
    gpu.go.set()
    for request in requests:
        with pytest.raises(RuntimeUnavailable, match="cuda:0 failed"):
            request.result(20)
    assert gpu.runs == [[0], [1, 2]]
    gpu.error = None
    assert ask(engine, gpu, [3]).result(20)


def test_what_is_kept_of_a_run_keeps_no_other_texts_vectors(batcher):
    engine, gpu = batcher(cache_bytes=1_000_000), FakeGpu()
    first = ask(engine, gpu, [1, 2]).result(20)
    again = ask(engine, gpu, [2, 1, 3]).result(20)
    assert gpu.runs == [[1, 2], [3]]
    assert again[0] is first[1] and again[1] is first[0]
    assert all(vectors.base is None and not vectors.flags.writeable for vectors in first)


def test_requests_that_nobody_waits_for_are_not_run(batcher):
    engine, gpu = batcher(), FakeGpu()
    held(engine, gpu)
    gone, stays = ask(engine, gpu, [1]), ask(engine, gpu, [2])
    gone.cancel()
    gpu.go.set()
    stays.result(20)
    assert gpu.runs == [[0], [2]]


@pytest.fixture
def gpu_server(tmp_path, monkeypatch, encoder):
    """A server whose encoder shares runs, on a device that NVIDIA's library knows."""
    model = Model(encoder.folder, encoder.precision, encoder._model.devices)
    model.shares_runs = True
    loaded = replace(encoder, _model=model)
    monkeypatch.setattr(service.Encoder, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(batch_runner, "_PROBE_TOKENS", 4)
    monkeypatch.setattr(metrics, "_gpus", None)
    card = nvml.Gpu("NVIDIA H200", 140_000_000_000, 100_000_000_000, 75)
    monkeypatch.setattr(nvml, "gpu", lambda number: card if number == 0 else None)
    with serving(tmp_path / "data", gpu_batch_tokens=4096, cache_mb=0) as running:
        yield running, loaded
    model.close()


# As ONNX Runtime says it, from reports of its users.
FULL = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. "
    "Name:'/layer.0/MatMul' Status Message: bfc_arena.cc:376 onnxruntime::BFCArena::AllocateRawInternal "
    "Available memory of 1048576 is smaller than requested bytes of 939524096",
    "[ONNXRuntimeError] : 1 : FAIL : cuda_call.cc:114 onnxruntime::CudaCall CUDA failure 2: out of memory ; "
    "GPU=0 ; hostname=egg ; expr=cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);",
)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_full_gpu_answers_503_with_the_way_out_and_the_server_goes_on(gpu_server, monkeypatch):
    running, loaded = gpu_server
    client, texts = running.client, {"model": "starter", "input": ["Paris", "Berlin is a city"]}
    expected = client.post("/v1/multi-vector", json=texts)
    assert expected.status_code == 200
    sessions = [*loaded._model._others.values()]
    assert sessions, "nothing shared a run"
    for said in FULL:
        with monkeypatch.context() as full:
            for session in sessions:
                full.setattr(session, "_session", Full(session._session, said))
            answer = client.post("/v1/multi-vector", json=texts)
        assert (answer.status_code, answer.json()["code"]) == (503, "out_of_memory"), answer.text
        assert "send less at a time" in answer.json()["detail"]
        assert client.get("/ready").status_code == 200
        again = client.post("/v1/multi-vector", json=texts)
        assert again.status_code == 200 and again.json()["data"] == expected.json()["data"]


class Full:
    """A session of ONNX Runtime's on a device without memory."""

    def __init__(self, session, said: str):
        self._real, self._said = session, said

    def __getattr__(self, name: str):
        if name.startswith("run"):
            return self._refuse
        return getattr(self._real, name)

    def _refuse(self, *_, **__):
        raise RuntimeError(self._said)


def test_the_devices_memory_and_utilisation_are_among_the_figures(gpu_server):
    running, _ = gpu_server
    families = text_string_to_metric_families(running.client.get("/metrics").text)
    found = {each.name: each.samples for each in families if each.name.startswith("latebolt_gpu_")}
    labels = {"gpu": "cuda:0", "name": "NVIDIA H200"}
    assert {name: [(one.labels, one.value) for one in samples] for name, samples in found.items()} == {
        "latebolt_gpu_memory_bytes": [(labels, 140e9)],
        "latebolt_gpu_memory_used_bytes": [(labels, 40e9)],
        "latebolt_gpu_utilisation_ratio": [(labels, 0.75)],
    }


def test_texts_of_a_server_on_a_gpu_are_taken_by_its_settings(gpu_server):
    running, _ = gpu_server
    batcher = running.server.service.batcher
    assert (batcher._shares_runs, batcher._takers, batcher._threads) == (True, 1, 2)
    assert batcher._batch_tokens == 4096
    assert running.server.service.encoder()._gpu_runs.tokens == 4096


def test_without_a_gpu_there_are_no_figures_of_one(client):
    assert "latebolt_gpu_" not in client.get("/metrics").text


def test_a_library_that_says_nothing_gives_no_figures(monkeypatch):
    from latebolt.serve.gpu_figures import GpuFigures

    monkeypatch.setattr(nvml, "gpu", lambda number: None)
    assert list(GpuFigures([0, 1]).collect()) == []
    monkeypatch.setattr(nvml, "gpu", lambda number: nvml.Gpu("MIG", 10, 4, None))
    assert [family.name for family in GpuFigures([1]).collect()] == [
        "latebolt_gpu_memory_bytes",
        "latebolt_gpu_memory_used_bytes",
    ]


# A model folder with fp16 and fp32 graphs, as benchmarks/gpu.sh gives it to tests that want a GPU.
MODEL = os.environ.get("LATEBOLT_GPU_MODEL", "")


@pytest.mark.gpu
@pytest.mark.skipif(not MODEL or not nvml.count(), reason="no GPU, or no model at LATEBOLT_GPU_MODEL")
def test_on_a_gpu_the_server_answers_as_on_the_cpu(tmp_path):
    texts = ["Paris is a city", "a cat"] * 8
    body = {"model": "any", "input": texts, "input_type": "document"}
    with serving(tmp_path / "gpu", device="cuda", model=MODEL, any_model=True) as running:
        found = running.client.post("/v1/multi-vector", json=body).json()["data"]
        assert "latebolt_gpu_memory_bytes" in running.client.get("/metrics").text
    with Encoder.load(MODEL, "fp32") as encoder:
        expected = encoder.encode_documents(texts)
    for row, vectors in zip(found, expected, strict=True):
        got = np.array(row["embeddings"], np.float32)
        assert (got * vectors).sum(1).min() > 0.999
