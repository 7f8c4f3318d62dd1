"""What stands between ONNX Runtime and a GPU: each usual failure has its message, with the way out."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from latebolt.cli.doctor_gpu import examine_gpu
from latebolt.gpu import elf, finding, libraries, probe
from latebolt.gpu.libraries import Driver, Found, Library, faults, notes, reason_in, why_not
from latebolt.gpu.nvml import Gpu

# What onnxruntime-gpu 1.31.1 of PyPI says of itself, and its provider's file names.
NEEDED = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13")
WHEELS = tuple(Library(name, "/site/nvidia/cu13/lib", "nvidia wheels") for name in NEEDED)
CUDNN = Library("libcudnn.so.9", "/site/nvidia/cudnn/lib", "nvidia wheels")
GOOD = Found(
    wheels={"onnxruntime-gpu": "1.31.1"},
    module="onnxruntime-gpu",
    version="1.31.1",
    cuda="13.0",
    has_provider=True,
    loads_wheels=True,
    needed=NEEDED,
    libraries=(*WHEELS, CUDNN),
    driver=Driver((13, 0), 0, 2, "580.65.06"),
)
CUDA_12 = replace(
    GOOD,
    version="1.24.4",
    cuda="12.8",
    needed=("libcublas.so.12", "libcudart.so.12", "libcudnn.so.9"),
    libraries=(
        Library("libcublas.so.12", "/cuda/lib64", "the system"),
        Library("libcudart.so.12", "/cuda/lib64", "the system"),
        CUDNN,
    ),
)


def at(place, *names):
    return tuple(Library(name, "/usr/local/cuda-13.0/lib64", place) for name in names)


CPU = replace(
    GOOD,
    wheels={"onnxruntime": "1.32.0"},
    module="onnxruntime",
    version="1.32.0",
    cuda="",
    has_provider=False,
)
BOTH = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}

FAULTS = {
    "no_onnxruntime": (
        Found({}, "", "", "", False, False, (), (), None),
        "onnxruntime is not installed",
        "pip install 'latebolt[gpu]'",
    ),
    "cpu_wheel": (CPU, "the installed onnxruntime 1.32.0 is the CPU's wheel", "pip uninstall -y "),
    "both_wheels": (
        replace(CPU, wheels=BOTH),
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are both installed",
        "pip uninstall -y onnxruntime onnxruntime-gpu",
    ),
    "no_driver": (replace(GOOD, driver=None), "libcuda.so.1 is not found", "580 or newer for CUDA 13"),
    "old_driver": (
        replace(GOOD, driver=Driver((12, 8), 0, 1, "570.86.15")),
        "driver 570.86.15 runs CUDA up to 12.8, and onnxruntime-gpu 1.31.1 is built for CUDA 13.0",
        "built for CUDA 12",
    ),
    "driver_mismatch": (
        replace(GOOD, driver=Driver((13, 0), 803, 0)), "do not fit each other (CUDA error 803)", "Restart",
    ),
    "driver_error": (
        replace(GOOD, driver=Driver((13, 0), 999, 0)), "answers with CUDA error 999", "dmesg",
    ),
    "no_device": (
        replace(GOOD, driver=Driver((13, 0), 100, 0), visible=""),
        "there is no cuda:0: the driver shows no GPU; CUDA_VISIBLE_DEVICES is ''",
        "nvidia-smi -L",
    ),
    "other_cuda": (
        replace(GOOD, libraries=at("the system", "libcublasLt.so.12", "libcublas.so.12", "libcudart.so.12")),
        "is built for CUDA 13.0 and needs libcublasLt.so.13, libcublas.so.13, libcurand.so.10, "
        "libcudart.so.13; found are libcublas.so.12, libcublasLt.so.12, libcudart.so.12",
        "pip install 'nvidia-cublas==13.*' 'nvidia-curand==10.*' 'nvidia-cuda-runtime==13.*'",
    ),
    "no_cuda": (
        replace(GOOD, libraries=WHEELS[:2]),
        "libraries of CUDA 13 are missing: libcurand.so.10, libcudart.so.13",
        "pip install 'nvidia-curand==10.*' 'nvidia-cuda-runtime==13.*'",
    ),
    "no_cudnn": (
        replace(CUDA_12, libraries=CUDA_12.libraries[:2]),
        "cuDNN is missing: libcudnn.so.9, without which onnxruntime-gpu 1.24.4 does not start",
        "pip install 'nvidia-cudnn-cu12==9.*'",
    ),
    "not_reached": (
        replace(GOOD, libraries=at("elsewhere", *NEEDED)),
        "lie where nobody looks for them",
        "export LD_LIBRARY_PATH=/usr/local/cuda-13.0/lib64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", FAULTS)
def test_each_usual_failure_has_its_message_and_way_out(code):
    found, message, way_out = FAULTS[code]
    first = faults(found)[0]
    assert first.code == code and message in first.message and way_out in first.message
    assert "\n" not in first.message
    assert why_not(found) == first.message


def test_the_documentation_has_a_section_for_each_failure():
    page = (Path(__file__).parents[3] / "docs" / "gpu.md").read_text()
    assert [code for code in (*FAULTS, "provider") if f"`{code}`" not in page] == []


@pytest.mark.parametrize("found", [GOOD, CUDA_12], ids=["CUDA 13", "CUDA 12"])
def test_nothing_is_wrong_where_all_is_there(found):
    assert faults(found) == faults(found, number=1) == () and notes(found) == ()


def test_a_gpu_that_is_not_there_is_told_with_those_that_are():
    [fault] = faults(GOOD, number=2)
    assert fault.code == "no_device" and "there is no cuda:2: the driver shows 2 GPU(s)" in fault.message


def test_nvidias_wheels_count_only_where_onnxruntime_loads_them():
    old = replace(GOOD, loads_wheels=False)
    assert [fault.code for fault in faults(old)] == ["not_reached"]
    assert "export LD_LIBRARY_PATH=/site/nvidia/cu13/lib" in faults(old)[0].message
    assert faults(replace(old, libraries=at("LD_LIBRARY_PATH", *NEEDED))) == ()


def test_several_things_are_told_at_once():
    found = replace(GOOD, driver=None, libraries=())
    assert [fault.code for fault in faults(found)] == ["no_driver", "no_cuda"]


def test_what_stops_nothing_is_a_note():
    [both] = notes(replace(GOOD, wheels=BOTH))
    assert "the files of onnxruntime-gpu came last" in both and faults(replace(GOOD, wheels=BOTH)) == ()
    [cudnn] = notes(replace(GOOD, libraries=WHEELS))
    assert "cuDNN is not found" in cudnn and "'nvidia-cudnn-cu13==9.*'" in cudnn


def test_where_nothing_is_seen_to_be_wrong_the_provider_itself_is_quoted():
    said = why_not(GOOD, 0, "CUDA failure 719: unspecified launch failure ")
    assert "CUDA failure 719: unspecified launch failure" in said and "latebolt doctor" in said


LOG = """\x1b[0;93m2026-11-30 02:13:05.6 [W:onnxruntime:Default] No registered plugin EP device found\x1b[m
\x1b[1;31m2026-11-30 02:13:05.65 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] \
onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library \
/x/libonnxruntime_providers_cuda.so with error: \
libcublasLt.so.13: cannot open shared object file: No such file or directory
\x1b[m"""
MISSING = "libcublasLt.so.13: cannot open shared object file: No such file or directory"


def test_onnx_runtimes_reason_is_found_in_what_it_writes():
    assert reason_in(LOG) == MISSING
    failure = "CUDA failure 100: no CUDA-capable device is detected"
    assert reason_in(f"x {failure} ; GPU=-1 ; hostname=a") == failure
    assert reason_in("all is well") == ""


# How a machine is looked at.


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files and the loader's cache are Linux'")
def test_what_a_library_needs_is_read_from_its_file(tmp_path):
    module = Path(onnxruntime.__file__).parent / "capi"
    [library] = module.glob("onnxruntime_pybind11_state*.so")
    named = elf.needed(library)
    assert {"libc.so.6", "libm.so.6"} <= set(named) and all(name.startswith(("lib", "ld-")) for name in named)
    (tmp_path / "text.so").write_bytes(b"no library" * 50)
    (tmp_path / "cut.so").write_bytes(library.read_bytes()[:100])
    for path in ("text.so", "cut.so", "gone.so"):
        assert elf.needed(tmp_path / path) == ()


LDCONFIG = """1234 libs found in cache `/etc/ld.so.cache'
	libcudart.so.13 (libc6,x86-64) => /usr/local/cuda-13.0/lib/libcudart.so.13
	libcudart.so (libc6,x86-64) => /usr/local/cuda-13.0/lib/libcudart.so
	libcudnn_ops.so.9 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9
	libcudnn.so.9 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcudnn.so.9
"""


def test_libraries_are_found_by_where_they_lie(tmp_path, monkeypatch):
    for folder, name in (
        ("named", "libcublas.so.12"),
        ("site/nvidia/cu13/lib", "libcublas.so.13"),
        ("site/nvidia/cu13/lib", "libcublas.so.13.1.0"),  # what the name leads to
        ("site/nvidia/cu13/lib", "libcusparse.so.12"),  # nobody asks for it
        ("site/nvidia/cudnn/lib", "libcudnn.so.9"),
        ("toolkit/lib64", "libcudart.so.13"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).touch()
    monkeypatch.setattr(finding, "IS_WINDOWS", False)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/gone:{tmp_path}/named")
    monkeypatch.setattr(sys, "path", ["", f"{tmp_path}/site"])
    monkeypatch.setattr(finding, "_FOLDERS", (f"{tmp_path}/toolkit/lib64",))
    monkeypatch.setattr(finding, "_of_system", lambda: finding.in_cache(LDCONFIG))
    assert [(each.name, each.place) for each in finding.libraries()] == [
        ("libcublas.so.12", "LD_LIBRARY_PATH"),
        ("libcudart.so.13", "the system"),
        ("libcudnn.so.9", "the system"),
        ("libcublas.so.13", "nvidia wheels"),
        ("libcudnn.so.9", "nvidia wheels"),
        ("libcudart.so.13", "elsewhere"),
    ]


class FakeDriver:
    """libcuda.so.1 as ctypes shows it."""

    def __init__(self, result=0):
        self.result = result

    def cuDriverGetVersion(self, version):
        version._obj.value = 13010
        return 0

    def cuInit(self, flags):
        assert flags == 0
        return self.result

    def cuDeviceGetCount(self, count):
        count._obj.value = 4
        return 0


def test_the_driver_is_asked_through_its_own_library(monkeypatch):
    monkeypatch.setattr(finding.nvml, "driver", lambda: "590.1")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver() if "cuda" in name else None)
    assert finding.driver() == Driver((13, 1), 0, 4, "590.1")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(result=100))
    assert finding.driver() == Driver((13, 1), 100, 0, "590.1")

    def none(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert finding.driver() is None


def test_nvidias_wheels_are_loaded_once_and_nothing_is_printed(monkeypatch, tmp_path, capsys):
    (tmp_path / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    calls = []

    def preload_dlls(directory=None):
        calls.append(directory)
        sys.stdout.write("Failed to load libcufft.so.12")

    fake = types.SimpleNamespace(preload_dlls=preload_dlls)
    monkeypatch.setattr(finding, "onnxruntime", lambda: fake)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    finding.make_ready.cache_clear()
    finding.make_ready()
    assert calls == []  # there are no wheels
    (tmp_path / "nvidia" / "cu13" / "lib" / "libcudart.so.13").touch()
    finding.make_ready.cache_clear()
    finding.make_ready()
    finding.make_ready()
    assert calls == [""] and capsys.readouterr().out == ""
    monkeypatch.setattr(finding, "onnxruntime", lambda: types.SimpleNamespace())  # before 1.21
    finding.make_ready.cache_clear()
    finding.make_ready()
    finding.make_ready.cache_clear()


def test_this_machine_is_looked_at():
    found = finding.find()
    assert found.wheels and found.module in found.wheels and found.version == onnxruntime.__version__
    assert found.has_provider == ("CUDAExecutionProvider" in onnxruntime.get_available_providers())


# The process that tries it.


def test_the_graph_that_is_tried_multiplies():
    session = onnxruntime.InferenceSession(probe.GRAPH, providers=["CPUExecutionProvider"])
    x = np.array([[1, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x @ x)


def test_a_childs_answer_is_read_with_onnx_runtimes_own_words():
    works = json.dumps({"provider": "", "numba": ""}) + "\n"
    assert probe.read(0, works, "") == probe.Outcome("", "")
    fails = json.dumps({"provider": "the CUDA provider did not start", "numba": ""}) + "\n"
    assert probe.read(0, "printed by a library\n" + fails, LOG) == probe.Outcome(
        f"the CUDA provider did not start: {MISSING}", ""
    )
    died = probe.read(-11, "", "x\nFatal Python error: Segmentation fault\n")
    assert "died of SIGSEGV: Fatal Python error: Segmentation fault" in died.provider == died.numba
    assert "ended with exit code 1" in probe.read(1, "", "").provider


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this machine has CUDA"
)
def test_without_a_gpu_the_child_says_so_and_numbas_simulator_runs_the_kernel():
    pytest.importorskip("numba")
    outcome = json.loads(
        subprocess.run(
            [sys.executable, "-m", "latebolt.gpu.probe", "0"],
            env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert outcome == {"provider": "the CUDA provider did not start", "numba": ""}


# What `latebolt doctor` makes of it.


@pytest.fixture
def doctor(monkeypatch):
    """Its section, on a machine with what is found there, whose GPU answers so."""

    def of(found, outcome=None, device="cuda:1"):
        def tried(number):
            assert outcome is not None, "a GPU is tried although it cannot work"
            assert number == 1
            return outcome

        monkeypatch.setattr(finding, "find", lambda: found)
        monkeypatch.setattr(probe, "probe", tried)
        monkeypatch.setattr(
            finding.nvml, "gpu", lambda number: Gpu(f"card {number}", 80 * 10**9, 70 * 10**9, 3)
        )
        return examine_gpu(device)

    return of


def test_doctor_tells_what_will_run(doctor):
    section = doctor(GOOD, probe.Outcome("", ""))
    assert section["usable"] is True and section["problems"] == section["notes"] == []
    assert section["gpu"] == "cuda:1 card 1, 70.0 of 80.0 GB free"
    assert section["driver"] == "580.65.06, runs CUDA up to 13.0"
    assert section["onnxruntime"] == "onnxruntime-gpu 1.31.1, built for CUDA 13.0"
    assert section["libcudart.so.13"] == "/site/nvidia/cu13/lib (nvidia wheels)"
    assert section["libcudnn.so.9"] == "/site/nvidia/cudnn/lib (nvidia wheels)"
    assert "multiplies" in section["provider"] and "kernels" in section["numba-cuda"]


def test_doctor_tells_what_keeps_work_off_the_gpu(doctor):
    section = doctor(replace(GOOD, libraries=WHEELS[:2]))
    assert section["usable"] is False and section["libcurand.so.10"] == "not found"
    assert len(section["problems"]) == 1 and "CUDA 13 are missing" in section["problems"][0]


def test_doctor_quotes_a_provider_that_does_not_start(doctor):
    section = doctor(GOOD, probe.Outcome("CUDA failure 719: unspecified launch failure", "numba sees no GPU"))
    assert section["usable"] is False and section["numba-cuda"] == "numba sees no GPU"
    assert "CUDA failure 719: unspecified launch failure" in section["problems"][0]


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="onnxruntime has no CUDA here",
)
def test_on_a_gpu_provider_and_numba_start():
    assert faults(finding.find()) == ()
    assert probe.probe(0) == probe.Outcome("", "")


def test_every_library_that_is_looked_for_has_a_wheel():
    for major in (12, 13):
        for stem in libraries.STEMS:
            assert "nvidia-" in libraries._wheel_for(stem, major)
