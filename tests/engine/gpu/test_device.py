"""Kernels and searches of a GPU: in numba's CUDA simulator always, on a GPU where there is one.

Either wants a process of its own, since the simulator is chosen when numba is imported. What is checked
stands in `device_kernels.py` and `device_search.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latebolt.gpu import nvml

FILES = ("device_kernels.py", "device_search.py")


def run(**environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *FILES]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout


def test_in_the_simulator():
    run(NUMBA_ENABLE_CUDASIM="1")


@pytest.mark.gpu
@pytest.mark.skipif(not nvml.count(), reason="no GPU here")
def test_on_a_gpu():
    run(NUMBA_ENABLE_CUDASIM="0")
