"""`latebolt` in the process of the tests: what it writes and how it ends, without what a start costs."""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from latebolt.cli import run
from latebolt.cli.terminal import prepare


class _Stream(io.TextIOWrapper):
    """Text that is kept, as a pipe would take it."""

    def __init__(self, content: bytes = b"") -> None:
        self.kept = io.BytesIO(content)
        super().__init__(self.kept, "utf-8", errors="surrogateescape", newline="", write_through=True)

    def text(self) -> str:
        self.flush()
        return self.kept.getvalue().decode("utf-8", "surrogateescape")


def latebolt(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` would give for the command."""
    output, errors = _Stream(), _Stream()
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        mock.patch.object(sys, "stdin", _Stream(stdin.encode())),
        # Where somebody else keeps what is logged, which pytest does, the command does not show it.
        mock.patch.object(logging.getLogger(), "handlers", []),
        mock.patch.object(logging.getLogger("latebolt"), "handlers", []),
        mock.patch.object(logging.getLogger("latebolt"), "propagate", True),
    ):
        prepare()
        code = run([*arguments])
    return subprocess.CompletedProcess(["latebolt", *arguments], code, output.text(), errors.text())


def until_it_works(running: subprocess.Popen[str], seconds: float = 1.5) -> None:
    """Wait until a process has used so many seconds of processors: it is loaded then and about its work,
    however busy the machine is."""
    clock = ~running.pid << 3 | 2  # what clock_getcpuclockid(3) gives
    end = time.monotonic() + 120
    while running.poll() is None and time.clock_gettime(clock) < seconds:
        assert time.monotonic() < end, "it never came to its work"
        time.sleep(0.02)
    assert running.poll() is None, "it was too fast to be interrupted"
