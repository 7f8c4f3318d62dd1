"""A server that really listens, in a thread of the test's process or as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from latebolt.serve.keys import Keys
from latebolt.serve.process import Server, make_server
from latebolt.serve.settings import Settings
from latebolt.serve.state.data_folder import make_folders
from latebolt.serve.state.holdings import Hold

PATIENCE = 30.0


@dataclass
class Running:
    """A server in this process."""

    url: str
    server: Server
    client: httpx.Client


# Clients of http read no certificates (`verify=False`): that takes 30 ms each time.
@contextlib.contextmanager
def serving(data: Path, keys: str = "", holdings: Hold | None = None, **settings: Any) -> Iterator[Running]:
    """A server in a thread, ready to answer.

    Args:
        holdings: what it holds in place of a data folder.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        chosen = Settings(data=str(data), keys=keys, **{"threads": 2, "shutdown": 5.0, **settings})
        make_folders(chosen.data_folder, chosen.snapshots_folder)
        known = Keys(keys, Path(chosen.keys_file) if chosen.keys_file else None)
        server = make_server(chosen, known, holdings=holdings)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE, verify=False) as client:
                wait_until(lambda: is_ready(client))
                yield Running(url, server, client)
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def process(
    data: Path, *arguments: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """`latebolt serve` as a process, ready to answer; killed at the end if it still runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "latebolt",
        "serve",
        "--data",
        str(data),
        "--port",
        str(port),
        *arguments,
    ]
    running = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False) as client:
            wait_until(lambda: is_ready(client) or running.poll() is not None)
            yield running, client
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
        running.communicate()


class Lines:
    """The log of a process that writes it to a pipe, read as it comes."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self.text: list[str] = []
        assert server.stderr is not None
        self._stream = os.fdopen(os.dup(server.stderr.fileno()), errors="replace")  # another closes its own
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self._stream:
            self.text.extend(self._stream)

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of an event so far."""
        lines = [json.loads(line) for line in list(self.text) if line.startswith("{") and line.endswith("\n")]
        return [line for line in lines if line["event"] == event]


def workers_of(server: subprocess.Popen[str]) -> set[int]:
    """Its worker processes; one that ends meanwhile is none."""
    found = set()
    for each in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.add(int(each))
    return found


def loop_seconds(running: subprocess.Popen[str]) -> float:
    """Seconds of a processor that a process's event loop, in its first thread, has used so far: other work of
    the machine is not in it, as it is in a wait."""
    told = Path(f"/proc/{running.pid}/task/{running.pid}/schedstat").read_text()
    return int(told.split()[0]) / 1e9


def is_ready(client: httpx.Client) -> bool:
    """Whether /ready says so."""
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)
