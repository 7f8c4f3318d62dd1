"""A bundle for ARM, made here, installed on the emulated machine by its own install.sh, and searched there.

    python tests/arm/bundle.py --folder .arm --python .venv/bin/python

Part of `make test-arm`. The last line has the sizes of what was in it. Without a package index it is skipped,
with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from arm.machine import PROJECT, NoMachine, make

PLATFORM, VERSION = "manylinux_2_28_aarch64", "3.11"
BUILT_OF = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "engine", "export")
# The ARM Python without what is installed on its machine, and with pip, which is Python alone, of this one.
PYTHON = """\
#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then export PYTHONPATH="{pip}"; fi
exec "{arm}" -S "$@"
"""
SEARCH = """
import json, sys
import latebolt, numpy, onnxruntime, tokenizers
for module in (latebolt, numpy, onnxruntime, tokenizers):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
index = latebolt.Index.create(sys.argv[2], latebolt.Encoder.load("starter"))
texts = {"cat": "a cat sleeps on the sofa", "bread": "fresh bread from the oven", "rain": "rain in May"}
index.add(list(texts.values()), ids=list(texts))
found = {query: index.search(query, k=1)[0].id for query in ("kitten", "baker", "weather")}
print(json.dumps({"found": found, "compiled here": "numba" in sys.modules}))
"""


class Skipped(Exception):
    """Why it cannot be tried here."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".arm"), help="where the machine is or will be")
    parser.add_argument("--python", type=Path, default=Path(".venv/bin/python"), help="this machine's own")
    given = parser.parse_args(arguments)
    folder, native = given.folder.resolve(), given.python.absolute()
    try:
        make(folder)
        with tempfile.TemporaryDirectory(prefix="latebolt-arm-bundle-") as scratch:
            sys.stdout.write(f"bundle on ARM: {tried(folder, native, Path(scratch))}\n")
    except (NoMachine, Skipped) as reason:
        sys.stdout.write(f"bundle on ARM: skipped, {reason}\n")
    return 0


def tried(folder: Path, native: Path, scratch: Path) -> str:
    """Make, unpack, install and search; gives the sizes, or raises."""
    tar = scratch / "edge.tar"
    own = ["--wheel", str(wheel(folder, native, scratch))]
    command = [native, "-m", "latebolt", "bundle", tar, "--platform", PLATFORM, "--python", VERSION, "--json"]
    done = subprocess.run([*command, *own], capture_output=True, text=True)
    if "the package index cannot be reached" in done.stderr:
        raise Skipped("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with tarfile.open(tar) as packed:
        packed.extractall(scratch / "device", filter="data")
    [root] = (scratch / "device").iterdir()

    ask = "import pip, pathlib; print(pathlib.Path(pip.__file__).parents[1])"
    pip = subprocess.run([native, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    only_pip, python, site = scratch / "pip", scratch / "python", scratch / "site"
    shutil.copytree(Path(pip) / "pip", only_pip / "pip")
    python.write_text(PYTHON.format(pip=only_pip, arm=folder / "python"))
    python.chmod(0o755)
    install = ["sh", root / "install.sh", "--no-venv", "--python", python, "--into", scratch / "into"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "LATEBOLT_"))
    }
    installing = {**environment, "PIP_TARGET": str(site), "PIP_NO_COMPILE": "1"}
    done = subprocess.run(install, capture_output=True, text=True, env=installing)
    assert done.returncode == 0, done.stderr
    searching = {**environment, "PYTHONPATH": str(site), "LATEBOLT_CACHE": str(scratch / "cache")}
    search = [folder / "python", "-S", "-c", SEARCH, site, scratch / "index"]
    done = subprocess.run(search, capture_output=True, text=True, env=searching)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["found"] == {"kitten": "cat", "baker": "bread", "weather": "rain"}, answer
    installed = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    sizes = sorted(((each["bytes"], each["name"]) for each in told["packages"]), reverse=True)
    lines = [f"{name} {n / 1e6:.1f} MB" for n, name in sizes if n >= 1e6]
    small = [n for n, _ in sizes if n < 1e6]
    return (
        f"installed and searched; {len(sizes)} wheels: {', '.join(lines)}, "
        f"{len(small)} others {sum(small) / 1e6:.1f} MB; "
        f"tar {told['bytes']['tar'] / 1e6:.1f} MB, installed {installed / 1e6:.1f} MB; "
        f"kernels {'compiled there' if answer['compiled here'] else 'from the wheel'}"
    )


def wheel(folder: Path, native: Path, scratch: Path) -> Path:
    """latebolt's wheel with the kernels that `make test-arm` has compiled for the emulated machine."""
    source, dist = scratch / "source", scratch / "dist"
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "built")
    source.mkdir()
    dist.mkdir()
    for name in BUILT_OF:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copyfile
        copy(PROJECT / name, source / name, **({"ignore": leave} if copy is shutil.copytree else {}))
    built = folder / "kernels/linux-aarch64"
    shutil.copytree(built, source / "engine/latebolt/kernels/ahead/built/linux-aarch64")
    code = (
        "import sys; from pathlib import Path; from latebolt.bundle import pip;"
        "source, dist = map(Path, sys.argv[1:]);"
        "print(pip.build_wheel(source, dist, isolated=False, carried='linux-aarch64'))"
    )
    done = subprocess.run([native, "-c", code, source, dist], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


if __name__ == "__main__":
    sys.exit(main())
