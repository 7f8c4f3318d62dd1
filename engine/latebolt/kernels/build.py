"""`python -m latebolt.kernels.build`: makes libraries of compiled kernels, for this platform or another.

Wants numba, llvmlite and a linker (`pip install 'latebolt[jit,build]'`); who runs the library wants none.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from latebolt.cpus import available_cpus
from latebolt.drafts import file_for, refused
from latebolt.errors import LateboltError
from latebolt.kernels import targets
from latebolt.kernels.ahead import link, loaded, manifest, objects
from latebolt.kernels.ahead.manifest import Manifest
from latebolt.kernels.targets import Architecture
from latebolt.progress import progress_bar

PLATFORMS: Final[dict[str, Architecture]] = {"linux-x86_64": "x86_64", "linux-aarch64": "aarch64"}
# Widths of the heads that models have, from 32 for a small index to 1024 for a whole encoder's.
DIMS: Final = (32, 48, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024)

_EPILOG: Final = f"""\
examples:
  python -m latebolt.kernels.build
      the library of this platform, into the package: the next process uses it
  python -m latebolt.kernels.build --platform both --jobs 8
      what wheels carry, for x86-64 and for ARM alike, whichever this machine is
  python -m latebolt.kernels.build --dims 100 200 --out kernels
      a library for vectors of other widths; LATEBOLT_KERNELS=kernels/PLATFORM uses it

Without --dims a library has the widths {", ".join(map(str, DIMS))}.
A kernel that a library lacks is compiled where it is asked for, if numba is installed there.
Exit codes: 0 made, 1 it could not be made (a line says why), 2 wrong arguments.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m latebolt.kernels.build",
        description="Compile the kernels of a platform ahead of time, into one library that latebolt loads "
        "without numba and llvmlite.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = manifest.this_platform()
    parser.add_argument(
        "--platform",
        nargs="+",
        choices=(*PLATFORMS, "both"),
        default=[here],
        metavar="PLATFORM",
        help=f"{', '.join(PLATFORMS)} or both; this machine's by default ({here})",
    )
    parser.add_argument(
        "--out", type=Path, default=loaded.PLACE, help="folder that gets a folder a platform (the package)"
    )
    parser.add_argument(
        "--jobs", type=int, default=available_cpus(), help="processes that compile (%(default)s)"
    )
    parser.add_argument("--dims", nargs="+", type=int, default=DIMS, metavar="DIM", help="widths of vectors")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    given = parser.parse_args(arguments)
    unknown = [dim for dim in given.dims if dim < 8 or dim % 8]
    if unknown:
        parser.error(f"--dims should be multiples of 8, got {', '.join(map(str, unknown))}")
    if given.jobs < 1:
        parser.error(f"--jobs should be at least 1, got {given.jobs}")
    chosen = list(PLATFORMS) if "both" in given.platform else list(dict.fromkeys(given.platform))
    if any(name not in PLATFORMS for name in chosen):
        parser.error(f"there are no libraries for {here}; name a --platform: {', '.join(PLATFORMS)}")
    made = []
    try:
        for name in chosen:
            dims = sorted(set(given.dims))
            made.append(build(name, given.out, dims, given.jobs, not given.quiet and sys.stderr.isatty()))
    except LateboltError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(made)).decode() + "\n")
    return 0


def build(
    platform: str, out: Path, dims: Sequence[int], jobs: int, show_progress: bool = False
) -> dict[str, Any]:
    """Make the library of a platform.

    Args:
        platform: one of `PLATFORMS`; out: gets a folder of that name, whose files are replaced.
        dims: widths of vectors, multiples of 8.
    Returns:
        What the command prints of it: where it is, kernels, bytes, seconds.
    Raises:
        RuntimeUnavailable: numba, llvmlite or a linker is not installed; LateboltError: a folder cannot be
        written, the linker refuses, or the kernels' sources were changed meanwhile.
    """
    start, cpu = time.perf_counter(), sum(os.times()[:4])
    architecture, place = PLATFORMS[platform], out / platform
    # What would hinder it in the end is told before minutes of compiling.
    link.linker(architecture)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(error, place) from error
    kernels, sources = objects.wanted(architecture, dims), manifest.sources_digest()
    with tempfile.TemporaryDirectory(prefix="latebolt-kernels-") as scratch:
        with progress_bar(len(kernels), platform, "kernel", show_progress) as bar:
            for some in objects.compile_all(kernels, architecture, Path(scratch), jobs):
                bar.step(some)
        if manifest.sources_digest() != sources:
            raise LateboltError(f"{platform}: the kernels' sources were changed meanwhile. Run it again.")
        about = put_together(Path(scratch), platform, place, dims, len(kernels))
    return {
        "platform": platform,
        "library": str(place / manifest.LIBRARY),
        "kernels": about.kernels,
        "bytes": about.size,
        "dims": list(dims),
        "instruction_sets": list(about.instruction_sets),
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(sum(os.times()[:4]) - cpu, 1),
    }


def put_together(folder: Path, platform: str, place: Path, dims: Sequence[int], kernels: int) -> Manifest:
    """A library of the object files in a folder, which is ours to write in, and its manifest.

    Args:
        place: gets both; dims and kernels: what the manifest says of it.
    Raises:
        RuntimeUnavailable: there is no linker; LateboltError: it refuses, or `place` cannot be written.
    """
    architecture = PLATFORMS[platform]
    library = folder / manifest.LIBRARY
    link.link(folder.glob("*.o"), architecture, library)
    code = library.read_bytes()
    about = Manifest(
        version=manifest.VERSION,
        platform=platform,
        sources=manifest.sources_digest(),
        library=manifest.digest(code),
        size=len(code),
        dims=tuple(dims),
        instruction_sets=targets.INSTRUCTION_SETS[architecture],
        kernels=kernels,
        made_with={
            **{name: metadata.version(name) for name in ("numba", "llvmlite")},
            "linker": link.version(architecture),
        },
    )
    _write(place / manifest.LIBRARY, code)
    # Last: of an old library and a new manifest, or the reverse, none is loaded.
    _write(place / manifest.MANIFEST, msgspec.json.format(msgspec.json.encode(about)) + b"\n")
    return about


def _write(path: Path, content: bytes) -> None:
    with file_for(path) as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main())
