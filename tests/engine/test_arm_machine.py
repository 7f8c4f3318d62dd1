"""`make test-arm` without its machine: only a whole one counts; where there can be none, nothing fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arm import machine, run


@pytest.fixture
def parts(monkeypatch):
    """Makes a machine of a script that says what the emulated Python would; the steps that it took."""
    steps: list[str] = []

    def unpack(draft: Path) -> None:
        steps.append("unpack")
        (draft / machine.SITE).mkdir(parents=True)

    def install(draft: Path) -> None:
        steps.append("install")

    monkeypatch.setattr(machine, "_check_host", lambda: None)
    monkeypatch.setattr(machine, "_unpack", unpack)
    monkeypatch.setattr(machine, "_install", install)
    monkeypatch.setattr(machine, "_PYTHON", '#!/bin/sh\necho aarch64 "$0"\n')
    return steps


def test_a_machine_is_made_once(parts, tmp_path):
    machine.make(tmp_path / "arm")
    machine.make(tmp_path / "arm")
    assert parts == ["unpack", "install"]
    assert [each.name for each in tmp_path.iterdir()] == ["arm"]


def test_it_is_made_again_when_it_would_be_another(parts, tmp_path, monkeypatch):
    machine.make(tmp_path / "arm")
    monkeypatch.setattr(machine, "TESTS_WANT", ("pytest>=99",))
    machine.make(tmp_path / "arm")
    assert parts == ["unpack", "install"] * 2


@pytest.mark.parametrize("where", ("_install", "_PYTHON"))
def test_half_a_machine_is_none(parts, where, tmp_path, monkeypatch):
    def fails(draft: Path) -> None:
        raise machine.NoMachine("the network went")

    with monkeypatch.context() as broken:
        broken.setattr(machine, where, fails if where == "_install" else "#!/bin/sh\necho x86_64\n")
        with pytest.raises(machine.NoMachine):
            machine.make(tmp_path / "arm")
    assert list(tmp_path.iterdir()) == []
    machine.make(tmp_path / "arm")
    assert (tmp_path / "arm" / machine.STAMP).is_file()


def test_where_there_can_be_none_the_last_line_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    assert run.main(["--folder", str(tmp_path / "arm")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("test-arm: skipped, ")
    assert any(word in last for word in ("apt-get is not here", "x86-64 Linux"))


@pytest.mark.parametrize("code", (0, 1))
def test_the_last_line_counts_what_passed(code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "make", lambda folder: None)
    monkeypatch.setattr(run, "build_kernels", lambda folder, native: None)
    monkeypatch.setattr(run.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0))
    monkeypatch.setattr(run, "on_arm", lambda folder, cpu, tests: run.Ran(f"on {cpu}", code, "....", 4))
    monkeypatch.setattr(run, "_ran", lambda where, *_: run.Ran(where, 0, "...", 3))
    assert run.main(["--folder", str(tmp_path / "arm")]) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert "11 tests passed (4 on cortex-a76 and 4 on cortex-a57 and 3 back on this machine)" in last
    assert ("FAILED on cortex-a76, on cortex-a57" in last) == bool(code)


def test_a_run_says_how_many_of_its_tests_passed(tmp_path):
    """With the options of the runs and pyproject.toml's: one -q too many, and pytest counts nothing."""
    file = tmp_path / "test_two.py"
    file.write_text("def test_a(): pass\ndef test_b(): pass\n")
    config = str(Path(__file__).parents[2] / "pyproject.toml")
    command = [sys.executable, "-m", "pytest", *run.OPTIONS, "-c", config, "--noconftest", str(file)]
    done = run._ran("here", command, dict(os.environ))
    assert (done.code, done.passed) == (0, 2), done.said


def test_a_run_without_a_count_is_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "make", lambda folder: None)
    monkeypatch.setattr(run, "build_kernels", lambda folder, native: None)
    monkeypatch.setattr(run.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0))
    monkeypatch.setattr(run, "on_arm", lambda folder, cpu, tests: run.Ran(f"on {cpu}", 0, "", 0))
    monkeypatch.setattr(run, "_ran", lambda where, *_: run.Ran(where, 0, "", 3))
    assert run.main(["--folder", str(tmp_path / "arm")]) == 1
    assert "FAILED on cortex-a76, on cortex-a57" in capsys.readouterr().out
