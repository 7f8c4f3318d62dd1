"""What the management library says of GPUs, with stand-ins that answer as nvidia-ml-py does."""

import sys
import types

import pytest

from latebolt.gpu import nvml
from latebolt.gpu.nvml import Gpu


class NVMLError(Exception):
    """As nvidia-ml-py's."""


def library(names=("Tesla", "Hopper"), utilisation=37, **more):
    """nvidia-ml-py's functions over GPUs of these names, of 1,000 bytes each."""

    def by_index(number):
        if number >= len(names):
            raise NVMLError("Invalid Argument")
        return names[number]

    def rates(handle):
        if utilisation is None:
            raise NVMLError("Not Supported")
        return types.SimpleNamespace(gpu=utilisation, memory=1)

    made = types.ModuleType("pynvml")
    made.__dict__.update(
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.65.06",
        nvmlDeviceGetCount=lambda: len(names),
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetName=lambda handle: handle,
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(total=1000, free=900, used=100),
        nvmlDeviceGetUtilizationRates=rates,
        **more,
    )
    return made


@pytest.fixture
def use(monkeypatch):
    """use(module or None): what `import pynvml` finds."""

    def put(module):
        monkeypatch.setattr(nvml, "_ready", {})
        monkeypatch.setitem(sys.modules, "pynvml", module)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return put


def test_what_is_told(use):
    use(library())
    assert nvml.driver() == "580.65.06"
    assert nvml.count() == 2
    assert nvml.gpu(1) == Gpu("Hopper", 1000, 900, 37)
    assert nvml.gpu(2) is None


def test_names_may_be_bytes_and_utilisation_missing(use):
    use(library((b"Tesla",), None))
    assert nvml.gpu(0) == Gpu("Tesla", 1000, 900, None)


def test_without_the_package(use):
    use(None)  # which makes the import fail
    assert (nvml.driver(), nvml.count(), nvml.gpu(0)) == (None, None, None)


def test_without_a_driver(use):
    def refuse():
        raise NVMLError("Driver Not Loaded")

    module = library()
    module.nvmlInit = refuse
    use(module)
    assert (nvml.driver(), nvml.count(), nvml.gpu(0)) == (None, None, None)


def test_a_gpu_that_is_lost(use):
    def lost(handle):
        raise NVMLError("GPU is lost")

    module = library()
    module.nvmlDeviceGetMemoryInfo = lost
    use(module)
    assert nvml.gpu(0) is None and nvml.count() == 2


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("", []),
        ("-1", []),
        ("1,7,0", [1]),
        ("GPU-8932, 1", ["GPU-8932", 1]),
    ],
)
def test_cuda_counts_what_it_may_see(visible, expected):
    assert nvml.shown(visible, 3) == expected


def test_numbers_are_cudas(use, monkeypatch):
    use(library())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-8932")
    assert nvml.count() == 2
    assert nvml.gpu(0).name == "Hopper" and nvml.gpu(1).name == "GPU-8932"
