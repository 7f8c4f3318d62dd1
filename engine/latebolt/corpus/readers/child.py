"""The process of `apart`: reads the files that it is asked for until its input ends. It is run, not imported.

It limits itself before it reads anything: address space once, processor time and time for each file, after
which the system ends it, whatever it is doing. Where a system has no such limits, the clock of `apart`
ends it.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import msgspec

from latebolt import system
from latebolt.corpus.readers.apart import Answer, Request, framed
from latebolt.corpus.readers.extract import MOST_TEXT
from latebolt.errors import LateboltError


def main(memory: int, processor: int, seconds: float) -> None:
    """Answer requests on standard input."""
    incoming = sys.stdin.buffer
    outgoing = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # what a library prints is no answer
    # Nothing is written to disk, neither by a library nor as the picture of a crash.
    for what, most in (("RLIMIT_AS", memory), ("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", 0)):
        system.limit(what, most)
    while header := incoming.read(8):
        request = msgspec.msgpack.decode(incoming.read(int.from_bytes(header)), type=Request)
        limit_next_file(processor, seconds)
        answer = answer_to(request)
        outgoing.write(framed(msgspec.msgpack.encode(answer)))
        outgoing.flush()
        system.alarm(0)
        if answer.ends:
            return


def limit_next_file(processor: int, seconds: float) -> None:
    """From now on, so many seconds of processor time and so many seconds."""
    system.limit_processor_time(processor)
    system.alarm(seconds + 1)  # in case nobody is left who could end this process


def answer_to(request: Request) -> Answer:
    """What a reader gives, or why it cannot: of a library, any exception."""
    path = Path(request.path)
    try:
        extract = importlib.import_module(request.reader).read(path)
    except MemoryError:
        # The memory of this process is in pieces now; the next file gets one that is new.
        return Answer(reason="needs more memory to read than a file may", ends=True)
    except RecursionError:
        return Answer(reason="is nested too deeply")
    except LateboltError as error:
        return Answer(reason=str(error).removeprefix(f"{path}: ").rstrip("."))
    except ImportError as error:
        return Answer(reason=f"cannot be read ({error}): pip install 'latebolt[files]'")
    except Exception as error:  # noqa: BLE001 - of somebody else's library, about somebody else's file
        words = " ".join(str(error).split())[:200]
        return Answer(reason=f"is not a sound file ({words or type(error).__name__})")
    if len(extract.text) > MOST_TEXT:
        return Answer(reason=f"holds more than {MOST_TEXT / 1e6:.0f} million characters")
    return Answer(extract)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
