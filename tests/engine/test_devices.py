"""Names of devices."""

import logging
import types

import pytest

from latebolt import devices
from latebolt.devices import CPU, Device, named, parse, resolve
from latebolt.errors import InvalidInput, RuntimeUnavailable

CUDA_0, CUDA_1 = Device("cuda"), Device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", (CPU,)),
        ("auto", (Device("auto"),)),
        ("cuda", (CUDA_0,)),
        ("cuda:0", (CUDA_0,)),
        ("cuda:1", (CUDA_1,)),
        ("cuda:1,cuda:0", (CUDA_1, CUDA_0)),
        ("cuda:0, cuda:1", (CUDA_0, CUDA_1)),
        (["cuda:0", "cuda:1"], (CUDA_0, CUDA_1)),
        (("cuda:1",), (CUDA_1,)),
    ],
)
def test_names(name, expected):
    assert parse(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", 'device should be "cpu", "cuda", "cuda:N", several as "cuda:0,cuda:1", or "auto", got "tpu"'),
        ("", 'got ""'),
        ("cuda:", None),
        ("cuda:-1", 'got "cuda:-1"'),
        ("cuda:²", 'got "cuda:²"'),
        ("cuda:0,", "several devices should be GPUs alone"),
        ("cpu,cuda", "several devices should be GPUs alone"),
        ("auto,cuda:1", "several devices should be GPUs alone"),
        ("cuda,cuda:0", "names one GPU twice"),
        ([], r"got \[\]"),
        ([0, 1], r"got \[0, 1\]"),
        (0, "got 0"),
        (None, "got None"),
    ],
)
def test_what_is_no_device(name, message):
    if message is None:
        assert parse(name) == (CUDA_0,)  # taken from the beginning
        return
    with pytest.raises(InvalidInput, match=message):
        parse(name)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "cuda:0,cuda:1"])
def test_a_name_is_what_it_was_read_from(name):
    assert named(parse(name)) == name


def runtime(*providers):
    return lambda: types.SimpleNamespace(get_available_providers=lambda: [*providers])


def test_resolving_with_a_cuda_provider(monkeypatch):
    monkeypatch.setattr(devices, "onnxruntime", runtime("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert resolve("auto") == (CUDA_0,)
    assert resolve("cuda:0,cuda:1") == (CUDA_0, CUDA_1)
    assert resolve("cpu") == (CPU,)


def test_resolving_without_one(monkeypatch, caplog):
    monkeypatch.setattr(devices, "onnxruntime", runtime("CPUExecutionProvider"))
    with caplog.at_level(logging.WARNING):
        assert resolve("auto") == (CPU,)
    assert "has no CUDA provider; using the CPU" in caplog.text
    with pytest.raises(RuntimeUnavailable, match='device "cuda:0,cuda:1": the installed onnxruntime has no'):
        resolve(["cuda:0", "cuda:1"])


def test_the_cpu_is_had_without_asking(monkeypatch):
    monkeypatch.setattr(devices, "onnxruntime", lambda: pytest.fail("asked"))
    assert resolve("cpu") == (CPU,)
