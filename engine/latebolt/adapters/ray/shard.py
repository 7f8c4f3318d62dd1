"""A shard over Ray Serve: the deployment that answers for it, and the one who asks, and asks again.

A request names the place of the shard's files, so that any replica can answer for any shard: while an
application is updated, old and new replicas answer old and new servers, each from the files that it means.
What a dead replica was asked goes to another one until the time is up. All that is asked may be asked twice:
what writes goes by ids, and does nothing more the second time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, get_args

from latebolt.adapters.ray.cluster import keep_to_this_machine, missing
from latebolt.errors import IndexNotFound, LateboltError
from latebolt.sharding.protocol import READS, Method
from latebolt.sharding.service import ShardService

try:
    import ray.exceptions
    from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
except ImportError as error:
    raise missing() from error

Handle = Any  # ray.serve.handle.DeploymentHandle

# What a replica may be asked at a time; what comes beyond waits with who asks, for whichever is free first.
MOST_ASKED: Final = 32
_METHODS: Final = frozenset(get_args(Method))
_OPEN: Final = 4  # places that a replica holds open: its own, and that of the application before
_WRITES: Final = 4
# For a folder that is not there, as of a shared disk that comes back soon, a replica that starts waits so
# long before it ends; Ray starts another one at once, for as long as it takes.
_FOLDER_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.05  # before a replica is asked in place of one that has died
_LEAST_SECONDS: Final = 0.25  # below which nothing is asked again
# Another replica is asked beside one that takes so much longer than answers usually do: long enough that load
# does not double itself, and short enough for a machine that died and is not known to be dead.
_PATIENCE_SECONDS: Final = 0.3
_SLOW: Final = 8.0
_WEIGHT: Final = 0.1  # of the last answer in what is usual
_MOST_COUNTED: Final = 2.0  # times what is usual, and a little
# What says that a replica is no more, and nothing of what it was asked.
_GONE: Final = (
    ReplicaUnavailableError,
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.TaskCancelledError,
)


class ShardReplica:
    """A replica of a shard's deployment.

    Args:
        threads: of a search.
    """

    def __init__(self, threads: int) -> None:
        keep_to_this_machine()
        self._place, self._threads = "", threads
        self._services: OrderedDict[str, ShardService] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._reads = ThreadPoolExecutor(threads + 1, thread_name_prefix="latebolt-shard")
        self._writes = ThreadPoolExecutor(_WRITES, thread_name_prefix="latebolt-write")

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """For Ray, at the start, and when the application is run again with another place.

        Args:
            config: `place`, which `ShardService` opens: a folder that every node has under this name, or a
                URI; "" for none, until this replica goes.
        Raises:
            LateboltError: the shard cannot be opened.
        """
        self._place = config["place"]
        end = time.monotonic() + _FOLDER_SECONDS
        while True:
            try:
                return await self.check_health()
            except IndexNotFound:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(_LOOK_SECONDS)

    async def check_health(self) -> None:
        """For Ray, which starts another replica where this raises."""
        if self._place:
            await asyncio.to_thread(self._do, self._place, "state", ())

    async def ask(self, place: str, method: Method, *arguments: Any) -> Any:
        """What the method of that name of the place's `ShardService` says.

        Raises:
            LateboltError: what it raises.
        """
        if method not in _METHODS:
            raise LateboltError("a shard is asked for what it does not know; is one of another version?")
        pool = self._reads if method in READS else self._writes
        return await asyncio.get_running_loop().run_in_executor(pool, self._do, place, method, arguments)

    def _do(self, place: str, method: Method, arguments: Sequence[Any]) -> Any:
        return getattr(self._service(place), method)(*arguments)

    def _service(self, place: str) -> ShardService:
        with self._lock:
            opening = self._opening.setdefault(place, threading.Lock())
        with opening:  # which may take a download, and keeps no other place waiting
            with self._lock:
                found = self._services.get(place)
            if found is None:
                found = ShardService(place, threads=self._threads)
            with self._lock:
                self._services[place] = found
                self._services.move_to_end(place)
                # Let go of, and not closed: somebody may be in the middle of a search.
                while len(self._services) > _OPEN:
                    del self._opening[self._services.popitem(last=False)[0]]
        return found


class RayShard:
    """A shard as a server sees it; see `sharding.protocol.Shard`.

    Args:
        handle: of the shard's deployment.
        place: see `ShardReplica`.
        search_seconds, write_seconds: for an answer, to read and to write. To read, another replica is asked
            beside one that takes many times as long as usual, and whichever answers first counts.
    """

    def __init__(self, handle: Handle, place: str, search_seconds: float, write_seconds: float) -> None:
        self._handle, self._place = handle, place
        self._search_seconds, self._write_seconds = search_seconds, write_seconds
        self._usual = 0.0  # seconds of an answer, of late

    def call(self, method: Method, *arguments: Any) -> Future[Any]:
        """Ask; see `Shard.call`."""
        return _background.run(self._ask(method, arguments))

    def close(self) -> None:
        """Nothing is held."""

    async def _ask(self, method: Method, arguments: Sequence[Any]) -> Any:
        reads = method in READS
        begun = time.monotonic()
        end = begun + (self._search_seconds if reads else self._write_seconds)
        patience = _PATIENCE_SECONDS + _SLOW * self._usual
        attempts: dict[asyncio.Task[Any], Any] = {}
        try:
            while True:
                response = self._handle.ask.remote(self._place, method, *arguments)
                attempts[asyncio.ensure_future(_answer(response))] = response
                left = end - time.monotonic()
                wait = min(patience, left / 2) if reads and left > _LEAST_SECONDS else left
                done, _ = await asyncio.wait(attempts, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    del attempts[each]
                    error = each.exception()
                    if error is None:
                        if reads:
                            self._usual = usual_after(self._usual, time.monotonic() - begun)
                        return each.result()
                    if not isinstance(error, _GONE):
                        raise _own(error)
                if time.monotonic() > end - _LEAST_SECONDS:
                    raise TimeoutError
                if done:
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    patience *= 2
        finally:
            for each, response in attempts.items():
                each.cancel()
                response.cancel()


def usual_after(usual: float, seconds: float) -> float:
    """What an answer usually takes, after one that took so many seconds.

    One that hung counts as not much more than usual: or the next that dies would be waited for as long.
    """
    return usual + _WEIGHT * (min(seconds, _MOST_COUNTED * usual + _PATIENCE_SECONDS / _SLOW) - usual)


async def _answer(response: Any) -> Any:
    return await response


def _own(error: BaseException) -> BaseException:
    """A replica's error of ours as itself, instead of Ray's account of it."""
    if isinstance(error, DeploymentUnavailableError):
        return LateboltError("no replica of it can start, or it is gone.")
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, LateboltError) else error


class _Background:
    """An event loop in a thread of its own, from the first use on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="latebolt-shards", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


_background: Final = _Background()
