"""On a GPU: the same vectors as on the CPU, at every precision a GPU runs. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from small import write_checkpoint

from latebolt import Encoder
from latebolt_export import export_model

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
