"""How many threads really work: each thread's CPU time, counted by the system in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux counts CPU time by thread in /proc"
)

CHILD = """
import json, os, sys, threading, time
from pathlib import Path
from latebolt import Encoder

def seconds():  # of CPU, by thread
    fields = {task.name: (task / "stat").read_text().rpartition(")")[2].split()
              for task in Path("/proc/self/task").iterdir()}
    tick = os.sysconf("SC_CLK_TCK")
    return {name: (int(field[11]) + int(field[12])) / tick for name, field in fields.items()}

threads, n_texts = map(int, sys.argv[1:])
encoders = [Encoder.load(threads=threads) for _ in range(2)]
for encoder in encoders:
    encoder.warmup()

def work(encoder):
    end = time.perf_counter() + 1.0
    while time.perf_counter() < end:
        encoder.encode_documents(["word " * 200] * n_texts)

before, start = seconds(), time.perf_counter()
callers = [threading.Thread(target=work, args=(encoder,)) for encoder in encoders]
for caller in callers: caller.start()
peak = {}
while any(caller.is_alive() for caller in callers):  # a caller's figures go when it ends
    peak |= seconds()
    time.sleep(0.02)
wall = time.perf_counter() - start
spent = {name: s - before.get(name, 0) for name, s in peak.items()}
idle = time.process_time()
time.sleep(0.5)
idle = time.process_time() - idle
print(json.dumps({"spent": list(spent.values()), "wall": wall, "idle": idle}))
"""


@pytest.mark.parametrize("n_texts", (2, 16))  # one run after another; runs side by side
@pytest.mark.parametrize("threads", (1, 2))
def test_two_encoders_at_once_use_no_more_threads_than_each_was_given(threads, n_texts):
    command = [sys.executable, "-c", CHILD, str(threads), str(n_texts)]
    for last in (False, False, True):  # other processes on the machine can spoil a second of measuring
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        broken = faults(json.loads(done.stdout), threads)
        if not broken or last:
            break
    assert not broken


def faults(found, threads):
    """What is wrong with the CPU seconds of each thread, in words."""
    total, wall = sum(found["spent"]), found["wall"]
    busy = [seconds for seconds in found["spent"] if seconds > 0.1 * wall]
    checks = {
        f"{len(busy)} busy threads": 1 <= len(busy) <= 2 * threads,
        f"{total} s of CPU in {wall} s": total <= 1.05 * 2 * threads * wall,
        f"others spent {total - sum(busy)} s": sum(busy) > 0.9 * total,  # they only wait, and do not spin
        f"{found['idle']} s when idle": found["idle"] < 0.05,
    }
    return [fault for fault, fine in checks.items() if not fine]
