"""Fixtures of the tests of indexes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ROOM = 2 << 30  # bytes; the largest folder of a test has some tens of millions


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in memory where that has room: these tests commit thousands of times, and waiting for a disk
    each time was a tenth of their processor's time. That it is told what has to be on it, test_crash.py
    sees to."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM:
        yield request.getfixturevalue("tmp_path_factory").mktemp("on-disk")
        return
    with tempfile.TemporaryDirectory(prefix="latebolt-", dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
