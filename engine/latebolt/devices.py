"""Names of devices: what "cpu", "cuda:1", "cuda:0,cuda:1" or "auto" stand for, and whether they can be had.

`parse` reads a name and asks nobody; `resolve` asks the installed ONNX Runtime as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latebolt.errors import InvalidInput, RuntimeUnavailable
from latebolt.onnx_runtime import onnxruntime

logger = logging.getLogger(__name__)

CUDA_PROVIDER = "CUDAExecutionProvider"
_NO_PROVIDER = (
    'the installed onnxruntime has no CUDA provider. "latebolt doctor" says why; or use device="cpu".'
)


@dataclass(frozen=True)
class Device:
    """One device.

    Args:
        kind: "cpu" or "cuda"; of `parse` alone "auto", too.
        number: of the GPU as CUDA counts them, which CUDA_VISIBLE_DEVICES changes.
    """

    kind: str
    number: int = 0

    @property
    def is_cpu(self) -> bool:
        """Whether it is no GPU."""
        return self.kind == "cpu"

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}" if self.number else self.kind


CPU = Device("cpu")


def parse(device: str | Sequence[str]) -> tuple[Device, ...]:
    """The devices that are meant, in the order in which they are named.

    Args:
        device: "cpu", "cuda", "cuda:1", "auto"; several GPUs as "cuda:0,cuda:1" or as a list of names.
    Raises:
        InvalidInput: another word, one GPU twice, or a GPU beside something else.
    """
    names = device.split(",") if isinstance(device, str) else device
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise _unknown(device)
    if len(names) > 1 and any(not name.strip().startswith("cuda") for name in names):
        raise InvalidInput(f'several devices should be GPUs alone, as in "cuda:0,cuda:1", got {device!r}.')
    found = tuple(_one(name.strip(), device) for name in names)
    if len(set(found)) < len(found):
        raise InvalidInput(f"device {device!r} names one GPU twice. Name each once.")
    return found


def _one(name: str, whole: object) -> Device:
    if name in ("cpu", "auto"):
        return Device(name)
    kind, _, number = name.partition(":")
    # isdecimal takes digits of other scripts, too, and so does int.
    if kind != "cuda" or (number and not (number.isascii() and number.isdecimal())):
        raise _unknown(whole)
    return Device("cuda", int(number or 0))


def _unknown(device: object) -> InvalidInput:
    shown = f'"{device}"' if isinstance(device, str) else repr(device)
    return InvalidInput(
        f'device should be "cpu", "cuda", "cuda:N", several as "cuda:0,cuda:1", or "auto", got {shown}.'
    )


def named(devices: Sequence[Device]) -> str:
    """What `parse` makes these devices of again: "cuda:1", or "cuda:0,cuda:1" for several."""
    if len(devices) == 1:
        return str(devices[0])
    return ",".join(f"{device.kind}:{device.number}" for device in devices)


def resolve(
    device: str | Sequence[str], why_no_gpu: Callable[[int], str] = lambda _: _NO_PROVIDER
) -> tuple[Device, ...]:
    """`parse`, with "auto" decided, of devices that the installed ONNX Runtime has a provider for.

    Whether there is such a GPU shows when a graph is loaded onto it.

    Args:
        device: see `parse`.
        why_no_gpu: says of a GPU why there is no provider for it, and the way out.

    Raises:
        InvalidInput: see `parse`.
        RuntimeUnavailable: CUDA was asked for and the installed onnxruntime has none, or there is no
            onnxruntime.
    """
    found = parse(device)
    if found == (CPU,):
        return found
    has_cuda = CUDA_PROVIDER in onnxruntime().get_available_providers()
    if found[0].kind == "auto":
        if not has_cuda:
            logger.warning('device "auto": the installed onnxruntime has no CUDA provider; using the CPU')
        return (Device("cuda") if has_cuda else CPU,)
    if not has_cuda:
        raise RuntimeUnavailable(f'device "{named(found)}": {why_no_gpu(found[0].number)}')
    return found
