"""Looks what a machine has for running on a GPU: wheels, the driver, libraries of CUDA and where they lie.

The edge below `libraries`, which decides; runs nothing on a GPU. `make_ready` has ONNX Runtime load the
libraries of NVIDIA's wheels, which the system's loader does not know of.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from latebolt.devices import CUDA_PROVIDER
from latebolt.errors import RuntimeUnavailable
from latebolt.gpu import elf, nvml
from latebolt.gpu.libraries import STEMS, Driver, Found, Library, Place, stem_of, usual_libraries, why_not
from latebolt.onnx_runtime import onnxruntime
from latebolt.system import IS_WINDOWS

# Distributions that hold a module of the name onnxruntime.
_WHEELS: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-migraphx",
    "onnxruntime-qnn",
)
_DRIVER: Final = "nvcuda.dll" if IS_WINDOWS else "libcuda.so.1"
_PROVIDER: Final = "libonnxruntime_providers_cuda.so"
# Where installers put CUDA without telling the system's loader.
_FOLDERS: Final = (
    "/usr/local/cuda*/lib64",
    "/usr/local/cuda*/targets/*/lib",
    "/opt/cuda*/lib64",
    "/usr/lib/wsl/lib",
)
_LDCONFIG: Final = ("/sbin/ldconfig", "/usr/sbin/ldconfig")


def find() -> Found:
    """What this machine has, for the Python that runs."""
    try:
        ort = onnxruntime()
    except RuntimeUnavailable:
        return Found(_wheels(), "", "", "", False, False, (), (), None, _visible())
    cuda = str(getattr(ort, "cuda_version", "") or "")
    head = cuda.partition(".")[0]
    has_provider = CUDA_PROVIDER in ort.get_available_providers()
    return Found(
        wheels=_wheels(),
        module=str(getattr(ort, "package_name", "onnxruntime")),
        version=str(ort.__version__),
        cuda=cuda,
        has_provider=has_provider,
        loads_wheels=hasattr(ort, "preload_dlls"),
        needed=_needed(Path(ort.__file__).parent / "capi" / _PROVIDER, int(head) if head.isdecimal() else 0),
        libraries=tuple(libraries()) if cuda else (),
        driver=driver() if has_provider else None,
        visible=_visible(),
    )


def explain(number: int = 0, said: str = "") -> str:
    """Why ONNX Runtime runs nothing on this GPU, and the ways out; see `libraries.why_not`."""
    return f'{why_not(find(), number, said)} Or use device="cpu".'


@functools.cache
def make_ready() -> None:
    """Have ONNX Runtime load CUDA and cuDNN out of NVIDIA's wheels, once a process.

    To be called before the first session on a GPU. Does nothing where there are no such wheels, or ONNX
    Runtime is older than 1.21 and cannot: then LD_LIBRARY_PATH has to name them.
    """
    load: Any = getattr(onnxruntime(), "preload_dlls", None)
    if load is None or not any(True for _ in _of_wheels()):
        return
    # It prints what it does not find, onto stdout, where answers of programs belong.
    with contextlib.redirect_stdout(sys.stderr):
        load(directory="")


def driver() -> Driver | None:
    """NVIDIA's driver; None where its library is not found."""
    try:
        library = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    version, n_devices = ctypes.c_int(0), ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    result = int(library.cuInit(0))
    if result == 0:
        library.cuDeviceGetCount(ctypes.byref(n_devices))
    cuda = version.value // 1000, version.value % 1000 // 10
    return Driver(cuda, result, n_devices.value, nvml.driver())


def libraries() -> Iterator[Library]:
    """Libraries of CUDA and cuDNN of every version, by where they lie, in the order in which places are
    looked at."""
    if IS_WINDOWS:
        yield from _of_wheels()
        return
    named = (Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part)
    yield from _in_folders(named, "LD_LIBRARY_PATH")
    yield from _of_system()
    yield from _of_wheels()
    found = (folder for pattern in _FOLDERS for folder in sorted(Path("/").glob(pattern.lstrip("/"))))
    yield from _in_folders(found, "elsewhere")


def _wheels() -> dict[str, str]:
    found = {}
    for name in _WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _needed(provider: Path, cuda_major: int) -> tuple[str, ...]:
    named = tuple(name for name in elf.needed(provider) if stem_of(name) in STEMS)
    return named or (() if IS_WINDOWS or not cuda_major else usual_libraries(cuda_major))


def _visible() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def _of_wheels() -> Iterator[Library]:
    """In `nvidia/*/lib` of the folders that Python imports from: one a library up to CUDA 12, one for all of
    CUDA from 13 on."""
    part = "bin" if IS_WINDOWS else "lib"
    for root in map(Path, sys.path):
        yield from _in_folders(sorted(root.glob(f"nvidia/*/{part}")), "nvidia wheels")


def _of_system() -> Iterator[Library]:
    """Those that the loader's cache names."""
    command = next((path for path in _LDCONFIG if os.access(path, os.X_OK)), None)
    if command is None:
        return
    try:
        done = subprocess.run([command, "-p"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from in_cache(done.stdout)


def in_cache(listing: str) -> Iterator[Library]:
    """Libraries of CUDA in what `ldconfig -p` prints."""
    for line in listing.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        name = name.partition(" ")[0]
        if arrow and stem_of(name) in STEMS:
            yield Library(name, str(Path(path).parent), "the system")


def _in_folders(folders: Iterable[Path], place: Place) -> Iterator[Library]:
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir()):
                if stem_of(path.name) in STEMS:
                    yield Library(path.name, str(folder), place)
