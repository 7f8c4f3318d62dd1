"""Damaged indexes of every kind give an answer or an error that names the file, and never end the process.

Random damage, in child processes so that a signal is seen: twenty cases of each kind, or as many as there are
in LATEBOLT_FUZZ_SECONDS. LATEBOLT_FUZZ_SEED sets which; `damage_cases.py` says how to run one of them alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import latebolt

SECONDS = float(os.environ.get("LATEBOLT_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("LATEBOLT_FUZZ_SEED", "20261129"))
CASES_A_CHILD = 400
LEAST_CASES = 140  # however slow the machine is

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes pipes")


def run(templates: Path, first: int, seconds: float) -> tuple[int, list[str]]:
    """(the number of the next case, what was wrong with those before)."""
    here = Path(__file__).parent
    engine = Path(latebolt.__file__).parent.parent
    last = first + CASES_A_CHILD if SECONDS else LEAST_CASES
    case = [str(SEED), str(first), str(last), str(seconds)]
    child = subprocess.Popen(
        [sys.executable, here / "damage_cases.py", templates, *case],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(engine), str(here.parents[1])])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = child.communicate(timeout=seconds + 300)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        err += "\nhung"
    faults, following, unfinished = [], first, None
    for line in map(json.loads, out.splitlines()):
        if "begun" in line:
            following, unfinished = line["begun"] + 1, line["begun"]
        elif "case" in line:
            unfinished = None
            faults += [f"seed {SEED} case {line['case']} ({line['what']}): {f}" for f in line["faults"]]
    if child.returncode != 0:
        ended = child.returncode
        how = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"code {ended}"
        faults.append(f"seed {SEED} case {unfinished}: the process ended with {how}\n{err[-2000:]}")
    return following, faults


def test_damage_gives_an_answer_or_names_the_file(tmp_path: Path) -> None:
    end, case, faults = time.monotonic() + SECONDS, 0, []
    while (left := end - time.monotonic()) > 0 or case < LEAST_CASES:
        following, found = run(tmp_path, case, max(left, 5) if SECONDS else 240)
        faults += found
        if following == case:  # not even the first case began
            break
        case = following
    assert not faults, f"{len(faults)} faults in {case} cases:\n" + "\n".join(faults[:40])
    assert case >= LEAST_CASES
