"""Runs a script of this folder in the environment of the library that it needs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# As `python -m` does it. A search for garbage walks through all that the library loads: a fifth of the time.
UNCOLLECTED = "import gc, runpy, sys; gc.disable(); del sys.argv[0]; "
UNCOLLECTED += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
OTHER = os.environ.get("LATEBOLT_SENTENCE_TRANSFORMERS", "")


def need_sentence_transformers_6() -> str:
    """The Python that has it; the test is skipped where none is named."""
    if not OTHER:
        pytest.skip("LATEBOLT_SENTENCE_TRANSFORMERS names no Python with sentence-transformers 6")
    return OTHER


def ask(python: str, script: str, out: Path, *arguments: object) -> None:
    """Run `python -m differential.script arguments` in the folder `out`.

    colbert-ai writes down the branch of the repository that it runs in, and fails where none is checked out.
    """
    command = [python, "-c", UNCOLLECTED, f"differential.{script}", *map(str, arguments)]
    settings = os.environ | {"PYTHONPATH": str(TESTS), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stderr
