"""On a GPU: the same vectors as on the CPU, at every precision a GPU runs. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from small import write_checkpoint

from latebolt import Encoder
from latebolt.encoder import batches
from latebolt.gpu import nvml
from latebolt_export import export_model
from latebolt_export.graph import gpu_graphs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
        reason="onnxruntime has no CUDA provider here (pip install onnxruntime-gpu, on a machine with a GPU)",
    ),
]
TEXTS = ["a b c", "", "hello world " * 20, "x"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, bert, head):
    """One model folder with float32 outputs and one with float16 outputs."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "checkpoint").mkdir()
    write_checkpoint(folder / "checkpoint", "stanford", bert, head)
    for name, half_outputs in (("single", False), ("half", True)):
        export_model(
            folder / "checkpoint", folder / name, precisions=("fp32", "fp16"), half_outputs=half_outputs
        )
    return folder


@pytest.mark.parametrize("outputs", ("single", "half"))
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("fp16", 0.999)])
def test_a_gpu_gives_the_cpus_vectors(models, outputs, precision, least):
    expected = Encoder.load(models / outputs, "fp32").encode_documents(TEXTS)
    encoder = Encoder.load(models / outputs, precision, device="cuda")
    found = encoder.encode_documents(TEXTS)
    assert encoder._session(encoder.threads).providers[0] == "CUDAExecutionProvider"
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert (found.values * expected.values).sum(1).min() > least


def test_auto_takes_the_gpu_and_its_precision(models):
    encoder = Encoder.load(models / "single", device="auto")
    assert (encoder.device, encoder.precision) == ("cuda", "fp16")


def _texts(n):
    """Of many lengths, some of them alike."""
    return [
        " ".join(["hello", "a", "world", "b", "c"] * (1 + i * 7 % 30))[: 5 + i * 13 % 200] for i in range(n)
    ]


@pytest.mark.parametrize("outputs", ("single", "half"))
@pytest.mark.parametrize("form", gpu_graphs.FORMS)
def test_texts_that_share_runs_have_the_cpus_vectors(models, outputs, form):
    texts = _texts(300)
    expected = Encoder.load(models / outputs, "fp32").encode_documents(texts)
    encoder = Encoder.load(models / outputs, "fp16", device="cuda").with_gpu_runs(form=form)
    for budget in (None, 64, 1000):
        found = encoder.with_gpu_runs(tokens=budget).encode_documents(texts)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        assert (found.values * expected.values).sum(1).min() > 0.999
    queries = Encoder.load(models / outputs, "fp32").encode_queries(texts[:40])
    assert (encoder.encode_queries(texts[:40]).values * queries.values).sum(1).min() > 0.999
    names = {session._file.name for session in encoder._model._others.values()}
    assert f"model_fp16_{form}.onnx" in names


def test_deterministic_vectors_keep_their_bits_in_company(models):
    texts = _texts(50)
    encoder = Encoder.load(models / "single", "fp16", device="cuda", deterministic=True)
    together = encoder.encode_documents(texts)
    for i, text in enumerate(texts):
        np.testing.assert_array_equal(encoder.encode_documents([text])[0], together[i])


def test_a_query_is_replayed_from_a_cuda_graph(models, caplog):
    encoder = Encoder.load(models / "single", "fp16", device="cuda")
    captured = encoder.with_gpu_runs(captured=True)
    assert not caplog.records, caplog.text  # says why where it cannot be
    for text in _texts(20):
        found, expected = captured.encode_queries([text]), encoder.encode_queries([text])
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        assert (found.values * expected.values).sum(1).min() > 0.999


def test_a_budget_is_measured_by_the_devices_memory(models):
    encoder = Encoder.load(models / "single", "fp16", device="cuda")
    encoder.encode_documents(_texts(20))
    assert nvml.gpu(0) is not None, "nvidia-ml-py is not installed, or finds no driver"
    assert encoder._model.batches._fleet.tokens == batches.MOST_TOKENS  # of a tiny model


def test_several_gpus_share_bulk_work(models):
    if (nvml.count() or 0) < 2:
        pytest.skip("this machine has one GPU")
    texts = _texts(300)
    expected = Encoder.load(models / "single", "fp16", device="cuda").encode_documents(texts)
    found = Encoder.load(models / "single", "fp16", device="cuda:0,cuda:1").with_gpu_runs(tokens=500)
    assert (found.encode_documents(texts).values * expected.values).sum(1).min() > 0.999
