"""Fixtures of the engine's tests: the built-in model, seeded random numbers, real collections."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from latebolt import Encoder
from latebolt.index.search import planning

PROJECT = Path(__file__).parents[2]


class Rng(np.random.Generator):
    """A generator whose repr is its seed, so that a failing report shows it."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.seed = seed

    def __repr__(self) -> str:
        return f"Rng(seed={self.seed})"

    def unit(self, *shape: int) -> np.ndarray:
        """Float32 vectors of length one along the last axis."""
        values = self.standard_normal(shape)
        return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A server that a test starts in this process sends logs elsewhere: not those of the tests after it."""
    names = ("latebolt", "uvicorn", "uvicorn.access", "uvicorn.error", "ray.serve")
    before = {
        logger: (logger.level, logger.handlers[:], logger.propagate, logger.disabled)
        for logger in map(logging.getLogger, names)
    }
    yield
    for logger, (level, handlers, propagate, disabled) in before.items():
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate, logger.disabled = propagate, disabled


@pytest.fixture
def rng() -> Rng:
    return Rng(20261124)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder.load("starter", precision="int8", dim=128, device="cpu", threads=2)


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes are searched as large ones are: the best by centroids first, then exactly."""
    monkeypatch.setattr(planning, "COSTS", planning.Costs(budget=0, ratio=0))


@pytest.fixture(scope="session")
def collections() -> Path:
    """The folder of real collections; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("LATEBOLT_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real collections are not at {folder}; set LATEBOLT_DATA")
    return folder


@pytest.fixture
def in_child() -> Callable[..., bool]:
    """Runs a function in a forked child; whether it returned something true. A child that hangs, raises or
    dies is none that did."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")

    def run(function: Callable[[], object], seconds: int = 30) -> bool:
        child = os.fork()
        if child == 0:
            good = False
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a child that waits for a lock, too
                signal.alarm(seconds)
                good = bool(function())
            except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(0 if good else 1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended != -signal.SIGALRM, f"the forked child hung for {seconds} s"
        assert ended >= 0, f"the forked child died of {signal.Signals(-ended).name}"
        return ended == 0

    return run
