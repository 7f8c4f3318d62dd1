"""A Ray cluster of several nodes on this machine, nodes that die, and load on a server meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster

from latebolt.adapters.ray.cluster import prepare_cluster

MEMORY = 100_000_000  # bytes of a node's object store; with 80 million Ray Data stands still for 15 s


class Nodes:
    """A head, on which nothing of ours runs but what asks for its resource "head", and other nodes."""

    def __init__(self, others: int, cpus: int = 4, head_cpus: int = 1) -> None:
        prepare_cluster()
        # Each node's agent looks at all processes every 5 seconds, for figures that nobody reads here.
        os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")
        self._cpus = cpus
        self.cluster = Cluster()
        head = {"num_cpus": head_cpus, "resources": {"head": 100}, "include_dashboard": False}
        head |= {"include_log_monitor": False, "no_monitor": True}  # no logs are read, nothing is scaled
        self.cluster.add_node(object_store_memory=MEMORY, **head)
        self.others = [self.add() for _ in range(others)]
        ray.init(self.cluster.address, log_to_driver=False, logging_level="error")

    @property
    def address(self) -> str:
        """Of the cluster."""
        return str(self.cluster.address)

    def add(self) -> Any:
        """One node more."""
        return self.cluster.add_node(num_cpus=self._cpus, object_store_memory=MEMORY, resources={"work": 100})

    def kill(self, node: Any) -> None:
        """End a node at once: its raylet and its workers get SIGKILL, as they would with the power gone."""
        workers = [pid for each in _raylets(node) for pid in _children(each)]
        for pid in [*_raylets(node), *workers]:
            kill_process(pid)
        self.cluster.remove_node(node, allow_graceful=False)
        self.others.remove(node)

    def close(self) -> None:
        """End all of it."""
        ray.shutdown()
        self.cluster.shutdown()


def replicas(deployment: str, application: str = "latebolt") -> dict[str, int]:
    """Replica -> process, of a deployment's replicas that run; Ray takes a while to see that one is dead."""
    details = serve.context._get_global_client().get_serve_details()
    found = details["applications"][application]["deployments"][deployment]["replicas"]
    return {
        each["replica_id"]: each["pid"]
        for each in found
        if each["state"] == "RUNNING" and each["pid"] and _lives(each["pid"])
    }


def _lives(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty: a zombie
    except OSError:
        return False


def kill_process(pid: int) -> None:
    """SIGKILL, of one that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def node_of(pid: int, nodes: Nodes) -> Any:
    """The node that a worker belongs to."""
    return next(each for each in nodes.others if pid in {p for r in _raylets(each) for p in _children(r)})


def _raylets(node: Any) -> list[int]:
    return [each.process.pid for each in node.all_processes.get("raylet", [])]


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(each), *_children(int(each))]
    return found


@dataclass
class Tally:
    """What came of requests."""

    asked: int = 0
    wrong: list[Any] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)  # of answers, by time.monotonic()


class Load:
    """Threads that search, and one that adds documents, until the block is left.

    Args:
        right: whether the hits of a query, by its number, are what they should be.
        writes: whether documents are added; each has a name of its own and no metadata.
        pause: seconds of each thread between its requests, which may be changed meanwhile. Without, they take
            all processors while Ray starts what has died again.
    """

    def __init__(
        self,
        url: str,
        bodies: Sequence[dict[str, Any]],
        right: Callable[[int, list[dict[str, Any]]], bool],
        threads: int = 2,
        writes: bool = False,
        pause: float = 0.1,
    ) -> None:
        self._url, self._bodies, self._right, self.pause = url, bodies, right, pause
        self.tally = Tally()
        self._over, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._search, args=(n,)) for n in range(threads)]
        if writes:
            self._threads.append(threading.Thread(target=self._write))

    def wait_for(self, more: int, seconds: float = 60.0) -> None:
        """Until so many requests more were answered."""
        wanted, end = self.tally.asked + more, time.monotonic() + seconds
        while self.tally.asked < wanted:
            assert time.monotonic() < end, "requests stand still"
            time.sleep(0.02)

    def _search(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60, verify=False) as client:
            while not self._over.is_set():
                number = (number + 1) % len(self._bodies)
                begun = time.monotonic()
                answer = self._post(client, "search", self._bodies[number])
                if answer is None:
                    continue
                hits = answer["hits"]
                with self._lock:
                    self.tally.asked += 1
                    self.tally.moments.append(time.monotonic())
                    self.tally.seconds.append(self.tally.moments[-1] - begun)
                    if not self._right(number, hits):
                        self.tally.wrong.append((number, hits))
                time.sleep(self.pause)

    def _write(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=60, verify=False) as client:
            while not self._over.is_set():
                ids = [f"w{number}-{i}" for i in range(4)]
                number += 1
                documents = [{"id": id, "text": f"walrus {id}"} for id in ids]
                if self._post(client, "documents", {"documents": documents}) is None:
                    continue
                with self._lock:
                    self.tally.acknowledged += ids
                time.sleep(self.pause)

    def _post(self, client: httpx.Client, path: str, body: Any) -> Any:
        """The answer; None for one that is no success, which is noted."""
        try:
            answer = client.post(f"/v1/indexes/docs/{path}", json=body)
        except httpx.TransportError as error:
            self._fail(repr(error))
            return None
        if answer.status_code != 200:
            self._fail(answer.text)
            return None
        return answer.json()

    def _fail(self, why: str) -> None:
        with self._lock:
            self.tally.failed.append(why)
        time.sleep(0.1)

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that answers nothing, and does not die."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
