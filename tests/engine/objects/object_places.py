"""Places for objects in tests: a server that speaks S3 in this process, a folder, memory; and ones that
fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latebolt import Index
from latebolt.objects.drivers import Driver, Listed
from latebolt.objects.object_store import ObjectStore

DIM = 16


def vectors(n: int, seed: int) -> list[np.ndarray]:
    """float32 [5, DIM] of unit length, n of them."""
    values = np.random.default_rng(seed).standard_normal((n, 5, DIM)).astype(np.float32)
    return list(values / np.linalg.norm(values, axis=-1, keepdims=True))


def index_with(path: Path, n: int = 30, seed: int = 0) -> Index:
    """An index of vectors and texts, two segments."""
    index = Index.create(path, None, dim=DIM, bits=4)
    add(index, n, seed)
    add(index, 3, seed + 1)
    return index


def add(index: Index, n: int, seed: int) -> None:
    """Documents in one commit, whose ids say which one."""
    ids = [f"{seed}-{number}" for number in range(n)]
    index.add_vectors(ids, vectors(n, seed), texts=[f"text of {id}" for id in ids])


def answers(index: Index) -> Any:
    """All that searches tell of an index's documents."""
    return [index.search_vectors(query, 1000, exhaustive=True) for query in vectors(2, 99)]


class Broken(Driver):
    """A driver that fails: from the n-th operation on, or that one alone.

    Args:
        when: number of the operation; None for never.
        once: fail at that one only.
        after: do the work first, and then fail: an answer that was lost.
    """

    def __init__(
        self, driver: Driver, when: int | None = None, once: bool = False, after: bool = False
    ) -> None:
        self._driver, self._when, self._once, self._after = driver, when, once, after
        self.exclusive, self.tries, self.n, self.seen = driver.exclusive, driver.tries, 0, []
        self._lock = threading.Lock()
        self.before: Callable[[str, str], None] = lambda operation, name: None

    def _do(self, operation: str, name: str, work: Callable[[], Any]) -> Any:
        self.before(operation, name)
        with self._lock:
            number, self.n = self.n, self.n + 1
            self.seen.append((operation, name))
        fails = self._when is not None and (number == self._when if self._once else number >= self._when)
        if fails and not self._after:
            raise ConnectionError("the network is away")
        done = work()
        if fails:
            raise TimeoutError("no answer")
        return done

    def listed(self, folder: str) -> list[Listed]:
        return self._do("listed", folder, lambda: self._driver.listed(folder))

    def read(self, name: str, start: int, stop: int) -> bytes:
        return self._do("read", name, lambda: self._driver.read(name, start, stop))

    def upload(self, source: Path, name: str) -> None:
        self._do("upload", name, lambda: self._driver.upload(source, name))

    def write(self, name: str, content: bytes) -> None:
        self._do("write", name, lambda: self._driver.write(name, content))

    def create(self, name: str, content: bytes) -> None:
        self._do("create", name, lambda: self._driver.create(name, content))

    def remove(self, name: str) -> None:
        self._do("remove", name, lambda: self._driver.remove(name))


def store_of(uri: str, driver: Driver | None = None) -> ObjectStore:
    """A store that does not wait between tries."""
    return ObjectStore(uri, driver, pause=0)
