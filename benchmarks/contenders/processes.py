"""Children that build or measure a contender: in which Python, what they found, what memory they took."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders.base import Contender
from harness import HERE, THREAD_VARIABLES

Row = dict[str, Any]


def found_at(contender: Contender) -> tuple[str, str]:
    """The Python that has it, or "", and what versions of its packages are there."""
    if not contender.package:
        return sys.executable, ""
    script = (
        "import importlib.metadata as m, importlib.util as u, sys\n"
        "assert u.find_spec(sys.argv[1])\n"
        "print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[2:]))"
    )
    python = os.environ.get("LATEBOLT_PEERS", sys.executable)
    done = subprocess.run(
        [python, "-c", script, contender.package, *contender.versions], capture_output=True, text=True
    )
    return (python, done.stdout.strip()) if done.returncode == 0 else ("", "")


def watched(python: str, call: dict[str, Any], limit: float) -> Row:
    """What a child prints last, with the most memory of its own that it was seen with; or why it "failed"."""
    import latebolt

    own = os.pathsep.join((str(HERE), str(Path(latebolt.__file__).parents[1])))
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(call["threads"])), "PYTHONPATH": own}
    most, end = 0.0, time.monotonic() + limit
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [python, "-m", "contenders.child", json.dumps(call)], stdout=out, stderr=errors, env=environment
        )
        try:
            while child.poll() is None and time.monotonic() < end:
                most = max(most, anonymous_mb(child.pid))
                time.sleep(0.02)
        finally:
            child.kill()
            child.wait()
        out.seek(0)
        errors.seek(0)
        lines, said = out.read().splitlines(), [line for line in errors.read().splitlines() if line.strip()]
    if child.returncode == 0 and lines:
        answer: Row = json.loads(lines[-1])
        return answer | ({"build_own_MB": most} if call["step"] == "build" else {})
    if time.monotonic() >= end:
        return {"failed": f"no end after {limit:.0f} s"}
    why = f"exit code {child.returncode} with {most:.0f} MB of its own"
    return {"failed": (f"{why}: {said[-1]}" if said else why)[:300]}


def anonymous_mb(process: int) -> float:
    """Memory of a process that is no page of a file, now; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:")), 0.0)


def build(python: str, call: dict[str, Any], index: Path, threads: int, limit: float) -> Row:
    """Seconds and memory of making an index, or of when it was made, if it is still there."""
    facts = index.with_name(f"{index.name}.json")
    if facts.exists() and index.exists():
        kept: Row = json.loads(facts.read_text())
        return kept
    shutil.rmtree(index, ignore_errors=True)
    index.parent.mkdir(exist_ok=True)
    answer = watched(python, call | {"step": "build", "threads": threads}, limit)
    if "failed" not in answer:
        answer |= {"build_threads": threads}
        facts.write_text(json.dumps(answer))
    return answer
