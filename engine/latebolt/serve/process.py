"""Runs the server: checks what must hold before it listens, then one process, or several and who minds them.

Processes share the listening socket and the model's file in the page cache; each has a graph and an engine of
its own. Nothing is accepted before the model has answered: until then connections wait in the socket. SIGTERM
answers those who are connected, lets what runs finish, and ends with exit code 0; SIGHUP has the keys read
again; SIGUSR2 replaces the processes of several one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from latebolt import system
from latebolt.encoder import model_folder
from latebolt.errors import InvalidInput, LateboltError
from latebolt.serve import hangup, log, metrics
from latebolt.serve.hangup import HangUp
from latebolt.serve.http.app import make_app
from latebolt.serve.http.connection import connection_class
from latebolt.serve.keys import Keys
from latebolt.serve.listening import given_socket, listening, url_of
from latebolt.serve.ownership import Ownership
from latebolt.serve.settings import Settings, aliases_of
from latebolt.serve.state.holdings import Hold
from latebolt.serve.state.service import Service
from latebolt.serve.workers import ACCEPTS, FAILED, LEAVE, WRITE, Worker, Workers

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_RENEW: Final = system.signal_number("SIGUSR2")  # Windows has none
_SWITCH_SECONDS: Final = 0.0005
_KEEP_ALIVE_SECONDS: Final = 75  # longer than the common load balancers keep theirs
_LOOK_SECONDS: Final = (
    0.02  # between two looks at a model that is being loaded, or at connections that are to end
)
_TURN_SECONDS: Final = 0.2  # between two looks whether the server before has left
# How long a process that leaves keeps connections that rest, for one more request each: closed at once, they
# would be lost with what their clients are just sending. One that has been replaced has more time than one
# that a person or systemd waits for.
_LINGER_SECONDS: Final = 2.0
_LEISURE_SECONDS: Final = 10.0


def run(settings: Settings) -> int:
    """Serve until a signal ends it.

    Returns:
        The exit code.
    Raises:
        InvalidInput: the settings do not go together, or another server has the data folder.
        ModelError: there is no such model.
    """
    hung_up = HangUp()
    log.set_up(settings.log_level)
    keys = keys_of(settings)
    given = given_socket()
    if given is not None:
        host, port = given.getsockname()[:2]
        settings = dataclasses.replace(settings, host=host, port=port)
    check_reach(settings, keys)
    contract = model_folder.find(settings.model).contract
    if settings.precision:
        contract.graph(settings.precision)
    aliases_of(settings.aliases, contract.name)
    with contextlib.ExitStack() as stack:
        ownership = stack.enter_context(Ownership(settings.data_folder))
        if not _takes_over(ownership, settings) and not settings.overlap:
            raise InvalidInput(
                f"{settings.data_folder}: another server has this folder. Stop it, or give --data, or "
                "--overlap to search there until it has left."
            )
        listener = stack.enter_context(given or listening(settings.host, settings.port))
        log.event(
            "listening",
            url=url_of(listener),
            workers=settings.workers,
            keys="needed"
            if keys.required
            else "none: only this machine can reach the server"
            if settings.is_loopback
            else "none: everybody who reaches this address may read and write",
            writes="now" if ownership.is_held else "when the server that has the folder has left",
        )
        if settings.workers == 1:
            return _serve_alone(settings, keys, listener, ownership, hung_up.is_end)
        return _supervise(settings, listener, ownership, hung_up.is_end)


def keys_of(settings: Settings) -> Keys:
    """The keys that settings name.

    Raises:
        InputNotFound, KeysUnfit: see `Keys`.
    """
    return Keys(settings.keys, Path(settings.keys_file).expanduser() if settings.keys_file else None)


def check_reach(settings: Settings, keys: Keys) -> None:
    """Raise InvalidInput where a server without keys would be reached from beyond this machine."""
    if keys.required or settings.is_loopback or settings.without_keys:
        return
    raise InvalidInput(
        f"--host {settings.host} reaches beyond this machine, and there is no key. Give --keys-file, "
        "listen at 127.0.0.1, or insist with --without-keys."
    )


def _takes_over(ownership: Ownership, settings: Settings) -> bool:
    """Whether the folder is ours to write to; when it comes to be, what was left there is cleared away."""
    if not ownership.is_held and ownership.take():
        _tidy(settings)
    return ownership.is_held


def _follows(ownership: Ownership, settings: Settings) -> bool:
    """`_takes_over` of a server that runs: what cannot be cleared away is told, and stops no writing."""
    try:
        return _takes_over(ownership, settings)
    except (LateboltError, OSError) as error:
        log.event("leftovers stay", logging.ERROR, **log.error_fields(error))
    return ownership.is_held


def _tidy(settings: Settings) -> None:
    from latebolt.serve.state.data_folder import make_folders
    from latebolt.serve.state.indexes import Indexes
    from latebolt.serve.state.jobs import Jobs
    from latebolt.serve.state.snapshots import Snapshots

    def no_encoder(_: int) -> Any:
        raise AssertionError("nothing is encoded here")

    make_folders(settings.data_folder, settings.snapshots_folder)
    indexes = Indexes(settings.data_folder / "indexes", no_encoder)
    indexes.sweep()
    Snapshots(settings.snapshots_folder, indexes.place_of).sweep()
    Jobs(settings.data_folder / "jobs", indexes).tidy()


class Server(uvicorn.Server):
    """Accepts once the model has answered; when it is to leave, answers those who are connected, and goes.

    Args:
        loaded: called when the model has answered.
        accepts: called when connections are accepted.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        loaded: Callable[[], None] = lambda: None,
        accepts: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.service = service
        self._loaded, self._accepts = loaded, accepts
        self._linger = _LINGER_SECONDS
        self.hangs_up: Callable[[], bool] = lambda: False

    def _hear_hangup(self) -> None:
        if self.hangs_up():
            self.handle_exit(signal.SIGTERM, None)
        else:
            self.service.keys.reload()

    def leave(self, linger: float = _LINGER_SECONDS) -> None:
        """Accept nothing more, answer those who are connected, and end.

        Args:
            linger: seconds that connections may rest before they are closed.
        """
        self._linger = linger
        self.service.is_draining = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        super().handle_exit(sig, frame)
        self.leave(0.0 if sig == signal.SIGINT else min(self._linger, _LINGER_SECONDS))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; begins to accept when there is somebody to answer."""
        if hangup.SIGNAL is not None and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(hangup.SIGNAL, self._hear_hangup)
        self.service.start(self.leave, self._loaded)
        while not self.service.is_loaded and not self.should_exit:
            await asyncio.sleep(_LOOK_SECONDS)
        await super().startup([] if self.should_exit else sockets)
        if not self.should_exit:
            self._accepts()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; keeps connections open for one more answer, which says that they are closed."""
        self.service.is_draining = True
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        begun, shutdown = time.monotonic(), self.service.settings.shutdown
        while self.server_state.connections and not self.force_exit:
            if time.monotonic() >= begun + min(self._linger, shutdown):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        # Of the time that requests have, so much is left.
        self.config.timeout_graceful_shutdown = max(0, round(begun + shutdown - time.monotonic()))
        await super().shutdown(sockets)


def _serve_alone(
    settings: Settings,
    keys: Keys,
    listener: socket.socket,
    ownership: Ownership,
    is_end: Callable[[], bool],
) -> int:
    """The only process of a server; SIGHUP is the end where `is_end`."""
    server = make_server(settings, keys, _settle_memory, writes=ownership.is_held)
    server.hangs_up = is_end

    def wait_for_turn() -> None:
        while not _follows(ownership, settings):
            time.sleep(_TURN_SECONDS)
        server.service.may_write()

    if not ownership.is_held:
        threading.Thread(target=wait_for_turn, name="latebolt-turn", daemon=True).start()
    if _RENEW is not None:
        way_out = (
            "there is one process only. Start with --workers 2, or hand the socket over: docs/operations.md"
        )
        signal.signal(_RENEW, lambda *_: log.event("no renewal", logging.WARNING, why=way_out))
    return _serve(server, listener)


def _serve(server: Server, listener: socket.socket) -> int:
    """One process, until a signal."""
    hangup.hear(lambda: None)
    # uvicorn raises the signal again when it has finished; that it came is no reason to fail.
    for sig in _SIGNALS:
        signal.signal(sig, server.handle_exit)
    # A request passes from thread to thread, and at each step may wait so long for one that runs Python.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server.run(sockets=[listener])
    hangup.hear(lambda: None)  # the loop that heard it is closed
    if server.service.failure is not None:
        raise server.service.failure
    log.event("stopped")
    return 0


def _settle_memory() -> None:
    """What is there now stays: collections of garbage, which stop every thread, may skip it."""
    gc.collect()
    gc.freeze()


def make_server(
    settings: Settings,
    keys: Keys,
    loaded: Callable[[], None] = lambda: None,
    accepts: Callable[[], None] = lambda: None,
    writes: bool = True,
    holdings: Hold | None = None,
) -> Server:
    """One process's server, to be run at a listening socket.

    Args:
        loaded, accepts: see `Server`.
        writes: whether it may write from the beginning; otherwise after `service.may_write()`.
        holdings: see `Service`.
    """
    service = Service(settings, keys, writes, holdings)
    config = uvicorn.Config(
        make_app(service),
        http=connection_class(settings.body_timeout),
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    return Server(config, service, loaded, accepts)


def _work(settings: Settings, listener: socket.socket, pipe: Connection, writes: bool) -> None:
    """A process of several."""
    log.set_up(settings.log_level)
    if _RENEW is not None:
        signal.signal(_RENEW, signal.SIG_IGN)  # of a whole group of processes, the parent answers it

    def follow(server: Server) -> None:
        with contextlib.suppress(EOFError, OSError):  # of a parent that was killed, and cannot say so
            while True:
                message = pipe.recv()
                if message == WRITE:
                    server.service.may_write()
                elif message == LEAVE:
                    server.leave(_LEISURE_SECONDS)
        system.end_this_process()

    def accepts() -> None:
        with contextlib.suppress(OSError):
            pipe.send(ACCEPTS)

    try:
        server = make_server(settings, keys_of(settings), _settle_memory, accepts, writes)
        threading.Thread(target=follow, args=(server,), name="latebolt-parent", daemon=True).start()
        code = _serve(server, listener)
    except Exception as error:  # noqa: BLE001 - told by the exit code and in the log
        log.event("process failed", logging.ERROR, **log.error_fields(error))
        code = FAILED
    raise SystemExit(code)


def _supervise(
    settings: Settings, listener: socket.socket, ownership: Ownership, is_end: Callable[[], bool]
) -> int:
    """Several processes; one that dies is replaced, and if no model can be loaded all end."""
    stopping, renewing = threading.Event(), threading.Event()
    for sig in _SIGNALS:
        signal.signal(sig, lambda *_: stopping.set())
    if _RENEW is not None:
        signal.signal(_RENEW, lambda *_: renewing.set())
    metrics_folder = tempfile.mkdtemp(prefix="latebolt-metrics-")
    os.environ[metrics.MULTIPROCESS] = metrics_folder
    context = multiprocessing.get_context("spawn")

    def begin() -> Worker:
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(settings, listener, theirs, ownership.is_held), name="latebolt-worker"
        )
        with hangup.held_up():
            process.start()
        theirs.close()  # so that its end is seen when it dies
        return Worker(process, ours)

    def look() -> None:
        if not ownership.is_held and _follows(ownership, settings):
            workers.tell(WRITE)

    patience = _LEISURE_SECONDS + 2 * settings.shutdown + 5
    workers = Workers(settings.workers, begin, lambda pid: mark_process_dead(pid, metrics_folder), patience)

    def hear_hangup() -> None:
        if is_end():
            stopping.set()
        elif hangup.SIGNAL is not None:
            workers.signal(hangup.SIGNAL)

    hangup.hear(hear_hangup)
    try:
        code = workers.run(stopping, renewing, look)
    finally:
        workers.stop()
        shutil.rmtree(metrics_folder, ignore_errors=True)
    log.event("stopped")
    return code
