"""The systemd units: systemd reads them, each is as closed as the server's, and what they start exists."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from latebolt.cli import cli

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
# What is said of who runs it and what that may touch.
CLOSED = ("DynamicUser", "NoNewPrivileges", "Protect", "Private")


def lines(unit: Path) -> list[str]:
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_reads_it(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/latebolt/bin/latebolt", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


def test_every_unit_is_as_closed_as_the_server() -> None:
    server = {line for line in lines(DEPLOY / "latebolt.service") if line.startswith(CLOSED)}
    assert len(UNITS) == 2 and len(server) > 6
    for unit in UNITS:
        assert server <= set(lines(unit)), unit


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_a_command_that_exists(unit: Path) -> None:
    [start] = [line.removeprefix("ExecStart=") for line in lines(unit) if line.startswith("ExecStart=")]
    program, command, *arguments = shlex.split(start)
    assert program == "/opt/latebolt/bin/latebolt" and command in cli.list_commands(None)
    given = {line.split("=")[1] for line in lines(unit) if line.startswith("Environment=")}
    assert {argument.strip("${}") for argument in arguments} <= given
