"""The newcomer's way: the README's first commands, as they stand, from a clone to an answer from a folder.

In an empty home, with nothing of this environment: no installed package, no compiled kernel. What pip has
downloaded before may be used again. A machine that is busy takes longer; what is judged is that no command
fails, and the processor's time.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from readme_snippets import PROJECT, README, Snippet, promises, snippets

NOTES = {
    "passport.md": "# Papers\n\nRenew a passport with form DS-82, by post, with one photograph.\n",
    "bike.txt": "The bicycle's front brake needs new pads.\n",
    "work/tickets.csv": "id,text\n1,The printer on the second floor is jammed.\n2,Coffee is out.\n",
    "work/parse.py": 'def parse(line):\n    """Split a line at its tabs."""\n    return line.split("\\t")\n',
}
CPU_SECONDS = 180  # of everything, the installation too


def first(kind: str) -> Snippet:
    return next(snippet for snippet in snippets(README) if snippet.kind == kind)


def clone(folder: Path) -> None:
    """The files that a clone of this tree would have."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("this tree is no clone")
    for name in listed.stdout.decode().split("\0"):
        if name and (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)


def environment(home: Path) -> dict[str, str]:
    """An empty home, the system's programs and the interpreter that this environment was made with."""
    real = Path.home()
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    kept |= {name: os.environ[name] for name in os.environ if name.lower().endswith("_proxy")}
    kept.setdefault("PIP_CACHE_DIR", os.environ.get("XDG_CACHE_HOME", str(real / ".cache")) + "/pip")
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(real / ".config")),  # pip's mirror
        "PATH": f"{python}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)  # of waiting for packages, where many ask for them
def test_from_a_clone_to_an_answer(
    tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    home, here = tmp_path / "home", tmp_path / "clone"
    for name, text in NOTES.items():
        (home / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "notes" / name).write_text(text)
    clone(here)
    lines = [line for line in first("sh").code.splitlines() if line.strip()]
    assert [line.split()[0] for line in lines] == ["python3", "pip", "latebolt", "latebolt"]
    stamp = f'date +%s.%N >> "{tmp_path / "times"}"'
    script = "\n".join(["set -e", stamp, *(f"{line}\n{stamp}" for line in lines)])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["bash", "-c", script], cwd=here, env=environment(home), capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times = [float(each) for each in (tmp_path / "times").read_text().split()]
    took = ", ".join(
        f"{line.split('#')[0].strip()}: {stop - start:.1f} s"
        for line, start, stop in zip(lines, times, times[1:], strict=False)
    )
    record_property("newcomer", f"{took}; {times[-1] - times[0]:.0f} s in all, {cpu:.0f} s of the processor")
    with capsys.disabled():
        said = f"{times[-1] - times[0]:.0f} s ({took}); CPU {cpu:.0f} s"
        sys.stdout.write(f"\nfrom a clone to an answer: {said}\n")
    hits = done.stdout[done.stdout.index("  1. ") :].splitlines()
    assert "notes/passport.md" in hits[0] and "passport -> passport" in done.stdout
    assert cpu < CPU_SECONDS, took

    # And the README's program, twice, for whoever goes on in the same place.
    python = first("python")
    for _ in range(2):
        done = subprocess.run(
            [here / ".venv" / "bin" / "python", "-c", python.code], cwd=here, env=environment(home),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert len(said) == len(promises(python.code)) == 2
        for line, promise in zip(said, promises(python.code), strict=True):
            assert line.startswith(promise)
    status = subprocess.run(["git", "check-ignore", "notes.index/"], cwd=PROJECT, capture_output=True)
    assert status.returncode == 0  # what was made leaves a clone as clean as it was
