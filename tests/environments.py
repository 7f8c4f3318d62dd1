"""Makes an environment and installs into it, by uv: seconds, where pip takes minutes.

    python tests/environments.py .venv -e '.[cpu]'
    python tests/environments.py --python python3.13 .venv-3.13 -e '.[cpu]'    # of another interpreter

uv does not read pip's configuration, and a company's mirror, a folder of wheels or a cap on versions may
stand only there: what it says is handed over. Where it says what uv is not told here, or uv is not to be had
or fails, pip installs, and a line says so.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

UV = Path(".venv-uv")
UV_VERSION = "uv>=0.9,<1"
PIP = ("-m", "pip")
QUIET = ("--quiet", "--disable-pip-version-check")

# pip takes the best of all indexes, and releases before the final one only where they are asked for, or where
# there are no others, as of what ray[serve] brings.
AS_PIP = ("--index-strategy", "unsafe-best-match", "--prerelease", "if-necessary-or-explicit")
# Second names of the files in uv's cache, where that is on the same disk: an environment has a gigabyte or
# two, and copying took longer than all the rest. What nltk reads gets copies: it refuses such files.
LINKED = ("--link-mode", "hardlink")
OWN_FILES = ("nltk", "llama_index/core/_static/nltk_cache")

# pip's setting -> uv's option, once for each of its words.
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}
# pip's setting -> the variable in which uv looks for it.
VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
# How pip talks and where it keeps things: nothing that decides what is installed.
OF_NO_MATTER = {
    *("cache-dir", "no-cache-dir", "prefer-binary", "no-compile", "no-input", "require-virtualenv"),
    *("log", "no-color", "progress-bar", "quiet", "verbose", "root-user-action"),
    *("disable-pip-version-check", "no-python-version-warning", "no-warn-script-location"),
}


class Settings(NamedTuple):
    """What pip's configuration is for uv."""

    options: list[str]
    variables: dict[str, str]
    unknown: list[str]


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` has for an installation: variables before `install`, that before `global`."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, setting = name.rpartition(".")
        if section in found:
            found[section][setting.replace("_", "-")] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]


def for_uv(settings: Mapping[str, str]) -> Settings:
    """The same settings in uv's words; `unknown` are those that it has none for."""
    options = [
        text
        for name, option in OPTIONS.items()
        for word in settings.get(name, "").split()
        for text in (option, word)
    ]
    if settings.get("no-index", "no").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    variables = {VARIABLES[name]: value for name, value in settings.items() if name in VARIABLES}
    known = {*OPTIONS, *VARIABLES, *OF_NO_MATTER, "no-index"}
    return Settings(options, variables, sorted(settings.keys() - known))


def install(folder: Path, arguments: Sequence[str], python: str = sys.executable) -> None:
    """Installs into the environment at a folder, which is made with `python` if there is none."""
    try:
        _with_uv(folder, arguments, python)
    except (OSError, ValueError, subprocess.CalledProcessError) as problem:
        sys.stderr.write(f"{folder}: pip installs, which takes longer: {problem}\n")
        _run(python, "-m", "venv", folder)
        _run(folder / "bin/python", *PIP, "install", *QUIET, *arguments)


def install_elsewhere(folder: Path, machine: str, python: str, arguments: Sequence[str]) -> None:
    """Puts wheels of another machine into a folder; by uv alone, which resolves for that machine.

    Args:
        machine: uv's name of it, such as "aarch64-manylinux_2_36"; python: its version.
    Raises:
        OSError, ValueError, subprocess.CalledProcessError: uv is not to be had, is not told all that pip's
            configuration says, or finds no wheel of something.
    """
    uv, settings = _uv()
    there = (
        "--target",
        folder,
        "--python-platform",
        machine,
        "--python-version",
        python,
        "--only-binary",
        ":all:",
    )
    _install_by(uv, settings, [*there, *arguments])


def _with_uv(folder: Path, arguments: Sequence[str], python: str) -> None:
    uv, settings = _uv()
    if not (folder / "bin/python").exists():
        environment = {**settings.variables, **os.environ}
        _run(uv, "venv", "--quiet", "--python", python, folder, environment=environment)
    # pip itself is for who installs more by hand.
    _install_by(uv, settings, ["--python", folder / "bin/python", "pip", *arguments])
    for name in OWN_FILES:
        for file in folder.glob(f"lib/python3*/site-packages/{name}/**/*"):
            _own(file)


def _own(file: Path) -> None:
    """Make a file that has names elsewhere one of its own."""
    if file.is_file() and not file.is_symlink() and file.stat().st_nlink > 1:
        copy = file.with_name(f".{file.name}.own")
        shutil.copy2(file, copy)
        copy.replace(file)


def _uv() -> tuple[Path, Settings]:
    """uv, fetched if it is not there, and what pip's configuration is for it."""
    uv = UV / "bin/uv"
    if not uv.exists():
        _run(sys.executable, "-m", "venv", UV)
        _run(UV / "bin/python", *PIP, "install", *QUIET, UV_VERSION)
    listed = subprocess.run([UV / "bin/python", *PIP, "config", "list"], capture_output=True, text=True)
    settings = for_uv(pip_settings(listed.stdout))
    if settings.unknown:
        raise ValueError(f"pip's configuration has {', '.join(settings.unknown)}")
    return uv, settings


def _install_by(uv: Path, settings: Settings, arguments: Sequence[str | Path]) -> None:
    command = (uv, "pip", "install", "--quiet", *AS_PIP, *LINKED, *settings.options, *arguments)
    _run(*command, environment={**settings.variables, **os.environ})


def _run(*command: str | Path, environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    given = sys.argv[1:]
    chosen = {"python": given[1]} if given[0] == "--python" else {}
    folder, *arguments = given[2:] if chosen else given
    install(Path(folder), arguments, **chosen)
