"""SIGHUP: keys are read again and the server goes on, with one process and with several, unless the terminal
that it was started from has gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from servers import PATIENCE, Lines, process, wait_until

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal on this system")

OLD, NEW = "an-old-key-of-a-test", "a-new-key-of-a-test"


def allowed(client: httpx.Client, key: str) -> int:
    """The status of a request by a connection of its own, so that any process may get it."""
    return httpx.get(
        f"{client.base_url}/v1/models", headers={"Authorization": f"Bearer {key}"}, verify=False
    ).status_code


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_read_again_by_every_process(tmp_path: Path, workers: int):
    keys = tmp_path / "keys"
    keys.write_text(f"{OLD}\n")
    arguments = ("--workers", str(workers), "--keys-file", str(keys))
    with process(tmp_path / "data", *arguments) as (server, client):
        lines = Lines(server)

        def processes(event: str) -> set[object]:
            return {line["process"] for line in lines.of(event)}

        wait_until(lambda: len(lines.of("ready")) == workers)
        keys.write_text(f"{NEW}\n")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: len(processes("keys read again")) == workers)
        assert [allowed(client, key) for key in [OLD, NEW] * 4] == [401, 200] * 4
        # What does not fit is told with its line, by every process; the keys in force stay.
        keys.write_text(f"{NEW}\n# a short one\nshort\n")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: len(processes("keys not read")) == workers)
        said = lines.of("keys not read")[0]
        assert said["line"] == 3 and "fewer than 16 characters" in said["reason"]
        assert allowed(client, NEW) == 200
        assert server.poll() is None and len(lines.of("ready")) == workers  # no process was replaced
        server.terminate()
        assert server.wait(PATIENCE) == 0
    assert processes("keys not read") == processes("keys read again") == processes("ready")


def test_one_that_comes_while_processes_begin_ends_none(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text(f"{OLD}\n")
    command = [sys.executable, "-m", "latebolt", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    command += ["--workers", "2", "--keys-file", str(keys)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = Lines(server)
        wait_until(lambda: bool(lines.of("listening")))

        def hang_up_until_ready() -> bool:
            server.send_signal(signal.SIGHUP)
            return len(lines.of("ready")) == 2

        wait_until(hang_up_until_ready)
        assert lines.of("process died") == []
        server.terminate()
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.wait()


# Takes the terminal that is its stdin as its own, as a shell does, and becomes the server.
_IN_TERMINAL = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "latebolt", *sys.argv[2:]])
"""


@pytest.mark.parametrize(("outlives", "workers"), [(False, 1), (False, 2), (True, 1)])
def test_a_terminal_that_is_closed_ends_what_it_started(tmp_path: Path, outlives: bool, workers: int):
    ours, theirs = os.openpty()
    how = "nohup" if outlives else "plain"
    command = [sys.executable, "-c", _IN_TERMINAL, how, "serve", "--data", str(tmp_path), "--port", "0"]
    server = subprocess.Popen(
        [*command, "--workers", str(workers)], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    try:
        lines = Lines(server)
        wait_until(lambda: len(lines.of("ready")) == workers)
        server.send_signal(signal.SIGHUP)  # the terminal is there: no reason to end
        wait_until(lambda: len(lines.of("keys not read")) >= workers)
        assert server.poll() is None
        os.close(ours)
        if outlives:
            server.send_signal(signal.SIGHUP)
            wait_until(lambda: len(lines.of("keys not read")) >= 2)
            assert server.poll() is None
            server.terminate()
        assert server.wait(PATIENCE) == 0
        assert lines.of("process died") == []
    finally:
        server.kill()
        server.wait()
