"""The README's Python runs as it stands, and its beginning is short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_first_example_runs_and_prints_what_it_says(tmp_path):
    text = README.read_text(encoding="utf-8")
    before, code = re.search(r"\A(.*?)```python\n(.*?)```", text, re.DOTALL).groups()
    assert before.count("\n") < 30
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    promised = [line.split("# ", 1)[1] for line in code.splitlines() if line.lstrip().startswith("print(")]
    for line, promise in zip(done.stdout.splitlines(), promised, strict=True):
        beginning = promise.removesuffix(", ...")
        assert line.startswith(beginning), (line, promise)


def test_every_command_it_names_exists():
    from latebolt.cli import cli

    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"^latebolt (\w+)", text, re.MULTILINE))
    assert named and named <= set(cli.list_commands(None))
