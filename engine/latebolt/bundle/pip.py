"""pip as a program: asked which wheels a target would get, and told to fetch those.

What pip says of a failure becomes one line that names the package, the target and the way out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import Request, url2pathname, urlopen

from latebolt.bundle import requirements
from latebolt.bundle.requirements import Wheel
from latebolt.bundle.target import Target
from latebolt.errors import InvalidInput, LateboltError, RuntimeUnavailable

_PIP: Final = (sys.executable, "-m", "pip")
_QUIET: Final = ("--disable-pip-version-check", "--no-input", "--no-color")
# Rounds in which requirements that pip has overlooked are added; each can bring others.
_ROUNDS: Final = 5
_NOT_FOUND: Final = re.compile(r"No matching distribution found for (.+?)(?: \(from|$)", re.MULTILINE)
_UNREACHABLE: Final = re.compile(
    r"Retrying \(Retry\(|Could not fetch URL|ConnectTimeoutError|NewConnectionError"
)
_BEGUN: Final = re.compile(r"(?:Collecting|Processing) ")
_HEAD_SECONDS: Final = 10.0


class Sources:
    """Where wheels come from, and within which bounds.

    Args:
        constraints: such as "onnxruntime==1.20.1".
        find_links: folders of wheels, or pages that link to some.
        no_index: whether nothing else is looked at; otherwise pip's own configuration says which index.
    Raises:
        RuntimeUnavailable: there is no pip.
        InvalidInput: a constraint is none.
    """

    def __init__(self, constraints: Sequence[str], find_links: Sequence[str], no_index: bool) -> None:
        from packaging.requirements import InvalidRequirement, Requirement

        for each in constraints:
            try:
                Requirement(each)
            except InvalidRequirement as error:
                raise InvalidInput(
                    "--constraint should be a package and its versions, such as "
                    f'"onnxruntime==1.20.1", got "{each}".'
                ) from error
        for each in find_links:
            if "://" not in each and not Path(each).is_dir():
                raise InvalidInput(f"--find-links {each}: there is no such folder.")
        self._constraints = tuple(constraints)
        self._options = [text for each in find_links for text in ("--find-links", each)]
        if no_index:
            self._options.append("--no-index")
        if importlib.util.find_spec("pip") is None:
            raise RuntimeUnavailable("pip is not installed. Run \"pip install 'latebolt[bundle]'\".")

    def choose(self, target: Target, roots: Sequence[str]) -> list[Wheel]:
        """The wheels that a target needs, by name.

        Args:
            roots: requirements such as "latebolt[cpu] @ file:///...".
        Raises:
            InvalidInput: there is no wheel for the target, or versions do not go together.
            LateboltError: pip fails otherwise.
        """
        asked = list(roots)
        for _ in range(_ROUNDS):
            wheels = self._resolved(target, asked)
            names, missing = requirements.needed(roots, wheels, target.markers)
            if not missing:
                return [wheels[name] for name in names]
            asked += missing
        raise LateboltError(
            f"what the wheels for {target.platform} ask for cannot be gathered; missing in the end: "
            f"{', '.join(missing)}. Pin versions with --constraint."
        )

    def _resolved(self, target: Target, asked: Sequence[str]) -> dict[str, Wheel]:
        with tempfile.TemporaryDirectory(prefix="latebolt-bundle-") as temporary, self._bounds() as bounds:
            report = Path(temporary, "report.json")
            # A folder for --target is what platforms of others are only allowed with; nothing is put there.
            place = ("--target", str(Path(temporary, "nothing")))
            options = ("--dry-run", "--ignore-installed", "--report", str(report), *place)
            _run(target, "install", *_QUIET, *options, *bounds, *self._options, *target.pip_options, *asked)
            items = json.loads(report.read_text(encoding="utf-8"))["install"]
        found = {}
        for item in items:
            came_from = item["download_info"]
            digest = came_from["archive_info"]["hashes"]["sha256"]
            wheel = requirements.wheel_of(item["metadata"], came_from["url"], digest)
            found[wheel.name] = wheel
        return found

    @contextlib.contextmanager
    def _bounds(self) -> Iterator[list[str]]:
        if not self._constraints:
            yield []
            return
        with tempfile.TemporaryDirectory(prefix="latebolt-bundle-") as temporary:
            file = Path(temporary, "constraints.txt")
            file.write_text("\n".join(self._constraints) + "\n", encoding="utf-8")
            yield ["--constraint", str(file)]

    def fetch(self, target: Target, wheels: Sequence[Wheel], folder: Path, step: Callable[[], None]) -> None:
        """Put exactly these wheels into a folder, each held to its digest.

        Args:
            step: called as each begins.
        Raises:
            LateboltError: pip fails.
        """
        pinned = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in wheels]
        with tempfile.TemporaryDirectory(prefix="latebolt-bundle-") as temporary:
            listed = Path(temporary, "pinned.txt")
            listed.write_text("\n".join(pinned) + "\n", encoding="utf-8")
            options = ("--no-deps", "--require-hashes", "--dest", str(folder), "--requirement", str(listed))
            _run(target, "download", *_QUIET, *options, *self._options, *target.pip_options, step=step)


def build_wheel(source: Path, folder: Path, isolated: bool, carried: str) -> Path:
    """The wheel of a source tree, the same bytes each time.

    Args:
        carried: platform whose compiled kernels go in, or "any"; see setup.py.

    Raises:
        LateboltError: it cannot be built.
    """
    options = () if isolated else ("--no-build-isolation",)
    command = [*_PIP, "wheel", *_QUIET, "--no-deps", *options, "--wheel-dir", str(folder), str(source)]
    given = {"SOURCE_DATE_EPOCH": str(_EPOCH), "LATEBOLT_WHEEL": carried}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **given})
    made = list(folder.glob("*.whl"))
    if done.returncode or len(made) != 1:
        raise LateboltError(
            f"latebolt's own wheel cannot be built ({_last(done.stderr)}). Build one and name it with "
            "--wheel."
        )
    return made[0]


_EPOCH: Final = 315_532_800  # the first second that a zip can say


def local_file(url: str) -> Path | None:
    """The file of a file URL; None for any other."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def file_name(wheel: Wheel) -> str:
    """What the wheel's file is called."""
    return unquote(urlsplit(wheel.url).path.rpartition("/")[2])


def size_of(wheel: Wheel) -> int | None:
    """Bytes of a wheel that is not fetched; None where its server does not say."""
    if (file := local_file(wheel.url)) is not None:
        return file.stat().st_size
    try:
        with urlopen(Request(wheel.url, method="HEAD"), timeout=_HEAD_SECONDS) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None


def _run(target: Target, *arguments: str, step: Callable[[], None] | None = None) -> None:
    command = [*_PIP, *arguments]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace", env=_environment()
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if step is not None and _BEGUN.match(line):
                    step()
        except BaseException:  # Ctrl-C, or a signal that is to end us: pip must not go on alone
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            raise _failure(errors.read(), target)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def _failure(said: str, target: Target) -> LateboltError:
    """pip's failure in one line. An index that cannot be asked comes first: pip then finds nothing, too."""
    if _UNREACHABLE.search(said):
        return LateboltError(
            f"the package index cannot be reached ({_last(said)}). Look at the network and at pip's "
            "index-url, or give a folder of wheels: --no-index --find-links FOLDER."
        )
    if found := _NOT_FOUND.search(said):
        asked = found[1].strip()
        if re.match(r"latebolt\b", asked):
            return InvalidInput(
                f"{asked}: the index has no such wheel for {target.platform}. Name a file with --wheel, or "
                "run latebolt from its source tree, which is then built."
            )
        return InvalidInput(
            f"{asked}: no wheel for {target.platform} and Python {target.python} was found. Choose a newer "
            "--platform or another --python, another version with --constraint, or add a folder that has one "
            "with --find-links."
        )
    if "ResolutionImpossible" in said:
        conflicts = " ".join(line.strip() for line in said.splitlines() if " depends on " in line)[:400]
        return InvalidInput(
            f"versions do not go together: {conflicts or _last(said)}. Change a --constraint."
        )
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in said:
        return LateboltError("a wheel has other bytes than its index told. Run it again.")
    return LateboltError(f"pip failed: {_last(said)}")


def _last(said: str) -> str:
    """The last line that tells something, without the full stop."""
    lines = [
        line.removeprefix("ERROR: ").strip()
        for line in said.splitlines()
        if "ERROR" in line or "error" in line
    ]
    return (lines or [line.strip() for line in said.splitlines() if line.strip()] or ["no reason told"])[-1][
        :300
    ].rstrip(".")
