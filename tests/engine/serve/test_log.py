"""The log never holds up a request, whoever reads it or does not."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import process

from latebolt.serve.log import _lines_lost
from latebolt.serve.patient_lines import PatientLines

ROOM = 1 << 16  # bytes of a pipe


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def handler(descriptor: int, most_kept: int = 1 << 20) -> PatientLines:
    made = PatientLines(descriptor, _lines_lost, most_kept)
    made.setFormatter(logging.Formatter("%(message)s %(fields)s", defaults={"fields": ""}))
    return made


def say(lines: PatientLines, message: str) -> None:
    lines.handle(logging.LogRecord("a", logging.INFO, "", 0, message, (), None))


def read_all(descriptor: int) -> list[str]:
    os.set_blocking(descriptor, False)
    found = b""
    try:
        while more := os.read(descriptor, ROOM):
            found += more
    except BlockingIOError:
        pass
    return [line.strip() for line in found.decode().splitlines()]


def test_lines_are_kept_until_there_is_room(pipe: tuple[int, int]):
    lines, said = handler(pipe[1]), [f"{i} " + "x" * 98 for i in range(2000)]
    for each in said:
        say(lines, each)
    first = read_all(pipe[0])
    assert 0 < len(first) < 2000
    lines.flush()
    rest = []
    while more := read_all(pipe[0]):
        rest += more
        lines.flush()
    assert first + rest == said


def test_lines_beyond_that_are_counted(pipe: tuple[int, int]):
    lines, said = handler(pipe[1], 10_000), [f"{i} " + "x" * 98 for i in range(2000)]
    for each in said:
        say(lines, each)
    found = read_all(pipe[0])
    lines.flush()
    found += read_all(pipe[0])
    say(lines, "after")
    found += read_all(pipe[0])
    *kept, lost, after = found
    assert kept == said[: len(kept)] and len(kept) > 600
    assert lost == f"log_lines_lost {{'lines': {2000 - len(kept)}}}"
    assert after == "after"


def test_a_long_line_comes_whole(pipe: tuple[int, int]):
    lines, long = handler(pipe[1]), "y" * 3 * ROOM
    found = []
    reader = threading.Thread(target=lambda: found.append(os.fdopen(os.dup(pipe[0])).readline()))
    reader.start()
    say(lines, long)
    while reader.is_alive():
        lines.flush()
    assert found[0].strip() == long


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_is_gone_ends_nothing(blocking: bool, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    lines = handler(write)
    for _ in range(2000):
        say(lines, "x" * 98)
    os.close(read)
    say(lines, "more")
    lines.flush()
    assert (len(lines._waiting), lines._kept) == (0, 0)
    os.close(write)


def test_a_server_answers_whoever_does_not_read_its_log(tmp_path: Path):
    with process(tmp_path) as (server, client):
        # More than a pipe holds, 64 kB; to make it smaller is refused where it holds something by now.
        for _ in range(900):
            assert client.get("/health").status_code == 200
        server.terminate()
        _, output = server.communicate(timeout=20)
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert len(output) > 65_536 and events.count("request") >= 900
    assert events[-1] == "stopped"
