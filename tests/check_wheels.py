"""Looks into the wheels of a folder before they are released: what they carry, require, weigh and are called.

    python tests/check_wheels.py dist

Run by `make wheels`, in an environment that has the package. Ends with 1, and says what is wrong with each.
"""

from __future__ import annotations

import email
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

from latebolt.kernels import build, names, targets
from latebolt.kernels.ahead import manifest

LIBRARY = re.compile(r"latebolt/kernels/ahead/built/([^/]+)/kernels\.so")
COMPILERS = {"numba", "llvmlite"}
MOST_LIBRARY_BYTES = 8_000_000
MOST_WHEEL_BYTES = 95_000_000  # the two models are most of it


def wrong_with(path: Path) -> list[str]:
    """What is wrong with a wheel."""
    wrong = []
    with zipfile.ZipFile(path) as archive:
        inside = archive.namelist()
        [described] = [name for name in inside if name.endswith(".dist-info/METADATA")]
        required = {
            re.split(r"[^\w-]", line)[0]
            for line in email.message_from_bytes(archive.read(described)).get_all("Requires-Dist", [])
            if "extra ==" not in line
        }
        carried = [found[1] for name in inside if (found := LIBRARY.fullmatch(name))]
        tag = path.stem.rpartition("-")[2]
        meant = [name for name in build.PLATFORMS if name.removeprefix("linux-") in tag]
        if carried != meant:
            wrong.append(f"carries the libraries {carried}, is called {tag}")
        for name in carried:
            wrong += wrong_with_library(archive, name)
    if bool(carried) == bool(required & COMPILERS):
        wrong.append(f"carries {carried or 'no library'} and requires {sorted(required)}")
    if path.stat().st_size > MOST_WHEEL_BYTES:
        wrong.append(f"has {path.stat().st_size:,} bytes, more than {MOST_WHEEL_BYTES:,}")
    return wrong


def wrong_with_library(archive: zipfile.ZipFile, name: str) -> list[str]:
    """What is wrong with the library of a platform in a wheel."""
    folder = f"latebolt/kernels/ahead/built/{name}/"
    about = json.loads(archive.read(folder + manifest.MANIFEST))
    code = archive.read(folder + manifest.LIBRARY)
    architecture = build.PLATFORMS[name]
    count = sum(len(names.compiled_for(build.DIMS, isa)) for isa in targets.INSTRUCTION_SETS[architecture])
    checks = {
        f"is for {about['platform']}": about["platform"] == name,
        "was made from other sources": about["sources"] == manifest.sources_digest(),
        "is damaged": about["library"] == manifest.digest(code),
        f"has {about['kernels']} kernels, not {count}": about["kernels"] == count,
        f"has {len(code):,} bytes, more than {MOST_LIBRARY_BYTES:,}": len(code) <= MOST_LIBRARY_BYTES,
    }
    return [f"{name}: {says}" for says, good in checks.items() if not good]


def main(folder: Path) -> int:
    """Print each wheel with what is wrong; gives the exit code."""
    wheels = sorted(folder.glob("*.whl"))
    bad = len(wheels) != len(build.PLATFORMS) + 1
    if bad:
        sys.stdout.write(f"{folder} has {len(wheels)} wheels, not one a platform and one for all\n")
    for path in wheels:
        wrong = wrong_with(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {digest}: {wrong or 'good'}\n")
        bad = bad or bool(wrong)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
