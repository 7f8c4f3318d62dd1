"""What NVIDIA's management library says of the GPUs: names, memory, utilisation, the driver.

A thin edge over nvidia-ml-py, which is asked by CUDA's numbers. Whatever is missing, the package, the driver
or a GPU, is None: figures are for telling and for choosing sizes, and nothing may fail for want of one.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Final

_lock: Final = threading.Lock()
_ready: dict[int, Any] = {}  # the library once it is initialised, by process


@dataclass(frozen=True)
class Gpu:
    """One GPU at a moment.

    Args:
        name: as its maker calls it.
        total, free: bytes of its memory; all programs' use counts.
        utilisation: per cent of the last moments (a sixth of a second to a second) in which a program ran on
            it; None where it does not say.
    """

    name: str
    total: int
    free: int
    utilisation: int | None


def _library() -> Any:
    """nvidia-ml-py's module, initialised once a process; None where it is missing or finds no driver."""
    with _lock:
        if os.getpid() not in _ready:
            try:
                import pynvml

                pynvml.nvmlInit()
            except Exception:  # noqa: BLE001 - of a library that may be of any version, over a driver likewise
                return None
            _ready[os.getpid()] = pynvml
        return _ready[os.getpid()]


def driver() -> str | None:
    """The driver's version, such as "580.65.06"."""
    library = _library()
    version = None if library is None else _asked(library.nvmlSystemGetDriverVersion)
    return None if version is None else str(version)


def count() -> int | None:
    """GPUs that this process sees; None where that cannot be told, 0 where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    library = _library()
    if library is None:
        return None
    n_all = _asked(library.nvmlDeviceGetCount)
    return None if n_all is None else len(shown(visible, int(n_all)))


def gpu(number: int) -> Gpu | None:
    """The GPU that is "cuda:number" in this process.

    NVML counts by the places on the bus, CUDA by default the fastest first: they agree where all GPUs are
    alike, or CUDA_DEVICE_ORDER is PCI_BUS_ID.
    """
    library = _library()
    if library is None:
        return None
    try:
        places = shown(os.environ.get("CUDA_VISIBLE_DEVICES"), library.nvmlDeviceGetCount())
        if not 0 <= number < len(places):
            return None
        place = places[number]
        if isinstance(place, int):
            handle = library.nvmlDeviceGetHandleByIndex(place)
        else:
            handle = library.nvmlDeviceGetHandleByUUID(place)
        name, memory = library.nvmlDeviceGetName(handle), library.nvmlDeviceGetMemoryInfo(handle)
        busy = _asked(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu)
        return Gpu(_text(name), int(memory.total), int(memory.free), busy)
    except Exception:  # noqa: BLE001 - see above
        return None


def shown(visible: str | None, n_gpus: int) -> list[int | str]:
    """The GPUs in CUDA's order: NVML's numbers, or identifiers such as "GPU-8932f937...".

    Args:
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
        n_gpus: of the machine.
    """
    if visible is None:
        return list(range(n_gpus))
    found: list[int | str] = []
    for name in (part.strip() for part in visible.split(",")):
        if name.startswith(("GPU-", "MIG-")):
            found.append(name)
        elif name.isascii() and name.isdecimal() and int(name) < n_gpus:
            found.append(int(name))
        else:
            break  # as CUDA does: what is behind a number that is none does not count
    return found


def _asked(question: Any) -> Any:
    """The answer as str or int; None where the library refuses."""
    try:
        answer = question()
    except Exception:  # noqa: BLE001 - see above
        return None
    return answer if isinstance(answer, int) else _text(answer)


def _text(answer: str | bytes) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)  # bytes in versions before 12
