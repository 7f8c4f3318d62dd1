"""A bundle for this machine, made of what the package index has, installed without a network and searched.

    .venv/bin/python tests/bundle_here.py          # make test-bundle

What installs and searches sees no network (`unshare --net`), or has addresses that lead nowhere
where the system allows no such place. Skipped, with the reason, without a package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ALONE = ("unshare", "--map-root-user", "--net", "--")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="latebolt-bundle-here-") as scratch:
        sys.stdout.write(f"bundle: {tried(Path(scratch))}\n")
    return 0


def tried(scratch: Path) -> str:
    """Make, unpack, install and search; what was done, in a line."""
    tar, into = scratch / "here.tar", scratch / "device"
    command = [sys.executable, "-m", "latebolt", "bundle", tar, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "the package index cannot be reached" in done.stderr:
        return "skipped, the package index cannot be reached"
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with tarfile.open(tar) as packed:
        packed.extractall(scratch / "unpacked", filter="data")
    [root] = (scratch / "unpacked").iterdir()
    alone = ALONE if subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0 else ()
    ran([*alone, "sh", root / "install.sh", "--into", into, "--python", sys.executable])
    notes = scratch / "notes"
    notes.mkdir()
    for name, text in (("cat", "A cat sleeps on the sofa."), ("bread", "Fresh bread from the oven.")):
        (notes / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    latebolt, index = into / "bin/latebolt", scratch / "notes.index"
    ran([*alone, latebolt, "index", index, notes])
    found = json.loads(ran([*alone, latebolt, "search", index, "baker", "--json"]))
    hits = found["hits"] if isinstance(found, dict) else found
    assert "Fresh bread" in hits[0]["text"], found
    size, how = (
        told["bytes"]["tar"] / 1e6,
        "without a network" if alone else "with addresses that lead nowhere",
    )
    return f"{len(told['packages'])} wheels, {size:.1f} MB; installed and searched {how}"


def ran(command: Sequence[str | Path]) -> str:
    """What a program prints that has nothing of this environment."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    nowhere = "http://127.0.0.1:9"
    environment = {**kept, "PIP_INDEX_URL": nowhere, "http_proxy": nowhere, "https_proxy": nowhere}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
