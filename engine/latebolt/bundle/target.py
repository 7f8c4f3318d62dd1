"""The machine that a bundle is for: which wheels run there, and what markers of requirements say there.

Knows nothing of pip or files. Sources: packaging.python.org, "Platform compatibility tags"; PEP 600
(manylinux), PEP 656 (musllinux), PEP 508 (markers).
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from latebolt.errors import InvalidInput

_PLATFORM: Final = re.compile(r"(?P<libc>manylinux|musllinux)_(?P<major>\d+)_(?P<minor>\d+)_(?P<machine>\w+)")
# The names of before PEP 600, by glibc's version, and the oldest glibc that each machine's wheels ask for.
_OLD_NAMES: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST: Final = {"x86_64": 5, "i686": 5}
_OLDEST_ELSEWHERE: Final = 17
_PYTHON: Final = re.compile(r"3\.(\d+)")
_OLDEST_PYTHON: Final = 11


@dataclass(frozen=True)
class Target:
    """A machine with Linux. `platform` is manylinux_X_Y_MACHINE or musllinux_X_Y_MACHINE, `python` such as
    3.11."""

    platform: str
    python: str

    @classmethod
    def of(cls, platform: str | None, python: str | None) -> Target:
        """A target by its names; None is what runs here.

        Raises:
            InvalidInput: there is no such platform or Python, or latebolt does not run there.
        """
        named = platform or _here()
        version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
        number = _PYTHON.fullmatch(version)
        if number is None or int(number[1]) < _OLDEST_PYTHON:
            raise InvalidInput(
                "--python should be a version such as 3.11, which is the oldest that latebolt runs on, "
                f'got "{version}".'
            )
        for minor, old in _OLD_NAMES.items():
            named = re.sub(rf"{old}(?=_[a-z])", f"manylinux_2_{minor}", named)
        if not _PLATFORM.fullmatch(named):
            raise InvalidInput(
                "--platform should be manylinux_X_Y_MACHINE (glibc) or musllinux_X_Y_MACHINE (Alpine), got "
                f'"{named}": manylinux_2_28_aarch64 is for 64-bit ARM with glibc 2.28 or newer, such as '
                'Raspberry Pi OS 11 and later. "ldd --version" and "uname -m" tell a device\'s.'
            )
        return cls(named, version)

    @cached_property
    def _parts(self) -> re.Match[str]:
        found = _PLATFORM.fullmatch(self.platform)
        assert found is not None  # `of` has looked
        return found

    @property
    def machine(self) -> str:
        """As `uname -m` says there: aarch64, x86_64, armv7l."""
        return self._parts["machine"]

    @property
    def is_musl(self) -> bool:
        """Whether the C library is musl."""
        return self._parts["libc"] == "musllinux"

    @property
    def platforms(self) -> list[str]:
        """Tags of wheels that run there, the most special first: its own, and those of older C libraries."""
        libc, major, minor = self._parts["libc"], self._parts["major"], int(self._parts["minor"])
        oldest = 0 if self.is_musl else min(_OLDEST.get(self.machine, _OLDEST_ELSEWHERE), minor)
        tags = []
        for n in range(minor, oldest - 1, -1):
            tags.append(f"{libc}_{major}_{n}_{self.machine}")
            if libc == "manylinux" and major == "2" and n in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[n]}_{self.machine}")
        # What was built on such a machine and for no other, as a folder of wheels of your own may hold.
        return [*tags, f"linux_{self.machine}"]

    @property
    def markers(self) -> dict[str, str]:
        """What markers of requirements are judged by there. The release of the last part is not known."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def pip_options(self) -> list[str]:
        """What pip is told to choose wheels by."""
        number = self.python
        platforms = [text for tag in self.platforms for text in ("--platform", tag)]
        return ["--only-binary=:all:", "--implementation", "cp", "--python-version", number, *platforms]


def _here() -> str:
    """This machine; of a system that is not Linux, a common device."""
    libc, version = platform.libc_ver()
    machine = platform.machine()
    if platform.system() == "Linux" and libc == "glibc":
        return f"manylinux_{version.replace('.', '_')}_{machine}"
    if platform.system() == "Linux":
        return f"musllinux_1_2_{machine}"
    raise InvalidInput(
        "bundles are for Linux, which this machine does not run: name the device's --platform, such as "
        "manylinux_2_28_aarch64 or manylinux_2_28_x86_64."
    )
