"""Runs suites of tests beside each other and names what became of each: `make test` ends with these lines.

    python tests/suites.py 'test-engine' 'lint test-export test-frameworks'

Each argument is a row of the Makefile's targets, one after another; rows run at the same time, since a suite
that waits for servers and clusters leaves processors to the next. What the first row says is seen as it
comes; that of the others when a suite of theirs has ended and the first row has, too. All run,
whatever fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple


class Outcome(NamedTuple):
    """How a suite ended; `seconds` of a clock."""

    suite: str
    code: int
    seconds: float

    def __str__(self) -> str:
        how = "passed" if self.code == 0 else "FAILED"
        return f"{self.suite:<16} {how} in {self.seconds:.0f} s"


def run(rows: Sequence[Sequence[str]], make: Sequence[str], out: IO[str]) -> list[Outcome]:
    """Run all suites of all rows.

    Args:
        rows: at least one, of names of targets.
        make: the command that a name is put behind.
        out: where output goes; the first row's goes there as it comes.
    Returns:
        How each ended, in the order of the rows.
    """
    first_ended, stopped, printing = threading.Event(), threading.Event(), threading.Lock()
    outcomes: list[list[Outcome]] = [[] for _ in rows]
    said: list[tuple[str, str]] = []  # by suites that have ended, and not shown yet

    def show() -> None:
        with printing:
            while first_ended.is_set() and said:
                out.write("\n{}:\n{}".format(*said.pop(0)))
                out.flush()

    def work(number: int) -> None:
        for suite in rows[number]:
            if stopped.is_set():
                return
            begin = time.monotonic()
            with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as kept:
                into = kept if number else out
                code = subprocess.run([*make, suite], stdout=into, stderr=subprocess.STDOUT).returncode
                outcomes[number].append(Outcome(suite, code, time.monotonic() - begin))
                if number:
                    kept.seek(0)
                    said.append((suite, kept.read()))
                    show()
        if number == 0:
            first_ended.set()
            show()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(rows))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:  # which the suites that run have been given, too
        stopped.set()
        raise
    return [outcome for row in outcomes for outcome in row]


def processor() -> str:
    """The processor's name where Linux tells it, behind a comma."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f", {names[0]}" if names else ""


def main(rows: Sequence[str]) -> int:
    """Run them; 1 where one failed."""
    begin = time.monotonic()
    make = [os.environ.get("MAKE", "make"), "--no-print-directory"]
    outcomes = run([row.split() for row in rows], make, sys.stdout)
    failed = [outcome.suite for outcome in outcomes if outcome.code]
    lines = [*map(str, outcomes)]
    lines.append(f"all in {time.monotonic() - begin:.0f} s on {os.cpu_count()} processors{processor()}")
    if failed:
        lines.append(f"failed: {' '.join(failed)}")
    sys.stdout.write("\n" + "".join(f"{line}\n" for line in lines))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
