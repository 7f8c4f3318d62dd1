"""An ARM machine on an x86 one: a 64-bit ARM Python with its wheels, run by QEMU's user-mode emulation.

    python tests/arm/machine.py .arm
    .arm/python -c 'import platform; print(platform.machine())'

Debian's packages, which apt checks against the signed list of them, are unpacked into a folder; nothing is
installed, no root is needed and no kernel setting. `.arm/python` is a script of the host: what the ARM Python
starts as `sys.executable` is emulated again. It takes its CPU from LATEBOLT_ARM_CPU (cortex-a76).

Which emulator: QEMU 10 and 11 run ONNX Runtime 1.20 to 1.32; 7.2, which Debian 12 has, ends by SIGSEGV where
1.23 and later are imported, on each `-cpu`. Debian 13's is one static file, which any x86-64 Linux runs.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).parents[2]
if __name__ == "__main__":  # in the tests it is there
    sys.path.insert(0, str(PROJECT / "tests"))

import environments  # noqa: E402

MIRROR = "http://deb.debian.org/debian"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
EMULATOR_SUITE, MACHINE_SUITE = "trixie", "bookworm"
EMULATOR = "usr/bin/qemu-aarch64"
PYTHON_VERSION = "3.11"
# Python and what it and the wheels load; no dependency is resolved, so that nothing else comes along.
PACKAGES = (
    *(
        "libc6",
        "libgcc-s1",
        "libstdc++6",
        "libgomp1",
        "libcrypt1",
        "libexpat1",
        "zlib1g",
        "libssl3",
        "libffi8",
    ),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libsqlite3-0", "libbz2-1.0"),
    *(
        "liblzma5",
        "libuuid1",
        "libncursesw6",
        "libtinfo6",
        "libreadline8",
        "libdb5.3",
        "libnsl2",
        "libtirpc3",
    ),
)
ANY_MACHINE = ("media-types",)
# Where Debian's Python looks for what was installed beside the system's own.
SITE = Path("root/usr/local/lib/python3.11/dist-packages")
WHEELS = ("aarch64-manylinux_2_36", PYTHON_VERSION)
EXTRAS = ("cpu", "serve", "jit")
TESTS_WANT = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100", "httpx>=0.27")
# What this machine compiles for that one with: a linker and a C compiler in a wheel.
TOOLS = ("x86_64-manylinux_2_28", PYTHON_VERSION)
TOOLS_WANT = ("ziglang>=0.14",)
STAMP = ".ready"

_PYTHON = """\
#!/bin/sh
# A 64-bit ARM Python; see tests/arm/machine.py.
here=${0%/*}
export LATEBOLT_ARM_PYTHON="$0"
exec "$here/qemu-aarch64" -cpu "${LATEBOLT_ARM_CPU:-cortex-a76}" -L "$here/root" \\
    "$here/root/usr/bin/python3.11" "$@"
"""
# Read at each start of the ARM Python: what it starts as itself has to go through the emulator, and this
# clone's code is what is tested. Debian has a sitecustomize of its own, so none of ours would be found.
_PATHS = """\
{engine}
import os, sys; sys.executable = sys._base_executable = os.environ["LATEBOLT_ARM_PYTHON"]
"""


class NoMachine(Exception):
    """Why there cannot be one here, in one sentence."""


def make(folder: Path) -> None:
    """The machine at a folder, made if it is not there or was made from something else than it would be now.

    Raises:
        NoMachine: this machine cannot have one.
    """
    wanted = _fingerprint()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    _check_host()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Only a whole one gets the name, so an interrupted one is never taken for it.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-draft-") as scratch:
        draft = Path(scratch) / "machine"
        draft.mkdir()
        _unpack(draft)
        _install(draft)
        (draft / SITE / "latebolt.pth").write_text(_PATHS.format(engine=PROJECT / "engine"))
        script = draft / "python"
        script.write_text(_PYTHON)
        script.chmod(0o755)
        said = run(
            [script.resolve(), "-c", "import platform, sys; print(platform.machine(), sys.executable)"]
        )
        if said.split() != ["aarch64", str(script.resolve())]:
            raise NoMachine(f"the emulated Python says of itself {said!r}")
        (draft / STAMP).write_text(wanted)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)


def _fingerprint() -> str:
    """Of all that decides what is in the folder."""
    digest = hashlib.sha256("\n".join(_requirements()).encode())
    for path in (Path(__file__), Path(environments.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _check_host() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NoMachine(f"the emulator is Debian's for x86-64 Linux, and this is {platform.platform()}")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NoMachine(f"{tool} is not here, which fetches and unpacks Debian's packages")
    if not KEYS.is_file():
        raise NoMachine(f'{KEYS} is not here, which checks them: "apt-get install debian-archive-keyring"')


class Packages:
    """Debian's packages of two suites, fetched by apt with lists of its own in a folder.

    Args:
        folder: an empty one. suites: (suite, architecture).
    """

    def __init__(self, folder: Path, suites: Iterable[tuple[str, str]]) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "none"):
            (folder / name).mkdir(parents=True)
        suites = list(suites)
        (folder / "sources.list").write_text(
            "".join(f"deb [arch={arch} signed-by={KEYS}] {MIRROR} {suite} main\n" for suite, arch in suites)
        )
        options = {
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": folder / "none",
            "Dir::Etc::PreferencesParts": folder / "none",
            "Acquire::Languages": "none",
            "Acquire::Retries": 3,
            "APT::Sandbox::User": "root",
        }
        architectures = [f"-oAPT::Architectures::={arch}" for _, arch in suites]
        self._apt = [
            "apt-get",
            "-qq",
            *(f"-o{name}={value}" for name, value in options.items()),
            *architectures,
        ]
        self._call("update")

    def fetch(self, *names: str) -> list[Path]:
        """The packages' files, whose sizes and sums apt has checked; names are apt's, `name:architecture`."""
        into = Path(tempfile.mkdtemp(dir=self._folder))
        self._call("download", *names, cwd=into)
        found = sorted(into.glob("*.deb"))
        if len(found) != len(names):
            raise NoMachine(f"apt fetched {len(found)} packages where {len(names)} were asked for")
        return found

    def _call(self, *arguments: str, cwd: Path | None = None) -> None:
        run([*self._apt, *arguments], cwd)


def _unpack(draft: Path) -> None:
    with tempfile.TemporaryDirectory(dir=draft.parent) as scratch:
        packages = Packages(Path(scratch), ((EMULATOR_SUITE, "amd64"), (MACHINE_SUITE, "arm64")))
        for package in packages.fetch(*(f"{name}:arm64" for name in PACKAGES), *ANY_MACHINE):
            run(["dpkg-deb", "-x", package, draft / "root"])
        [package] = packages.fetch("qemu-user:amd64")
        # Of two dozen emulators, half a gigabyte, one is wanted.
        listed = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        run(["tar", "-x", "-C", draft, "--strip-components=3", f"./{EMULATOR}"], stdin=listed.stdout)
        listed.wait()


def _requirements() -> list[str]:
    """What pyproject.toml says that the engine, some of its extras and its tests need."""
    about = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    extras = about["project"]["optional-dependencies"]
    always = about["project"].get("dependencies") or about["tool"]["latebolt"]["requires"]
    return [*always, *(each for name in EXTRAS for each in extras.get(name, ())), *TESTS_WANT]


def _install(draft: Path) -> None:
    try:
        environments.install_elsewhere(draft / SITE, *WHEELS, _requirements())
        environments.install_elsewhere(draft / "tools", *TOOLS, TOOLS_WANT)
    except (OSError, ValueError, subprocess.CalledProcessError) as problem:
        raise NoMachine(f"the wheels could not be installed: {problem}") from problem


def run(
    command: Sequence[str | Path],
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command prints.

    Raises:
        NoMachine: it fails; its last line says why.
    """
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, stdin=stdin, env=environment)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise NoMachine(f"{command[0]} ended with {done.returncode}: {last}")
    return done.stdout


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1]).resolve())
    except NoMachine as reason:
        sys.exit(f"no ARM machine: {reason}")
