"""Whether ONNX Runtime can run on a GPU with what a machine has, and if not, why and what to do about it.

Pure: decides from what was found (`finding`). `latebolt doctor` shows what is said here, and
`Encoder.load(device="cuda")` raises it.

Sources: onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html; CUDA's driver API (numbers
of errors); docs.nvidia.com/deploy/cuda-compatibility (drivers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Place = Literal["LD_LIBRARY_PATH", "the system", "nvidia wheels", "elsewhere"]

CPU_WHEEL: Final = "onnxruntime"
GPU_WHEEL: Final = "onnxruntime-gpu"
_AFRESH: Final = (
    f'Run "pip uninstall -y {CPU_WHEEL} {GPU_WHEEL}", then "pip install \'latebolt[gpu]\'", in an '
    "environment without packages that require the other wheel (latebolt[export], fastembed)."
)

# By CUDA's major version, the oldest driver that runs it.
_OLDEST_DRIVER: Final = {12: 525, 13: 580}
# What ONNX Runtime may need of CUDA, and the wheels that bring it, by CUDA's major version. From 13 on, they
# have no "-cu13" in their names, but for cuDNN's.
_WHEELS: Final[dict[str, dict[int, str]]] = {
    "cudart": {12: "nvidia-cuda-runtime-cu12", 13: "nvidia-cuda-runtime==13.*"},
    "cublas": {12: "nvidia-cublas-cu12", 13: "nvidia-cublas==13.*"},
    "cublasLt": {12: "nvidia-cublas-cu12", 13: "nvidia-cublas==13.*"},
    "curand": {12: "nvidia-curand-cu12", 13: "nvidia-curand==10.*"},
    "cufft": {12: "nvidia-cufft-cu12", 13: "nvidia-cufft==12.*"},
    "nvrtc": {12: "nvidia-cuda-nvrtc-cu12", 13: "nvidia-cuda-nvrtc==13.*"},
    "cudnn": {12: "nvidia-cudnn-cu12==9.*", 13: "nvidia-cudnn-cu13==9.*"},
}
STEMS: Final = tuple(_WHEELS)
# Those whose number is CUDA's own.
_NUMBERED_AS_CUDA: Final = ("cudart", "cublas", "cublasLt")
_NAME: Final = re.compile(r"lib(?P<stem>[A-Za-z]+)\.so\.(?P<number>[0-9]+)")
_NO_DEVICE: Final = 100  # CUDA_ERROR_NO_DEVICE
_MISMATCH: Final = (803, 804)  # the driver's parts do not fit each other


@dataclass(frozen=True)
class Library:
    """A shared library that was found.

    Args:
        name: as others name it, such as "libcudart.so.13".
        folder: where it lies.
        place: who looks there: the system's loader, ONNX Runtime in the wheels of NVIDIA's, or, for
            "elsewhere", nobody.
    """

    name: str
    folder: str
    place: Place

    @property
    def stem(self) -> str:
        """ "cudart" of "libcudart.so.13"."""
        return stem_of(self.name)


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver, as the CUDA driver library tells.

    Args:
        cuda: the newest CUDA it runs, (major, minor).
        result: of `cuInit`; 0 where it works.
        n_devices: GPUs this process sees.
        version: such as "580.65.06"; None where it is not known.
    """

    cuda: tuple[int, int]
    result: int
    n_devices: int
    version: str | None = None


@dataclass(frozen=True)
class Found:
    """What a machine has for running on a GPU.

    Args:
        wheels: version of every installed distribution that holds the module onnxruntime, by its name.
        module: which of them the module says it is; "" where it cannot be imported.
        version: the module's.
        cuda: version of CUDA it was built for; "" where it is the CPU's.
        has_provider: whether it has one for CUDA.
        loads_wheels: whether it can load libraries out of NVIDIA's wheels itself (from 1.21 on).
        needed: libraries of CUDA and cuDNN without which its provider is not loaded, by their names.
        libraries: those that were found, of every version.
        driver: None where there is none.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
    """

    wheels: Mapping[str, str]
    module: str
    version: str
    cuda: str
    has_provider: bool
    loads_wheels: bool
    needed: tuple[str, ...]
    libraries: tuple[Library, ...]
    driver: Driver | None
    visible: str | None = None

    @property
    def cuda_major(self) -> int:
        """Of `cuda`; 0 where there is none."""
        head = self.cuda.partition(".")[0]
        return int(head) if head.isdecimal() else 0

    def is_reached(self, name: str) -> bool:
        """Whether ONNX Runtime gets a library of that name."""
        places = {each.place for each in self.libraries if each.name == name}
        by_itself = {"nvidia wheels"} if self.loads_wheels else set()
        return bool(places & ({"LD_LIBRARY_PATH", "the system"} | by_itself))


@dataclass(frozen=True)
class Fault:
    """Why no GPU is used.

    Args:
        code: a word for programs.
        message: what is wrong, and the way out.
    """

    code: str
    message: str


def stem_of(name: str) -> str:
    """ "cudart" of "libcudart.so.13"; "" of what is not named so."""
    match = _NAME.fullmatch(name)
    return match["stem"] if match else ""


def usual_libraries(cuda_major: int) -> tuple[str, ...]:
    """What ONNX Runtime needs of CUDA, for where its file cannot be asked."""
    return (*(f"lib{stem}.so.{cuda_major}" for stem in _NUMBERED_AS_CUDA), "libcurand.so.10")


def faults(found: Found, number: int = 0) -> tuple[Fault, ...]:
    """What stands between ONNX Runtime and a GPU, what has to be mended first in front; none where nothing is
    seen to.

    Args:
        number: of the GPU.
    """
    wheel = _fault_of_wheels(found)
    if wheel is not None:
        return (wheel,)
    return tuple(_faults_of_driver(found, number)) + tuple(_faults_of_libraries(found))


def notes(found: Found) -> tuple[str, ...]:
    """What stops nothing, and is still worth knowing."""
    said = []
    if found.has_provider and len(found.wheels) > 1:
        said.append(
            f"{_listed(found.wheels)} are both installed; the files of {found.module} came last, and the "
            f"next change to either takes them away. {_AFRESH}"
        )
    stems = {each.stem for each in found.libraries} | set(map(stem_of, found.needed))
    if found.has_provider and "cudnn" not in stems:
        said.append(
            "cuDNN is not found. This onnxruntime runs encoders without it; convolutions would need it "
            f'("pip install {_wheels(["libcudnn.so.9"], found.cuda_major)}").'
        )
    return tuple(said)


def why_not(found: Found, number: int = 0, said: str = "") -> str:
    """One line for an error: the first fault, or what the provider itself said.

    Args:
        number: of the GPU.
        said: by ONNX Runtime, if it said anything.
    """
    found_faults = faults(found, number)
    if found_faults:
        return found_faults[0].message
    words = f" ({said})" if said else ""
    return (
        f"the CUDA provider did not start{words}, although driver and libraries are there. "
        'Run "latebolt doctor", which starts it by itself and shows what it says.'
    )


def reason_in(log: str) -> str:
    """Why ONNX Runtime's provider did not start, out of what it wrote to stderr; "" where it does not say."""
    for pattern in (
        r"with error: ([^\n\x1b]+)",
        r"(CUDA failure [^;\n\x1b]+)",
        r"(CUDNN failure [^;\n\x1b]+)",
    ):
        match = re.search(pattern, log)
        if match:
            return match[1].strip()
    return ""


def _fault_of_wheels(found: Found) -> Fault | None:
    if not found.module:
        return Fault("no_onnxruntime", "onnxruntime is not installed. Run \"pip install 'latebolt[gpu]'\".")
    if found.has_provider:
        return None
    if len(found.wheels) > 1:
        return Fault(
            "both_wheels",
            f"{_listed(found.wheels)} are both installed, and the files of {found.module} overwrote the "
            f"others': the module has no CUDA provider. {_AFRESH}",
        )
    return Fault(
        "cpu_wheel",
        f"the installed {found.module} {found.version} is the CPU's wheel and has no CUDA provider. "
        f"{_AFRESH}",
    )


def _faults_of_driver(found: Found, number: int) -> Iterable[Fault]:
    driver, major = found.driver, found.cuda_major
    if driver is None:
        yield Fault(
            "no_driver",
            "there is no NVIDIA driver: its library libcuda.so.1 is not found. Install a driver"
            f'{_newer_than(major)} until "nvidia-smi" answers; a container needs NVIDIA\'s toolkit and '
            '"--gpus all".',
        )
        return
    if driver.cuda[0] < major:
        which = f" {driver.version}" if driver.version else ""
        yield Fault(
            "old_driver",
            f"the NVIDIA driver{which} runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}, and {found.module} "
            f"{found.version} is built for CUDA {found.cuda}. Install a driver{_newer_than(major)}, or an "
            f"older {GPU_WHEEL} that is built for CUDA {driver.cuda[0]} (docs/gpu.md).",
        )
    elif driver.result in _MISMATCH:
        yield Fault(
            "driver_mismatch",
            f"the parts of the NVIDIA driver do not fit each other (CUDA error {driver.result}), as after an "
            "update. Restart the machine; in a container, bring no libcuda of its own.",
        )
    elif driver.result not in (0, _NO_DEVICE):
        yield Fault(
            "driver_error",
            f'the NVIDIA driver answers with CUDA error {driver.result}. "nvidia-smi" and the system\'s log '
            "(dmesg) say more; a restart mends what a crash has left.",
        )
    elif number >= driver.n_devices:
        limited = f"; CUDA_VISIBLE_DEVICES is {found.visible!r}" if found.visible is not None else ""
        seen = "no GPU" if not driver.n_devices else f"{driver.n_devices} GPU(s), from cuda:0 on"
        yield Fault(
            "no_device",
            f'there is no cuda:{number}: the driver shows {seen}{limited}. "nvidia-smi -L" lists them all.',
        )


def _faults_of_libraries(found: Found) -> Iterable[Fault]:
    major = found.cuda_major
    lacking = [name for name in found.needed if not found.is_reached(name)]
    lying = {each.name: each for each in found.libraries if each.name in lacking}
    nowhere = [name for name in lacking if name not in lying]
    cudnn = [name for name in nowhere if stem_of(name) == "cudnn"]
    cuda = [name for name in nowhere if stem_of(name) != "cudnn"]
    others = sorted({each.name for each in found.libraries if each.stem in {stem_of(name) for name in cuda}})
    if cuda and others:
        yield Fault(
            "other_cuda",
            f"{found.module} {found.version} is built for CUDA {found.cuda} and needs {', '.join(cuda)}; "
            f'found are {", ".join(others)} of another version. Run "pip install {_wheels(cuda, major)}", or '
            f"install a {GPU_WHEEL} for that version (docs/gpu.md).",
        )
    elif cuda:
        yield Fault(
            "no_cuda",
            f'libraries of CUDA {major} are missing: {", ".join(cuda)}. Run "pip install '
            f'{_wheels(cuda, major)}", or install the CUDA {major} toolkit.',
        )
    if cudnn:
        yield Fault(
            "no_cudnn",
            f"cuDNN is missing: {', '.join(cudnn)}, without which {found.module} {found.version} does not "
            f'start. Run "pip install {_wheels(cudnn, major)}".',
        )
    if lying:
        folders = ":".join(dict.fromkeys(each.folder for each in lying.values()))
        yield Fault(
            "not_reached",
            f"{', '.join(lying)} lie where nobody looks for them. Before Python starts, run "
            f'"export LD_LIBRARY_PATH={folders}".',
        )


def _newer_than(cuda_major: int) -> str:
    oldest = _OLDEST_DRIVER.get(cuda_major)
    return f" ({oldest} or newer for CUDA {cuda_major})" if oldest else ""


def _wheel_for(stem: str, cuda_major: int) -> str:
    by_major = _WHEELS[stem]
    return by_major.get(cuda_major, by_major[max(by_major)])


def _wheels(names: Iterable[str], cuda_major: int) -> str:
    known = (stem_of(name) for name in names)
    wanted = dict.fromkeys(_wheel_for(stem, cuda_major) for stem in known if stem in _WHEELS)
    return " ".join(f"'{wheel}'" if "*" in wheel else wheel for wheel in wanted)


def _listed(wheels: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in sorted(wheels.items()))
