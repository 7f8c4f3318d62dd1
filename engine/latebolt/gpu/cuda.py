"""The one import of numba-cuda: GPUs that kernels of ours can run on, their memory, arrays that live there.

Errors of the driver become ours here. numba's simulator (NUMBA_ENABLE_CUDASIM=1) is taken for one GPU, which
is how the tests run the kernels where there is none.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.errors import OutOfMemory, RuntimeUnavailable

LEAST_CAPABILITY: Final = (8, 0)
COPY_BYTES: Final = 1 << 28  # that go to the device at once
THREADS: Final = 128  # a thread block of ours
BLOCKS_A_MULTIPROCESSOR: Final = 16  # more would only wait
LEAST_BLOCKS: Final = 128  # of fewer numba warns; those without work end at once
_OR_CPU = 'use device="cpu".'
_INSTALL = f"Run \"pip install 'latebolt[gpu]'\", or {_OR_CPU}"
WAYS: Final = (
    'Spread the index over several GPUs (device="cuda:0,cuda:1"), write it with fewer bits, end what else '
    'holds memory of the device, or use device="cpu".'
)


class Gpu:
    """A GPU that our kernels can run on.

    Args:
        number: as CUDA counts them.
    Raises:
        RuntimeUnavailable: numba-cuda is missing, or finds no GPU or no such one.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._cuda = _numba_cuda(str(self))
        self.simulated = _simulated()
        gpus = list(self._cuda.gpus)
        if number >= len(gpus):
            there = f"only cuda:0 to cuda:{len(gpus) - 1}" if len(gpus) > 1 else "only cuda:0"
            raise RuntimeUnavailable(f"there is no {self} here, {there}. Name one of these, or {_OR_CPU}")
        self._context = gpus[number]

    def __str__(self) -> str:
        return f"cuda:{self.number}"

    def require_tensor_cores(self) -> None:
        """Raise RuntimeUnavailable where codes cannot be scored, for want of integer tensor cores that take
        32 dimensions at once."""
        if not self.simulated:
            found = tuple(self._context.compute_capability)
            if found < LEAST_CAPABILITY:
                raise RuntimeUnavailable(
                    f"{self}: has compute capability {found[0]}.{found[1]}, and scoring codes on a GPU needs "
                    f"{LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} (Ampere) or newer. To have only the model "
                    'there, open the index with encoder=Encoder.load(model, device="cuda").'
                )

    @contextlib.contextmanager
    def at_work(self, what: str) -> Iterator[None]:
        """A block that uses the GPU; `what` names it in an error.

        Raises:
            OutOfMemory: the device has too little memory left.
        """
        try:
            with self._context:
                yield
        except Exception as error:
            if "OUT_OF_MEMORY" not in str(error).upper().replace(" ", "_"):
                raise
            raise OutOfMemory(
                f"{self}: there is too little memory left on the device for {what}. {WAYS}"
            ) from error

    def free_bytes(self) -> float:
        """Bytes of memory that are free, whoever holds the rest; without bound in the simulator."""
        with self._context:
            context = self._cuda.current_context()
            if not self.simulated:
                context.deallocations.clear()  # numba gives memory back some arrays at a time
            return float(context.get_memory_info()[0])

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """A device array whose content is undefined."""
        return self._cuda.device_array(shape, np.dtype(dtype))

    def put(self, array: npt.NDArray[Any]) -> Any:
        """A copy on the device of an array that is small, or made for it."""
        return self._cuda.to_device(np.ascontiguousarray(array))

    def put_rows(
        self,
        array: npt.NDArray[Any],
        place: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        dtype: npt.DTypeLike,
    ) -> Any:
        """A flat copy on the device of a large array, which may be mapped: some rows at a time.

        Args:
            place: makes of some rows what lies on the device for them; as many bytes for each row.
            dtype: of the elements there.
        """
        step = max(COPY_BYTES // max(array[:1].nbytes, 1), 1)
        width = place(array[:1]).nbytes // np.dtype(dtype).itemsize
        target = self.empty(len(array) * width, dtype)
        for start in range(0, len(array), step):
            rows = np.ascontiguousarray(place(array[start : start + step])).reshape(-1).view(dtype)
            target[start * width : start * width + len(rows)].copy_to_device(rows)
        return target

    def grid(self, n_warps: int) -> tuple[int, int]:
        """(thread blocks, threads a block) for work of so many warps, which kernels share by strides."""
        if self.simulated:  # a thread of the simulator is one of Python's
            return min(max(n_warps, 1), 2), 32
        most = BLOCKS_A_MULTIPROCESSOR * int(self._context.MULTIPROCESSOR_COUNT)
        return max(min(-(-n_warps * 32 // THREADS), most), LEAST_BLOCKS), THREADS


def _simulated() -> bool:
    return bool(importlib.import_module("numba.core.config").ENABLE_CUDASIM)


def _numba_cuda(device: str) -> Any:
    """numba.cuda, where there is a GPU for it."""
    try:
        cuda: Any = importlib.import_module("numba.cuda")
    except Exception as error:  # where numba and numba-cuda are not of one time, more than ImportErrors
        raise RuntimeUnavailable(
            f'device "{device}": numba-cuda cannot be imported ({error}). '
            f"Run \"pip install -U 'latebolt[gpu]' numba numba-cuda\", or {_OR_CPU}"
        ) from error
    if _simulated() or cuda.is_available():
        return cuda
    # Without numba-cuda there may still be numba's own numba.cuda, which is no longer maintained.
    if importlib.util.find_spec("numba_cuda") is None:
        raise RuntimeUnavailable(f'device "{device}": numba-cuda is not installed. {_INSTALL}')
    reason = " ".join(str(cuda.cuda_error() or "").split()).rstrip(".")
    hidden = " (CUDA_VISIBLE_DEVICES is empty)" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else ""
    raise RuntimeUnavailable(
        f'device "{device}": numba-cuda finds no GPU or no driver{hidden}'
        f'{f" ({reason})" if reason else ""}. Run "latebolt doctor", or {_OR_CPU}'
    )
