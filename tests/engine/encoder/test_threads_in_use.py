"""How many threads really work: each thread's CPU time, counted by the system in a process of its own.

Only shares of this process's own CPU time are judged, never a wall clock: other processes may take what they
like of the machine meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from as_found import as_found

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux counts CPU time by thread in /proc"
)

CHILD = """
import json, os, sys, threading, time
from pathlib import Path
from latebolt import Encoder

def seconds():  # of CPU, by thread
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        found[task.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    found.pop(str(threading.main_thread().native_id))  # it only counts
    return found

threads, n_texts = map(int, sys.argv[1:])
encoders = [Encoder.load(threads=threads) for _ in range(2)]
for encoder in encoders:
    encoder.warmup()
enough = threading.Event()

def work(encoder):
    while not enough.is_set():
        encoder.encode_documents(["word " * 200] * n_texts)

before = seconds()
callers = [threading.Thread(target=work, args=(encoder,)) for encoder in encoders]
for caller in callers: caller.start()
spent = {}
while sum(spent.values()) < 1.5:  # however long the machine takes to give them
    time.sleep(0.05)
    spent = {name: s - before.get(name, 0) for name, s in seconds().items()}
enough.set()
for caller in callers: caller.join()
idle = time.process_time()
time.sleep(0.5)
idle = time.process_time() - idle
print(json.dumps({"spent": list(spent.values()), "idle": idle}))
"""


@pytest.mark.parametrize("n_texts", (2, 16))  # one run after another; runs side by side
@pytest.mark.parametrize("threads", (1, 2))
def test_two_encoders_at_once_use_no_more_threads_than_each_was_given(threads, n_texts):
    command = [sys.executable, "-c", CHILD, str(threads), str(n_texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=as_found())
    found = json.loads(done.stdout)
    total = sum(found["spent"])
    busy = [seconds for seconds in found["spent"] if seconds > 0.04 * total]
    assert 1 <= len(busy) <= 2 * threads, found
    assert sum(busy) > 0.9 * total, found  # the others wait, and do not spin
    assert found["idle"] < 0.05, found
