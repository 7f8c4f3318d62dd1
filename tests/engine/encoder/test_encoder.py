"""`Encoder`: shapes, order, invariance, loading, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latebolt import Encoder
from latebolt import contract as contracts
from latebolt.contract import Expansion, TextRules
from latebolt.encoder.model_folder import find
from latebolt.encoder.session import Session
from latebolt.encoder.text import TextPipeline
from latebolt.errors import InvalidInput, ModelError, OutOfMemory, RuntimeUnavailable
from latebolt.onnx_runtime import is_out_of_memory

TEXTS = ["a cat", "the population of Berlin", "", "zip files can be read with the zipfile module", "a"]


def test_vectors_are_unit_length_and_in_order(encoder):
    vectors = encoder.encode_documents(TEXTS)
    assert len(vectors) == len(TEXTS) and vectors.dim == 128 and vectors.values.dtype == np.float32
    assert vectors.lengths.tolist() == encoder.count_tokens(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors.values, axis=1), 1, atol=1e-5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(others=st.lists(st.sampled_from([*TEXTS, "x " * 300, "日本語"]), max_size=12), at=st.integers(0, 12))
def test_a_text_does_not_depend_on_its_company(encoder, others, at):
    """Bit for bit, alone or in bulk (which runs other sessions with other thread counts)."""
    alone = encoder.encode_documents(["the population of Berlin"])[0]
    at = min(at, len(others))
    together = encoder.encode_documents([*others[:at], "the population of Berlin", *others[at:]])
    np.testing.assert_array_equal(together[at], alone)


@pytest.mark.parametrize("dim", (128, 96, 64))
def test_heads_are_nested(encoder, dim):
    """The starter's narrow heads are the first rows of its widest, normalised again."""
    narrow = Encoder.load("starter", dim=dim).encode_documents(TEXTS)
    cut = encoder.encode_documents(TEXTS).values[:, :dim]
    np.testing.assert_allclose(narrow.values, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5)


def test_queries_and_documents_have_their_own_length(encoder):
    long = "word " * 1000
    assert encoder.encode_queries([long]).n_tokens == encoder.contract.query.max_tokens
    assert encoder.encode_documents([long]).n_tokens == encoder.contract.document.max_tokens
    assert encoder.encode_documents([long], max_length=20).n_tokens == 20


def test_nothing_in_nothing_out(encoder):
    assert len(encoder.encode_documents([])) == 0 and encoder.encode_documents([]).dim == 128


def test_pooling_keeps_a_part(encoder):
    text = "the population of Berlin and other cities of Germany is counted every year"
    whole = encoder.encode_documents([text])
    half = encoder.encode_documents([text], pool_factor=2)
    assert half.n_tokens == 1 + -(-(whole.n_tokens - 1) // 2)
    np.testing.assert_array_equal(half[0][0], whole[0][0])
    np.testing.assert_allclose(np.linalg.norm(half.values, axis=1), 1, atol=1e-5)


def test_rerank(encoder):
    documents = ["a volcano", "zip files can be read with zipfile", "a cat sat on a mat"]
    hits = encoder.rerank("how to read a zip file", documents, k=2)
    assert next(hit.id for hit in hits) == 1 and len(hits) == 2
    assert hits[0].score > hits[1].score and hits[0].text == documents[1]
    assert len(encoder.rerank("zip", documents)) == 3 and encoder.rerank("zip", []) == []
    same = encoder.rerank("cat", ["a cat", "a cat"])
    assert [hit.id for hit in same] == [0, 1] and same[0].score == same[1].score


@pytest.mark.parametrize("query", ("", "  \n"))
def test_an_empty_query_is_refused(encoder, query):
    with pytest.raises(InvalidInput, match="empty"):
        encoder.rerank(query, ["a"])


def test_several_threads_get_the_same(encoder):
    expected = encoder.encode_documents(TEXTS * 4).values
    wrong = []

    def encode():
        if not np.array_equal(encoder.encode_documents(TEXTS * 4).values, expected):
            wrong.append(1)

    callers = [threading.Thread(target=encode) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_progress_is_shown_when_asked_for(encoder, capsys):
    encoder.encode_documents(TEXTS * 3, show_progress=True)
    assert "tokens/s" in capsys.readouterr().err
    encoder.encode_documents(TEXTS * 3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "nothing-there"}, ModelError, "no such model folder"),
        ({"dim": 100}, ModelError, "128, 96, 64"),
        ({"precision": "fp16"}, ModelError, "no fp16 graph"),
        ({"device": "tpu"}, InvalidInput, "cpu"),
        ({"threads": 0}, InvalidInput, "threads"),
    ],
)
def test_what_cannot_be_loaded_says_why(arguments, error, message):
    with pytest.raises(error, match=message):
        Encoder.load(**arguments)


def test_cuda_is_never_replaced_by_the_cpu_in_silence(caplog):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(
        RuntimeUnavailable, match=r"has no CUDA provider. Run .*pip install 'latebolt\[gpu\]'"
    ):
        Encoder.load(device="cuda")
    assert Encoder.load(device="auto").device == "cpu"
    assert 'device "auto": the installed onnxruntime has no CUDA provider; using the CPU' in caplog.text


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_does_not_start_is_an_error_or_for_auto_a_warning(monkeypatch, caplog):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    # As on a machine with the GPU wheel and no driver: the provider is listed, and sessions come without it.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(RuntimeUnavailable, match=r'device "cuda:1": .* Or use device="cpu"'):
        Encoder.load(device="cuda:1")
    assert "Using the CPU" not in caplog.text
    encoder = Encoder.load(device="auto")
    assert (encoder.device, encoder.precision) == ("cpu", "int8")
    assert 'device "auto": device "cuda:0": ' in caplog.text and "Using the CPU" in caplog.text


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (
            "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);",
            OutOfMemory,
            "nvidia-smi",
        ),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", OutOfMemory, "memory on cuda:1 to load it"),
        (
            "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1",
            RuntimeUnavailable,
            "Or use device",
        ),
        ("INVALID_PROTOBUF : Protobuf parsing failed.", ModelError, "Export or download it again"),
    ],
)
def test_what_cuda_says_while_a_graph_loads_is_told_apart(monkeypatch, said, error, message):
    import onnxruntime

    def refuse(*arguments, **named):
        raise RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {said}")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(error, match=message) as caught:
        Encoder.load(device="cuda:1")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_an_int8_graph_shares_no_runs_of_a_gpu_and_is_told_to_be_the_cpus(monkeypatch, caplog):
    import onnxruntime

    from latebolt.devices import Device
    from latebolt.encoder.model import Model

    assert not Model(find("starter"), "int8", (Device("cuda"),)).shares_runs
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(RuntimeUnavailable):
        Encoder.load(device="cuda")
    assert 'starter on "cuda": its int8 graph is made for CPUs' in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream *, bool) "
        "Available memory of 0 is smaller than requested bytes of 2048",
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=egg",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=egg",
        "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY",
    ],
)
def test_every_way_of_saying_that_a_gpu_is_full_is_known(said):
    assert is_out_of_memory(RuntimeError(f"Non-zero status code returned while running MatMul node. {said}"))


def test_a_bound_run_gives_what_a_plain_one_gives(encoder):
    """The way of a GPU's runs, on the CPU, where this machine can follow it."""
    session = encoder._session(1)
    ids = encoder._text.tokenize(["the population of Berlin"], "document")[0].ids[None]
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    bound = session._run_bound(feeds, None).copy_outputs_to_cpu()[0]
    np.testing.assert_array_equal(bound[0], session.run(ids[0], ids.size))


@pytest.fixture(name="copied")
def copied_folder(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(find("starter").path, folder)
    return folder


def test_a_copied_folder_is_the_same_model(copied, encoder):
    other = Encoder.load(copied)
    assert other.fingerprint == encoder.fingerprint and other.model == str(copied)
    np.testing.assert_array_equal(
        other.encode_queries(TEXTS[:2]).values, encoder.encode_queries(TEXTS[:2]).values
    )


def test_a_damaged_graph_is_named(copied):
    graph = copied / "onnx" / "model_int8.onnx"
    data = graph.read_bytes()
    graph.write_bytes(data[:-1000])
    with pytest.raises(ModelError, match=r"model_int8\.onnx.*bytes"):
        Encoder.load(copied)
    graph.write_bytes(b"\0" * len(data))
    with pytest.raises(ModelError, match=r"model_int8\.onnx"):
        Encoder.load(copied)
    graph.unlink()
    with pytest.raises(ModelError, match="missing"):
        Encoder.load(copied)


def test_queries_are_cut_and_counted_or_not(encoder):
    before = encoder.truncated_queries
    long = "word " * 200
    assert encoder.encode_queries([long, "short"]).lengths.tolist()[0] == encoder.contract.query.max_tokens
    assert encoder.truncated_queries == before + 1
    assert encoder.encode_queries([long], full_length=True).n_tokens == 202


def test_any_iterable_and_chunks(encoder):
    expected = encoder.encode_documents(TEXTS)
    np.testing.assert_array_equal(encoder.encode_documents(t for t in TEXTS).values, expected.values)
    read = []
    chunks = encoder.iter_documents((read.append(t) or t for t in TEXTS), chunk=2)
    first = next(chunks)
    assert len(read) == 2 and len(first) == 2
    rest = list(chunks)
    assert [len(c) for c in rest] == [2, 1]
    values = np.concatenate([first.values, *(c.values for c in rest)])
    np.testing.assert_array_equal(values, expected.values)
    with pytest.raises(InvalidInput, match="chunk"):
        next(encoder.iter_documents(TEXTS, chunk=0))
    with pytest.raises(InvalidInput, match="one str"):
        next(encoder.iter_documents("text"))


def test_a_pickle_loads_the_model_again(encoder):
    data = pickle.dumps(encoder)
    assert len(data) < 1000
    other = pickle.loads(data)
    np.testing.assert_array_equal(
        other.encode_documents(TEXTS).values, encoder.encode_documents(TEXTS).values
    )


def test_a_forked_child_encodes(encoder, in_child):
    expected = encoder.encode_documents(TEXTS * 3).values
    assert in_child(lambda: np.array_equal(encoder.encode_documents(TEXTS * 3).values, expected))
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS * 3).values, expected)


def test_a_closed_encoder_says_so():
    with Encoder.load(threads=1) as encoder:
        encoder.warmup()
    with pytest.raises(InvalidInput, match="closed"):
        encoder.encode_queries(["a"])


@pytest.fixture
def sessions(monkeypatch) -> list[object]:
    """All ONNX Runtime sessions made from now on."""
    made = []

    def counted(self, *arguments, **named):
        made.append(self)
        real(self, *arguments, **named)

    real = Session.__init__
    monkeypatch.setattr(Session, "__init__", counted)
    return made


def test_views_of_a_model_load_nothing(sessions):
    encoder = Encoder.load(threads=1)
    assert len(sessions) == 1
    views = [
        encoder.with_dim(64),
        encoder.with_lengths(document=64),
        copy.copy(encoder),
        copy.deepcopy(encoder),
    ]
    views.append(encoder.with_dim(96).with_lengths(query=8).with_dim(64))
    views.append(encoder.run_by(lambda tokens, kind: [encoder.vectors_of(each) for each in tokens]))
    for view in views:
        view.encode_queries(["a cat"])
        view.encode_documents(TEXTS * 3)
        assert view.fingerprint == encoder.with_dim(view.dim).fingerprint
    assert len(sessions) == 1
    wide = Encoder.load(threads=2)
    wide.warmup()
    wide.with_dim(64).warmup()
    assert len(sessions) == 3  # one a number of threads: a query's, and those of bulk work
    pickle.loads(pickle.dumps(encoder))
    assert len(sessions) == 4


def test_bulk_work_has_a_session_of_its_own_once_it_pays(sessions):
    encoder = Encoder.load(threads=2)
    few = [encoder.encode_documents(TEXTS * 2) for _ in range(3)]
    assert len(sessions) == 1
    many = encoder.encode_documents(TEXTS * 2)
    assert len(sessions) == 2
    for each in few:
        np.testing.assert_array_equal(each.values, many.values)
    at_once = Encoder.load(threads=2)
    at_once.encode_documents(TEXTS * 10)
    assert len(sessions) == 4
    ready = Encoder.load(threads=2)
    ready.warmup()
    ready.encode_documents(TEXTS * 2)
    assert len(sessions) == 6


def test_a_graph_is_loaded_beside_the_tokenizer(monkeypatch):
    loading, both = threading.Event(), []

    def session(self, *arguments, **named):
        loading.set()
        real_session(self, *arguments, **named)

    def pipeline(self, *arguments):
        both.append(loading.wait(30))  # for ever, if the graph came second
        real_pipeline(self, *arguments)

    real_session, real_pipeline = Session.__init__, TextPipeline.__init__
    monkeypatch.setattr(Session, "__init__", session)
    monkeypatch.setattr(TextPipeline, "__init__", pipeline)
    assert Encoder.load(threads=1).encode_queries(["a cat"]).n_tokens and both == [True]


def test_kernels_that_cannot_be_made_ready_are_told_to_whoever_scores():
    code = """
import latebolt
encoder = latebolt.Encoder.load()
encoder.encode_queries(["a cat"])
try:
    encoder.rerank("a cat", ["a dog"])
except latebolt.LateboltError as error:
    print(error)
"""
    environment = {**os.environ, "LATEBOLT_ISA": "mmx"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "LATEBOLT_ISA" in done.stdout


def test_a_view_of_a_closed_model_refuses():
    encoder = Encoder.load(threads=1)
    views = [encoder.with_dim(64), encoder.with_lengths(document=64), copy.copy(encoder)]
    views[0].close()
    for view in [encoder, *views, encoder.with_dim(96)]:
        with pytest.raises(InvalidInput, match="closed"):
            view.encode_documents(["a"])


def test_a_view_cannot_be_changed(encoder):
    with pytest.raises(dataclasses.FrozenInstanceError):
        encoder.threads = 7


def test_a_runner_gives_the_width_the_encoder_says(encoder):
    def runner(tokens, kind):
        return [encoder.vectors_of(each) for each in tokens]

    queued = encoder.run_by(runner)
    assert queued.with_dim(128).encode_queries(["a cat"]).dim == 128
    with pytest.raises(InvalidInput, match="Call with_dim first"):
        queued.with_dim(64)
    with pytest.raises(InvalidInput, match=r"should give \(4, 64\) for text 0 .* got \(4, 128\)"):
        encoder.with_dim(64).run_by(runner).encode_queries(["a cat"])
    with pytest.raises(InvalidInput, match="for text 1"):
        encoder.run_by(lambda tokens, kind: runner(tokens[:1], kind)).encode_queries(["a cat", "a"])
    narrow = encoder.with_dim(64)
    right = narrow.run_by(lambda tokens, kind: [narrow.vectors_of(each) for each in tokens])
    np.testing.assert_array_equal(
        right.with_lengths(query=8).encode_queries(["a cat"]).values, narrow.encode_queries(["a cat"]).values
    )


def test_a_forked_child_of_a_closed_model_refuses_too(in_child):
    encoder = Encoder.load(threads=1)
    encoder.close()

    def refuses():
        with pytest.raises(InvalidInput, match="closed"):
            encoder.encode_queries(["a"])
        return True

    assert in_child(refuses)


@pytest.mark.parametrize("threads", (1, 2))
def test_threads_are_respected(threads):
    """CPU time never exceeds the threads asked for, in bulk and in single runs."""
    script = f"""
import time
from latebolt import Encoder
encoder = Encoder.load(threads={threads})
encoder.warmup()
for texts, times in ((["word " * 300] * 24, 1), (["word " * 300] * 2, 3)):
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        encoder.encode_documents(texts)
    print((time.process_time() - cpu) / (time.perf_counter() - wall))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(float(line) < 1.05 * threads for line in done.stdout.split())


def rewritten(folder, **kinds) -> Encoder:
    """The starter under another contract."""
    contract = contracts.read(folder)
    contracts.write(msgspec.structs.replace(contract, **kinds), folder)
    return Encoder.load(folder)


def test_skipped_tokens_lose_their_vectors_only(copied, encoder):
    text = "One. Two. Three."
    ids = encoder._text.tokenize([text], "document")[0].ids
    dot = int(ids[2])
    skipping = rewritten(copied, document=TextRules(max_tokens=512, skiplist=(dot,)))
    whole, kept = encoder.encode_documents([text])[0], skipping.encode_documents([text])[0]
    np.testing.assert_array_equal(kept, whole[ids != dot])
    assert len(kept) == len(whole) - 3
    assert len(skipping.spans(text, "document")) == len(kept)


@pytest.mark.parametrize("attend", (True, False))
def test_expanded_queries_have_the_full_length(copied, encoder, attend):
    """Unattended expansion leaves the query's own vectors nearly alone; attended expansion moves them."""
    expansion = Expansion(token=103, attend=attend)
    expanded = rewritten(copied, query=TextRules(max_tokens=32, expansion=expansion))
    plain, full = (
        encoder.encode_queries(["population of Berlin"])[0],
        expanded.encode_queries(["population of Berlin"])[0],
    )
    assert len(full) == 32 and len(plain) == 5
    cosine = (full[:5] * plain).sum(axis=1)
    assert (cosine.min() > 0.99) == (not attend)


def test_other_lengths_cut_elsewhere_and_stay_comparable(encoder):
    text = "the population of Berlin and other cities of Germany is counted every year"
    short = encoder.with_lengths(query=8, document=10)
    assert short.encode_queries([text]).n_tokens == 8 and short.encode_documents([text]).n_tokens == 10
    assert encoder.encode_queries([text]).n_tokens > 8  # the encoder it came from is as it was
    expected = encoder.encode_documents([text], max_length=10)
    np.testing.assert_array_equal(short.encode_documents([text]).values, expected.values)
    assert short.fingerprint == encoder.fingerprint and short.with_lengths() is short
    assert short.with_dim(64).encode_queries([text]).values.shape == (8, 64)
    loaded = pickle.loads(pickle.dumps(short))
    assert loaded.encode_queries([text]).n_tokens == 8
    for wrong in (2, 10_000, "32"):
        with pytest.raises(InvalidInput, match=r"3\.\.512"):
            encoder.with_lengths(query=wrong)
