"""These tests run on an ARM machine, most often an emulated one, beside an x86 one: `make test-arm`."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def made() -> Path:
    """The folder in which `made.py` has run on two machines."""
    folder = PROJECT / ".arm/made"
    if not (folder / "aarch64/hits.json").is_file():
        pytest.skip('"make test-arm" makes what two machines are compared by')
    return folder


@pytest.fixture(scope="session")
def here(made: Path) -> Path:
    """What this machine has made."""
    return made / platform.machine()


@pytest.fixture(scope="session")
def other(made: Path) -> Path:
    """What the other has."""
    [folder] = [each for each in made.iterdir() if each.is_dir() and each.name != platform.machine()]
    return folder
