"""For all tests: nothing reports to its maker, slowness and a shell in the background fail none, slow files
begin first."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator

# Of NumPy's products, in this process and those that tests start. Beside other tests the threads of OpenBLAS
# wait for each other by spinning: what one does in 0.2 s took two of them minutes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

import latebolt  # noqa: F401 - it switches ONNX Runtime's reports off

# A shell that runs the tests in the background has them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline judges the machine, which others may keep busy; what hangs, the timeout of every test ends.
settings.register_profile("latebolt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("latebolt")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules, and the trees in which asserts are rewritten, are much to look through and no garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests, then those with many tests: what begins last keeps one core busy alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))


def pytest_collection_finish() -> None:
    """What is imported by now stays, and no collection of garbage walks through it again. An export has five,
    which were half of what a small one took: torch brings hundreds of thousands of objects."""
    _keep()
    # What tests leave is old soon, and walking through all of it was two thirds of what collections took.
    gc.set_threshold(700, 10, 100)


def pytest_runtest_logfinish() -> None:
    """So does what a test imports: as many objects again, of libraries that are loaded where they are used.
    Walking through them was two thirds of what an export took in a process that had run other files."""
    if len(sys.modules) - _modules >= 100:
        _keep()


# Loaded when what there is was set aside.
_modules = 0


def _keep() -> None:
    global _modules
    gc.collect()
    gc.freeze()
    _modules = len(sys.modules)
