"""Runs the server: checks what must hold before it listens, then one process, or several and who minds them.

Processes share the listening socket and the model's file in the page cache; each has a graph and an engine of
its own. SIGTERM lets what runs finish, refuses what is new, and ends with exit code 0. SIGHUP has
the keys read again.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from filelock import FileLock, Timeout
from prometheus_client.multiprocess import mark_process_dead

from latebolt.encoder import model_folder
from latebolt.errors import InvalidInput, LateboltError
from latebolt.serve import hangup, log, metrics
from latebolt.serve.hangup import HangUp
from latebolt.serve.http.app import make_app
from latebolt.serve.http.connection import connection_class
from latebolt.serve.keys import Keys
from latebolt.serve.listening import listening, url_of
from latebolt.serve.settings import Settings, aliases_of
from latebolt.serve.state.service import Service

_FAILED: Final = 3  # exit code of a process whose model cannot be loaded
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_SWITCH_SECONDS: Final = 0.0005
_KEEP_ALIVE_SECONDS: Final = 75  # longer than the common load balancers keep theirs


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
    keys = _keys(settings)
    _check_reach(settings, keys)
    contract = model_folder.find(settings.model).contract
    if settings.precision:
        contract.graph(settings.precision)
    aliases_of(settings.aliases, contract.name)
    with _owned(settings.data_folder), listening(settings.host, settings.port) as listener:
        _tidy(settings)
        log.event(
            "listening",
            url=url_of(listener),
            workers=settings.workers,
            keys="needed"
            if keys.required
            else "none: only this machine can reach the server"
            if settings.is_loopback
            else "none: everybody who reaches this address may read and write",
        )
        if settings.workers == 1:
            return _serve(settings, keys, listener, hung_up.is_end)
        return _supervise(settings, listener, hung_up.is_end)


def _keys(settings: Settings) -> Keys:
    return Keys(settings.keys, Path(settings.keys_file).expanduser() if settings.keys_file else None)


def _check_reach(settings: Settings, keys: Keys) -> None:
    if keys.required or settings.is_loopback or settings.without_keys:
        return
    raise InvalidInput(
        f"--host {settings.host} reaches beyond this machine, and there is no key. Give --keys-file, "
        "listen at 127.0.0.1, or insist with --without-keys."
    )


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold the data folder against another server."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".server.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise InvalidInput(f"{folder}: another server has this folder. Stop it, or give --data.") from error
    except OSError as error:
        raise LateboltError(f"{folder}: cannot be used as data folder ({error.strerror}).") from error
    try:
        yield
    finally:
        lock.release()


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
    """Says when a signal has come: from then on new work is refused."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self.hangs_up: Callable[[], bool] = lambda: False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if hangup.SIGNAL is not None and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(hangup.SIGNAL, self._hear_hangup)

    def _hear_hangup(self) -> None:
        if self.hangs_up():
            self.handle_exit(signal.SIGTERM, None)
        else:
            self.service.keys.reload()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self.service.is_draining = True
        super().handle_exit(sig, frame)


def _serve(
    settings: Settings, keys: Keys, listener: socket.socket, is_end: Callable[[], bool] = lambda: False
) -> int:
    """One process, until a signal; SIGHUP is one where `is_end`."""
    hangup.hear(lambda: None)
    # uvicorn raises the signal again when it has finished; that it came is no reason to fail.
    for sig in _SIGNALS:
        signal.signal(sig, lambda *_: None)
    # A request passes from thread to thread, and at each step may wait so long for one that runs Python.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = make_server(settings, keys, _settle_memory)
    server.hangs_up = is_end
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


def make_server(settings: Settings, keys: Keys, ready: Callable[[], None] = lambda: None) -> Server:
    """One process's server, to be run at a listening socket; `ready` is called once the model is loaded."""
    service = Service(settings, keys)

    def stop() -> None:
        server.should_exit = True

    config = uvicorn.Config(
        make_app(service, stop, ready),
        http=connection_class(settings.body_timeout),
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(settings.shutdown),
    )
    server = Server(config, service)
    return server


def _work(settings: Settings, listener: socket.socket) -> None:
    """A process of several."""
    log.set_up(settings.log_level)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:  # a parent that was killed cannot say so
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="latebolt-parent", daemon=True).start()
    try:
        code = _serve(settings, _keys(settings), listener)
    except Exception as error:  # noqa: BLE001 - told by the exit code and in the log
        log.event("process failed", logging.ERROR, **log.error_fields(error))
        code = _FAILED
    raise SystemExit(code)


def _supervise(settings: Settings, listener: socket.socket, is_end: Callable[[], bool]) -> int:
    """Several processes; one that dies is replaced, one whose model cannot be loaded ends them all."""
    stopping = threading.Event()
    for sig in _SIGNALS:
        signal.signal(sig, lambda *_: stopping.set())
    metrics_folder = tempfile.mkdtemp(prefix="latebolt-metrics-")
    os.environ[metrics.MULTIPROCESS] = metrics_folder
    context = multiprocessing.get_context("spawn")

    def begin() -> BaseProcess:
        process = context.Process(target=_work, args=(settings, listener), name="latebolt-worker")
        with hangup.held_up():
            process.start()
        return process

    processes = [begin() for _ in range(settings.workers)]

    def hear_hangup() -> None:
        if is_end():
            stopping.set()
            return
        for process in processes:
            if process.pid is not None and hangup.SIGNAL is not None:
                with contextlib.suppress(ProcessLookupError):  # it is just being replaced
                    os.kill(process.pid, hangup.SIGNAL)

    hangup.hear(hear_hangup)
    try:
        code = _keep_running(processes, begin, stopping, metrics_folder)
    finally:
        for process in processes:
            process.terminate()
        end = time.monotonic() + 2 * settings.shutdown + 5
        for process in processes:
            process.join(max(0.1, end - time.monotonic()))
            process.kill()
        shutil.rmtree(metrics_folder, ignore_errors=True)
    log.event("stopped")
    return code


def _keep_running(
    processes: list[BaseProcess],
    begin: Callable[[], BaseProcess],
    stopping: threading.Event,
    metrics_folder: str,
) -> int:
    while not stopping.is_set():
        wait([process.sentinel for process in processes], timeout=0.5)
        for i, process in enumerate(processes):
            if process.exitcode is None or stopping.is_set():
                continue
            if process.exitcode == _FAILED:
                return 1
            log.event("process died", logging.ERROR, died=process.pid, exit=process.exitcode)
            mark_process_dead(process.pid, metrics_folder)
            stopping.wait(1.0)  # one that dies at once must not keep a processor busy
            processes[i] = begin()
    return 0
