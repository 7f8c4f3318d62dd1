"""latebolt's own wheel: a file that is named, one built of the source tree that runs, or the index's."""

from __future__ import annotations

import importlib.metadata
import shutil
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

import latebolt
from latebolt.bundle import pip
from latebolt.bundle.target import Target
from latebolt.bundle.wheel_file import metadata_of
from latebolt.errors import InputNotFound, InvalidInput

_SOURCE: Final = Path(latebolt.__file__).parents[2]
_BUILT_OF: Final = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "engine", "export")
_BUILD_BACKEND: Final = ("setuptools", 77)
# What belongs to making models and to working on latebolt, never to a device; and the other ONNX Runtime.
_NOT_FOR_DEVICES: Final = ("export", "optimum", "gpu", "all", "ray", "build")


class OwnWheel(NamedTuple):
    """What latebolt's wheel is. `file` is None for one that the index has."""

    version: str
    file: Path | None
    extras: frozenset[str]

    def requirement(self, extras: tuple[str, ...]) -> str:
        """What pip is asked for."""
        named = f"latebolt[{','.join(sorted({'cpu', *extras}))}]"
        return f"{named} @ {self.file.resolve().as_uri()}" if self.file else f"{named}=={self.version}"

    def check_extras(self, extras: tuple[str, ...]) -> None:
        """Raise InvalidInput for extras that there are not, or that no device needs."""
        allowed = sorted(each for each in self.extras if _is_for_devices(each))
        for each in extras:
            if each not in allowed:
                known = "is not for devices" if each in self.extras else "is not known"
                raise InvalidInput(f'the extra "{each}" {known}. For bundles there are {", ".join(allowed)}.')


def find(given: str | None, target: Target, folder: Path) -> OwnWheel:
    """The wheel for a target.

    Args:
        given: a file, or None.
        folder: empty; where one that has to be built is put.
    Raises:
        InputNotFound: there is no such file.
        InvalidInput: it is none of latebolt, or not for that target.
        LateboltError: it cannot be built.
    """
    if given is not None:
        return _read(Path(given), target)
    if _is_source(_SOURCE):
        return _read(_built(folder, _carried(target)), target)
    known = importlib.metadata.metadata("latebolt")
    return OwnWheel(known["Version"], None, frozenset(known.get_all("Provides-Extra") or ()))


def _is_for_devices(extra: str) -> bool:
    return extra not in _NOT_FOR_DEVICES and not extra.startswith("dev")


def _is_source(folder: Path) -> bool:
    """Whether the folder is latebolt's repository, or a copy of it."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return False
    return project.get("name") == "latebolt" and all((folder / name).exists() for name in _BUILT_OF)


def _carried(target: Target) -> str:
    """What the wheel carries of compiled kernels, in setup.py's words: the target's, if they were built."""
    libc, _, _, machine = target.platform.split("_", 3)
    name = f"linux-{machine}"
    built = _SOURCE / "engine" / "latebolt" / "kernels" / "ahead" / "built" / name
    return name if libc == "manylinux" and built.is_dir() else "any"


def _built(folder: Path, carried: str) -> Path:
    """Build of a copy: setuptools leaves its notes in the tree that it builds."""
    copy, dist = folder / "source", folder / "dist"
    copy.mkdir()
    for name in _BUILT_OF:
        source = _SOURCE / name
        if source.is_dir():
            leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, copy / name, ignore=leave)
        else:
            shutil.copyfile(source, copy / name)
    dist.mkdir()
    return pip.build_wheel(copy, dist, isolated=not _has_backend(), carried=carried)


def _has_backend() -> bool:
    name, oldest = _BUILD_BACKEND
    try:
        return int(importlib.metadata.version(name).partition(".")[0]) >= oldest
    except importlib.metadata.PackageNotFoundError:
        return False


def _read(file: Path, target: Target) -> OwnWheel:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if not file.is_file():
        raise InputNotFound(f"{file}: there is no such wheel.")
    try:
        name, version, _, tags = parse_wheel_filename(file.name)
    except InvalidWheelFilename as error:
        raise InvalidInput(f"{file}: is not named as a wheel is ({error}).") from error
    if name != "latebolt":
        raise InvalidInput(f"{file}: is a wheel of {name}. --wheel takes one of latebolt.")
    short = f"cp{target.python.replace('.', '')}"
    if not any(
        tag.platform in ("any", *target.platforms)
        and (tag.interpreter in ("py3", short) or tag.abi in ("abi3", "none"))
        for tag in tags
    ):
        raise InvalidInput(f"{file}: is not for {target.platform} and Python {target.python}.")
    return OwnWheel(str(version), file, frozenset(metadata_of(file)["provides_extra"]))
