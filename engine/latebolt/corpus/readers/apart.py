"""Reads files in a process of its own with limits of memory and time: a file can end it, and nothing else.

One process serves many files, and is started again when it has ended.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from latebolt.corpus.readers.extract import MOST_TEXT, Extract
from latebolt.errors import InvalidInput, LateboltError

_LENGTH: Final = 8  # bytes before each message
_FILES: Final = 500  # that one process reads: what a library does not give back ends with it
_LONGEST_ANSWER: Final = 8 * MOST_TEXT


@dataclass(frozen=True)
class Limits:
    """Of one file: bytes of address space, seconds of processor time, seconds."""

    memory: int = 2 << 30
    processor: int = 30
    seconds: float = 60.0


class Request(msgspec.Struct, frozen=True):
    """What the process is asked."""

    reader: str
    path: str


class Answer(msgspec.Struct, frozen=True):
    """What it answers: an extract, or why there is none. ends: it was the last of this process."""

    extract: Extract | None = None
    reason: str = ""
    ends: bool = False


_ANSWERS: Final = msgspec.msgpack.Decoder(Answer)


class ReaderProcess:
    """A process that reads; started by the first file. It serves one thread."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0

    def read(self, reader: str, path: Path) -> Extract:
        """What the module `reader` reads of a file.

        Raises:
            InvalidInput: it cannot be read, or not within the limits.
            LateboltError: no process can be started.
        """
        if self._process is None or self._process.poll() is not None or self._read >= _FILES:
            self.close()
            self._process = self._started()
            self._read = 0
        self._read += 1
        process = self._process
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(self._limits.seconds, end)
        clock.daemon = True
        clock.start()
        try:
            answer = self._asked(process, Request(reader, str(path.absolute())))
        except BaseException:
            self.close()  # an answer that nobody took would be taken for that of the next file
            raise
        finally:
            clock.cancel()
        if answer is None:
            self.close()
            raise InvalidInput(f"{path}: {self._end_of(process, late.is_set())}.")
        if answer.ends:
            self.close()
        if answer.extract is None:
            raise InvalidInput(f"{path}: {answer.reason}.")
        return answer.extract

    def _asked(self, process: subprocess.Popen[bytes], request: Request) -> Answer | None:
        """The answer; None if the process ended instead."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(framed(msgspec.msgpack.encode(request)))
            process.stdin.flush()
        except OSError:
            return None
        length = int.from_bytes(process.stdout.read(_LENGTH))
        content = process.stdout.read(length) if 0 < length <= _LONGEST_ANSWER else b""
        try:
            return _ANSWERS.decode(content) if len(content) == length > 0 else None
        except msgspec.DecodeError:
            return None

    def _started(self) -> subprocess.Popen[bytes]:
        # The modules that this process has, but never those of a folder that happens to be the current one.
        home = str(Path(__file__).parents[3])
        paths = [home, *(path for path in sys.path if path and Path(path).is_absolute())]
        limits = self._limits
        arguments = (str(limits.memory), str(limits.processor), str(limits.seconds))
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "latebolt.corpus.readers.child", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is for this process, which ends the other
            )
        except OSError as error:
            raise LateboltError(f"no process to read files can be started ({error.strerror}).") from error

    def _end_of(self, process: subprocess.Popen[bytes], late: bool) -> str:
        limits = self._limits
        if late or process.returncode in (_SIGALRM, _SIGXCPU):
            return f"takes longer than {min(limits.seconds, limits.processor):.0f} s to read"
        return f"ends the process that reads it (status {process.returncode})"

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what stood in it was for a process that is gone
                        pipe.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def framed(message: bytes) -> bytes:
    """A message behind its length."""
    return len(message).to_bytes(_LENGTH) + message


_SIGALRM: Final = -14
_SIGXCPU: Final = -24
