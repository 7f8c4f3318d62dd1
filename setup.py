"""What pyproject.toml cannot say: a wheel carries a platform's kernels compiled, or requires their compilers.

`python -m latebolt.kernels.build` puts libraries into the tree. LATEBOLT_WHEEL says which of them a wheel
carries: linux-x86_64, linux-aarch64, or any for none. Without it that of this machine goes in, if it is there
and was made from these sources. A library needs neither this Python nor any C library, so its wheel is for
every Python 3 on Linux, as old as manylinux2014.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tomllib
from pathlib import Path
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
BUILT = Path("engine", "latebolt", "kernels", "ahead", "built")
TAGS = {
    "linux-x86_64": "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "linux-aarch64": "manylinux_2_17_aarch64.manylinux2014_aarch64",
}


def problem_of(name: str) -> str:
    """Why a platform's library cannot go into a wheel; "" if it can."""
    sys.path.insert(0, str(ROOT / "engine"))
    try:
        from latebolt.kernels import compiler
    finally:
        del sys.path[0]
    folder = ROOT / BUILT / name
    try:
        about = json.loads((folder / "kernels.json").read_bytes())
        size = (folder / "kernels.so").stat().st_size
    except (OSError, ValueError) as error:
        return f"{folder} has no library of kernels ({error})"
    if about.get("sources") != compiler.digest_of_sources() or about.get("size") != size:
        return f"{folder} has a library that was made from other sources"
    return ""


def chosen() -> str | None:
    """The platform whose library goes in; None for a wheel without one."""
    wish = os.environ.get("LATEBOLT_WHEEL", "")
    if "sdist" in sys.argv or wish == "any":
        return None
    if wish and wish not in TAGS:
        raise SystemExit(f'LATEBOLT_WHEEL should be {", ".join(TAGS)} or any, got "{wish}".')
    name = wish or f"{sys.platform}-{platform.machine().lower()}"
    if not wish and not (ROOT / BUILT / name).is_dir():
        return None
    problem = problem_of(name)
    if not problem:
        return name
    again = f"Run `python -m latebolt.kernels.build --platform {name}`"
    if wish:
        raise SystemExit(f"{problem}. {again}.")
    sys.stderr.write(f"{problem}, and the wheel goes without. {again} for one with it.\n")
    return None


CHOSEN = chosen()


class Modules(build_py):
    """Leaves out the libraries of other platforms."""

    def find_data_files(self, package: str, src_dir: str) -> list[str]:
        """Data files of a package."""
        found = super().find_data_files(package, src_dir)
        return [name for name in found if BUILT not in Path(name).parents or Path(name).parent.name == CHOSEN]


class Package(Distribution):
    """With a library it is not for every machine."""

    def has_ext_modules(self) -> bool:
        """Whether there is machine code in it."""
        return CHOSEN is not None


class Wheel(bdist_wheel):
    """Named after the platform whose library it carries."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, its interface, and the platform."""
        return super().get_tag() if CHOSEN is None else ("py3", "none", TAGS[CHOSEN])


project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
compilers = [] if CHOSEN else project["project"]["optional-dependencies"]["jit"]
setup(
    install_requires=[*project["tool"]["latebolt"]["requires"], *compilers],
    distclass=Package,
    cmdclass={"build_py": Modules, "bdist_wheel": Wheel},
    # What is left there of one platform would go into another's wheel.
    options={"build": {"build_base": f"build/{CHOSEN or 'any'}"}},
)
