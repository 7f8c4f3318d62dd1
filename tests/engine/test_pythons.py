"""`make test-pythons`: which interpreters are found, what is told of those that are not, and the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pythons
from pythons import Outcome, Python

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def shim(place: Path, says: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{says}\n")
    place.chmod(0o755)
    return place


def test_what_is_on_the_path_comes_first_and_what_does_not_work_is_passed_over(tmp_path: Path):
    """Such as pyenv's stand-ins for versions that are not chosen, and an interpreter of another version."""
    home = tmp_path / "home"
    shim(tmp_path / "a/python3.77", "echo 'pyenv: python3.77: command not found' >&2; exit 127")
    shim(tmp_path / "b/python3.77", "echo 3.76 3.76.1")
    whole = shim(home / ".pyenv/versions/3.77.2/bin/python3.77", "echo 3.77 3.77.2")
    older = shim(home / ".local/share/uv/python/cpython-3.77.1-linux/bin/python3.77", "echo 3.77 3.77.1")
    environment = {"PATH": f"{tmp_path / 'a'}:{tmp_path / 'b'}"}
    assert pythons.find("3.77", environment, home) == (Python(whole, "3.77.2"), "")
    whole.unlink()
    assert pythons.find("3.77", environment, home) == (Python(older, "3.77.1"), "")
    older.unlink()
    python, problem = pythons.find("3.77", environment, home)
    assert python is None and str(tmp_path / "b") in problem
    first = shim(tmp_path / "b/python3.77", "echo 3.77 3.77.9")
    assert pythons.find("3.77", environment, home) == (Python(first, "3.77.9"), "")


def test_this_interpreter_is_found_by_its_version():
    place = Path(sys._base_executable).parent  # type: ignore[attr-defined]
    if not (place / f"python{HERE}").exists():
        pytest.skip("this interpreter is not called by its version")
    found, problem = pythons.find(HERE, {"PATH": str(place)}, Path("/no/home"))
    assert problem == "" and found is not None and found.version == sys.version.split()[0]


def test_a_version_that_is_nowhere_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch, capsys):
    asked = []
    monkeypatch.setattr(pythons, "installed_by_uv", asked.append)
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert pythons.main(["3.99"]) == 0 and asked == ["3.99"]
    assert "| 3.99 | skipped: no python3.99 on PATH" in capsys.readouterr().out


def test_a_failure_of_one_version_fails_and_the_others_are_run(monkeypatch: pytest.MonkeyPatch, capsys):
    ran = []

    def tested(python: Python, further: list[str]) -> Outcome:
        ran.append((python.version, further))
        return Outcome(python.version, 10, 1, 2 if python.version == "3.13.0" else 0, 3.4)

    monkeypatch.setattr(pythons, "find", lambda version, *_: (Python(Path("p"), f"{version}.0"), ""))
    monkeypatch.setattr(pythons, "tested", tested)
    assert pythons.main(["3.13", "3.14", "--", "-k", "lock"]) == 1
    assert ran == [("3.13.0", ["-k", "lock"]), ("3.14.0", ["-k", "lock"])]
    assert capsys.readouterr().out.endswith("| 3.13.0 | 10 | 1 | 2 | 3 |\n| 3.14.0 | 10 | 1 | 0 | 3 |\n")


def test_counts_are_those_of_the_report(tmp_path: Path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10"/></testsuites>'
    )
    assert pythons.counted(report, "3.13.0", 4.0) == Outcome("3.13.0", 4, 3, 3, 4.0)
