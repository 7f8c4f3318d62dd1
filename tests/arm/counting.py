"""An emulator for the ARM machine that counts instructions: Debian 12's QEMU, which takes plugins, and one.

The newer ones are static files, which cannot load any; that one cannot run ONNX Runtime from 1.23 on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from arm.machine import MACHINE_SUITE, Packages, run

# The emulator and what it loads, but for the C library, which is the system's.
PACKAGES = (
    *("qemu-user", "libcapstone4", "liburing2", "libnuma1", "libglib2.0-0", "libgnutls30", "libpcre2-8-0"),
    *("libp11-kit0", "libidn2-0", "libunistring2", "libtasn1-6", "libnettle8", "libhogweed6", "libgmp10"),
    *("libffi8", "zlib1g"),
)
_EMULATOR = """\
#!/bin/sh
# QEMU with its libraries; see tests/arm/counting.py.
here=${0%/*}
libraries="$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu"
exec env LD_LIBRARY_PATH="$libraries" "$here/usr/bin/qemu-aarch64" "$@"
"""


def make_counter(folder: Path, source: Path) -> None:
    """`counting/qemu` and `counting/count.so` in an ARM machine's folder.

    Args:
        source: of the plugin, in C.
    Raises:
        NoMachine: this machine cannot have them.
    """
    whole = folder / "counting"
    stamp = whole / ".ready"
    wanted = hashlib.sha256(source.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        draft = Path(scratch) / "counting"
        draft.mkdir()
        packages = Packages(Path(scratch), ((MACHINE_SUITE, "amd64"),))
        for package in packages.fetch(*(f"{name}:amd64" for name in PACKAGES)):
            run(["dpkg-deb", "-x", package, draft])
        script = draft / "qemu"
        script.write_text(_EMULATOR)
        script.chmod(0o755)
        compiler = [
            "python3",
            "-m",
            "ziglang",
            "cc",
            "-target",
            "x86_64-linux-gnu",
            "-O2",
            "-shared",
            "-fPIC",
        ]
        tools = {
            "PYTHONPATH": str(folder / "tools"),
            "ZIG_GLOBAL_CACHE_DIR": scratch,
            "ZIG_LOCAL_CACHE_DIR": scratch,
        }
        run([*compiler, source, "-o", draft / "count.so"], environment={**os.environ, **tools})
        (draft / ".ready").write_text(wanted)
        if whole.exists():
            shutil.rmtree(whole)
        draft.rename(whole)
