"""What one server process holds: the model at its widths, the engine, indexes, jobs, and whether it is ready.

Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np

from latebolt.arrays import Float32
from latebolt.devices import parse
from latebolt.encoder import model_folder
from latebolt.encoder.encoder import Encoder
from latebolt.encoder.text import TokenIds
from latebolt.errors import IndexNotFound, InputNotFound, InvalidInput, LateboltError
from latebolt.index.places import masked
from latebolt.scoring import maxsim
from latebolt.serve import log, metrics
from latebolt.serve.engine.batcher import Batcher, count_truncated
from latebolt.serve.engine.cache import VectorCache
from latebolt.serve.engine.lanes import Lane
from latebolt.serve.held_bodies import Budget, current_lease
from latebolt.serve.keys import Keys
from latebolt.serve.problems import (
    INDEX_STATES,
    IndexState,
    Problem,
    data_missing,
    data_was_missing,
    invalid,
    problem_of,
    standing_by,
)
from latebolt.serve.settings import Settings, aliases_of
from latebolt.serve.state.data_folder import INDEXES, JOBS, DataFolder
from latebolt.serve.state.holdings import Hold, Holdings, Wanted
from latebolt.serve.state.indexes import Indexes
from latebolt.serve.state.jobs import Jobs
from latebolt.serve.state.snapshots import Snapshots
from latebolt.values import TokenVectors

T = TypeVar("T")
State = Literal["loading", "ready", "stopping", "data_missing", "broken"]

# Tokens that are taken from the queue at a time on a GPU, whose memory may split them into several runs: more
# would make those wait that come next.
_GPU_TAKE_TOKENS: Final = 16_384
# Characters that are tokenised in less time than it takes to wake another thread.
_FEW_CHARACTERS: Final = 4000
_MARKERS: Final = 8  # tokens that are no part of a text, more than any model has
# Writes that may wait for their turn at an index, or work at different ones.
_WRITES: Final = 16
# Indexes that are searched once before the server is ready.
_WARMED: Final = 16
_WARMING_WORDS: Final = (1, 4, 10, 20)
# A write waits for its server's turn for so much of the time that a request has.
_PATIENCE: Final = 0.8
_TURN_SECONDS: Final = 0.05


class Service:
    """One process of the server. `start` loads the model in the background.

    Args:
        writes: whether it may write from the beginning, or reads only until `may_write`.
        holdings: gives what it holds; what is in its data folder by default.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        writes: bool = True,
        holdings: Hold | None = None,
    ) -> None:
        self.settings, self.keys = settings, keys
        self._seen: list[str] = []  # names of indexes
        self.folder = model_folder.find(settings.model)
        self.contract = self.folder.contract
        if settings.precision:
            self.contract.graph(settings.precision)
        self.dims = [head.dim for head in self.contract.heads]
        self.aliases = aliases_of(settings.aliases, self.model_name)
        self.begun = time.time()
        self.is_draining = False
        self.failure: Exception | None = None
        self.budget = Budget(max(settings.held_bytes, settings.max_body_bytes))
        self._encoders: dict[int, Encoder] = {}
        self._ready, self._writes = threading.Event(), threading.Event()
        if writes:
            self._writes.set()
        self.batcher = Batcher(
            settings.process_threads,
            settings.batch_tokens,
            settings.queue_tokens,
            VectorCache(settings.cache_mb * 1_000_000),
        )
        self.searches = ThreadPoolExecutor(settings.searches, thread_name_prefix="latebolt-search")
        self.writes = ThreadPoolExecutor(_WRITES, thread_name_prefix="latebolt-write")
        held = self._own() if holdings is None else holdings(self._index_encoder)
        self.data, self.indexes, self.snapshots, self.jobs = held

    def _own(self) -> Holdings:
        settings = self.settings
        data = DataFolder(settings.data_folder)
        indexes = Indexes(data.path / INDEXES, self._index_encoder, settings.given_indexes)
        snapshots = Snapshots(settings.snapshots_folder, indexes.place_of)
        return Holdings(data, indexes, snapshots, Jobs(data.path / JOBS, indexes, self.problem_of))

    @property
    def model_name(self) -> str:
        """The served model's name in answers."""
        return self.contract.name

    @property
    def state(self) -> State:
        """How far the server is; "ready" once the model has answered, "broken" where a restart is needed."""
        if self.is_draining:
            return "stopping"
        if not self._has_data():
            return "data_missing"
        if not self._ready.is_set():
            return "loading"
        return "ready" if self.batcher.is_whole else "broken"

    def problem_of(self, error: Exception, begun: float) -> Problem:
        """The answer to an error. What could not be found or read while the data folder was going or away for
        a moment is no fault of its own.

        Args:
            error: it.
            begun: when the work began that met it, seconds of `time.monotonic()`.
        """
        problem = problem_of(error)
        if problem.status != 500 and problem.code != "index_not_found":
            return problem
        if not self._has_data():
            return data_missing()
        return problem if self.data.was_there_since(begun) else data_was_missing()

    def _has_data(self) -> bool:
        """Whether the data folder is there; told once when that changes."""
        is_there, is_news = self.data.look()
        if is_news and is_there:
            log.event("data folder back")
        elif is_news:
            log.event("data folder missing", logging.ERROR, way_out="bring it back; nothing is made anew")
        return is_there

    @property
    def is_loaded(self) -> bool:
        """Whether the model has answered."""
        return self._ready.is_set()

    @property
    def answers(self) -> bool:
        """Whether requests are answered: when the server is stopping, of those who are still connected."""
        return self.is_loaded and self.batcher.is_whole and self._has_data()

    @property
    def is_ready(self) -> bool:
        """Whether requests are welcome."""
        return self.state == "ready"

    def start(
        self, failed: Callable[[], None] = lambda: None, ready: Callable[[], None] = lambda: None
    ) -> None:
        """Load the model and let it answer once, in the background.

        Args:
            failed: called when that is not possible; `failure` says why.
            ready: called when it has answered, before requests are welcome.
        """

        def warm_up() -> None:
            start = time.perf_counter()
            try:
                self._load()
            except Exception as error:  # noqa: BLE001 - whoever runs the server raises it again
                self.failure = error
                log.event("model not loaded", logging.ERROR, **log.error_fields(error))
                failed()
                return
            ready()
            self._ready.set()
            self._begin_jobs()
            metrics.show(metrics.READY, 1)
            log.event(
                "ready",
                model=self.model_name,
                answers_for="every name" if self.settings.any_model else [self.model_name, *self.aliases],
                seconds=round(time.perf_counter() - start, 3),
            )
            self._tell_states()

        threading.Thread(target=warm_up, name="latebolt-warm-up", daemon=True).start()

    def may_write(self) -> None:
        """From now on this server is the one that writes to the data folder."""
        self._writes.set()
        log.event("writes")
        self._begin_jobs()

    def _begin_jobs(self) -> None:
        if self._ready.is_set() and self._writes.is_set():
            self.jobs.start()

    def _load(self) -> None:
        settings = self.settings
        encoder = Encoder.load(
            settings.model,
            settings.precision or None,
            device=settings.device,
            threads=settings.process_threads,
        )
        if settings.gpu_batch_tokens:
            encoder = encoder.with_gpu_runs(tokens=settings.gpu_batch_tokens)
        if encoder.shares_runs:
            self._use_gpus(encoder)
        encoder.warmup()
        self._encoders = {dim: encoder.with_dim(dim) for dim in self.dims}
        queued = self._index_encoder(encoder.dim)
        maxsim(queued.encode_queries(["warm up"])[0], queued.encode_documents(["warm up"]))
        self.precision = encoder.precision
        # One that does not fit is found now, not by a request.
        for name, folder in self.settings.given_indexes.items():
            try:
                self.indexes.check(name)
            except IndexNotFound as error:
                if isinstance(folder, str):  # a URI, which the error names
                    raise InputNotFound(f"--index {name}: {error}") from error
                raise InputNotFound(f"--index {name}={folder}: there is no index in that folder.") from error
            except LateboltError as error:
                raise InvalidInput(f"--index {name}={masked(str(folder))}: {error}") from error
        # A kernel that this machine has not compiled yet is compiled now, and not while somebody waits: there
        # is one for each of a few ranges of a query's tokens.
        warmed = list(self.settings.given_indexes)
        with contextlib.suppress(Problem):  # the data folder is gone, which requests are told
            warmed += self.indexes.names()
        for name in warmed[:_WARMED]:
            for words in _WARMING_WORDS:
                with contextlib.suppress(LateboltError):  # a request for it will be told
                    self.indexes.search(name, ["warm " * words], Wanted(1, b"null", False, "late"))

    def _use_gpus(self, encoder: Encoder) -> None:
        """From here on texts share runs; before it nobody has asked for one."""
        settings = self.settings
        self.batcher.close()
        self.batcher = Batcher(
            settings.gpu_streams,
            settings.gpu_batch_tokens or _GPU_TAKE_TOKENS,
            settings.queue_tokens,
            VectorCache(settings.cache_mb * 1_000_000),
            shares_runs=True,
        )
        metrics.show_gpus([device.number for device in parse(encoder.device)])

    def _tell_states(self) -> None:
        """Name the indexes that cannot be used."""
        with contextlib.suppress(LateboltError, OSError):  # a request for them will be told
            for name, (state, detail) in self._shown_states().items():
                if state != "ready":
                    log.event("index not usable", logging.WARNING, index=name, state=state, detail=detail)

    def _shown_states(self) -> dict[str, tuple[IndexState, str]]:
        states = self.indexes.states()
        counts = Counter(state for state, _ in states.values())
        for state in INDEX_STATES:
            metrics.show(metrics.INDEXES, counts[state], state)
        return states

    async def look_at_indexes(self) -> list[str]:
        """Bring the figures of indexes by their state up to date, as far as that can be told.

        Returns:
            Names of the indexes that there are, or were when that could be told.
        """
        if self.is_ready:
            with contextlib.suppress(LateboltError, OSError):
                self._seen = list(await asyncio.to_thread(self._shown_states))
        return self._seen

    def encoder(self, dim: int | None = None) -> Encoder:
        """The model at a width.

        Raises:
            Problem: 422, there is no such width.
        """
        if dim is not None and dim not in self.dims:
            widths = ", ".join(map(str, self.dims))
            raise invalid("dimensions", f"should be one of the model's widths: {widths}.", dim)
        return self._encoders[self.dims[0] if dim is None else dim]

    def _index_encoder(self, dim: int) -> Encoder:
        """An encoder for indexes, whose texts wait in the same queue as everyone's."""
        encoder = self.encoder(dim)
        return encoder.run_by(self.batcher.runner(encoder))

    def check_model(self, name: str | None) -> None:
        """Refuse a request for a model that is not served, whose vectors and scores would be others.

        Raises:
            Problem: 404.
        """
        if name is None or self.settings.any_model or name in (self.model_name, *self.aliases):
            return
        raise Problem(
            404,
            f"this server answers for {', '.join([self.model_name, *self.aliases])} only. Ask for it, leave "
            '"model" out, or have the server started with --aliases NAME or --any-model.',
            "model_not_found",
        )

    async def tokenize(self, encoder: Encoder, texts: Sequence[str], kind: Lane) -> list[TokenIds]:
        """Texts as the graph takes them; many are done beside the event loop."""
        if sum(map(len, texts)) < _FEW_CHARACTERS:
            return encoder.tokenize(texts, kind)
        return await self.in_thread(self.searches, encoder.tokenize, texts, kind)

    async def is_cut(self, query: str) -> bool:
        """Whether the model reads a query not to its end; counted. Of a short one that is known at once."""
        encoder = self.encoder()
        if len(query.encode()) + _MARKERS <= encoder.contract.query.max_tokens:
            return False
        [tokens] = await self.tokenize(encoder, [query], "query")
        count_truncated("query", tokens.truncated)
        return tokens.truncated

    async def encode(
        self,
        encoder: Encoder,
        kind: Lane,
        tokens: Sequence[TokenIds],
        finish: Callable[[int, Float32], Any],
    ) -> list[Any]:
        """See `Batcher.submit`; cancelling it drops what has not begun."""
        return await asyncio.wrap_future(self.batcher.submit(encoder, kind, tokens, finish))

    async def write(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that changes something, in a thread, when it is this server's turn to write.

        Raises:
            Problem: 503, the server before it does not leave.
        """
        end = time.monotonic() + _PATIENCE * self.settings.timeout
        while not self._writes.is_set():
            if time.monotonic() > end:
                raise standing_by()
            await asyncio.sleep(_TURN_SECONDS)
        return await self.in_thread(self.writes, function, *arguments)

    @staticmethod
    async def in_thread(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread, with this request's ticket; its body counts as held until then."""
        call = _Call(function, arguments)
        future = pool.submit(call)
        future.add_done_callback(call.forget)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let what runs finish, within the time there is for it, and close the indexes."""
        self.is_draining = True
        self.jobs.close(self.settings.shutdown)
        self.searches.shutdown(cancel_futures=True)
        self.writes.shutdown(cancel_futures=True)
        self.batcher.close()
        self.indexes.close()
        self.data.close()


class _Call(Generic[T]):
    """A call in a thread; one that is given up before it begins lets go of its arguments at once."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._wanted: tuple[Callable[..., T], tuple[Any, ...]] | None = function, arguments
        self._context, self._lease = contextvars.copy_context(), current_lease.get()
        if self._lease is not None:
            self._lease.hold()

    def __call__(self) -> T:
        """Run it."""
        assert self._wanted is not None, "what was cancelled is not run"
        function, arguments = self._wanted
        self._wanted = None
        return self._context.run(function, *arguments)

    def forget(self, _: object) -> None:
        """For when it is done or cancelled."""
        self._wanted = None
        if self._lease is not None:
            self._lease.let_go()


def score(query: Float32, vectors: Float32) -> float:
    """MaxSim of a query with one document."""
    return float(maxsim(query, TokenVectors(vectors, np.array([0, len(vectors)])))[0])
