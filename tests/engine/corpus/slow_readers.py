"""Readers that misbehave as a library may on a file made for it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from latebolt.corpus.readers.extract import Extract
from latebolt.errors import InvalidInput


def read(path: Path) -> Extract:
    """What the file says should happen."""
    match path.read_text():
        case "sleep":
            time.sleep(60)
        case "stubborn":
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            time.sleep(60)
        case "loop":
            while True:
                pass
        case "swallow":
            held = []
            while True:
                held.append(bytearray(1 << 24))
        case "crash":
            os.abort()
        case "nest":
            return read(path)
        case "print":
            sys.stdout.write("x" * 10_000)
            sys.stdout.flush()
            os.write(1, b"not an answer")
        case "write":
            Path(f"{path}.written").write_bytes(b"x" * 10_000)
        case "long":
            return Extract("x" * 60_000_000)
        case "refuse":
            raise InvalidInput(f"{path}: is refused.")
        case "raise":
            raise KeyError("a\nsurprise")
        case "where":
            return Extract(f"{os.getpid()} {sys.path[0]}")
    return Extract("read")
