"""Where an index's vectors become codes: on the device that an addition names, else on the index's own.

What runs on a GPU is imported by whoever first asks for one.
"""

from __future__ import annotations

from collections.abc import Sequence

from latebolt import devices
from latebolt.codec.coding import KERNELS, Coding
from latebolt.devices import CPU, Device
from latebolt.encoder.session import why_no_gpu


class Codings:
    """Those of one index, which are kept: what they load onto a device serves later additions, too.

    Args:
        device: of the index, see `devices.parse`; of several, codes are made on the first.
    """

    def __init__(self, device: str | Sequence[str]) -> None:
        self._device = device
        self._made: dict[Device, Coding] = {CPU: KERNELS}

    def on(self, device: str | Sequence[str] | None = None) -> Coding:
        """Of a device, the index's own by default.

        Raises:
            InvalidInput: another word than those of devices.
            RuntimeUnavailable: there is no such device, or not what it takes to use it.
        """
        wanted = devices.resolve(self._device if device is None else device, why_no_gpu)[0]
        made = self._made.get(wanted)
        if made is None:
            from latebolt.gpu.codes import DeviceCoding

            made = self._made[wanted] = DeviceCoding(wanted)
        return made

    def release(self) -> None:
        """Let go of what lies on devices; asked again, it is loaded again."""
        self._made = {CPU: KERNELS}
