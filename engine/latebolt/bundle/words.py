"""What a bundle says of itself: manifest.json, requirements.txt, README.md, install.sh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from latebolt.bundle.archive import Member
from latebolt.bundle.target import Target

MANIFEST: Final = "manifest.json"
_INSTALL: Final = Path(__file__).parent / "install.sh"


class Package(msgspec.Struct, frozen=True):
    """A wheel of a bundle. `bytes` is None where it was not fetched and nobody told."""

    name: str
    version: str
    licence: str
    wheel: str
    bytes: int | None
    sha256: str


class Model(msgspec.Struct, frozen=True):
    """The model of a bundle. `folder` is "" for one that is in latebolt's wheel."""

    name: str
    licence: str
    precision: str
    folder: str
    bytes: int


class Contents(msgspec.Struct, frozen=True):
    """All that is in a bundle, but its files one by one."""

    latebolt: str
    platform: str
    machine: str
    python: str
    requirements: list[str]
    packages: list[Package]
    model: Model

    @property
    def wheel_bytes(self) -> int:
        """Of all wheels whose size is known."""
        return sum(package.bytes or 0 for package in self.packages)

    @property
    def is_known(self) -> bool:
        """Whether every size is known."""
        return all(package.bytes is not None for package in self.packages)


def manifest(contents: Contents, members: Sequence[Member]) -> bytes:
    """manifest.json, which tells every other file of the bundle."""
    files = [{"path": each.path, "bytes": each.bytes, "sha256": each.sha256} for each in members]
    sizes = {
        "wheels": contents.wheel_bytes,
        "model": contents.model.bytes,
        "all": sum(each.bytes for each in members),
    }
    content = {"format": 1, **msgspec.to_builtins(contents), "bytes": sizes, "files": files}
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def requirements(contents: Contents) -> str:
    """requirements.txt with the digest of every wheel."""
    asked = {each.partition("[")[0]: each for each in contents.requirements}
    lines = [
        f"{asked.get(each.name, each.name)}=={each.version} --hash=sha256:{each.sha256}"
        for each in contents.packages
    ]
    return "\n".join(lines) + "\n"


def install_script(target: Target, model: Model) -> str:
    """install.sh for a Python and a model."""
    place = f"$into/{model.folder}" if model.folder else model.name
    text = _INSTALL.read_text(encoding="utf-8")
    return text.replace("@PYTHON@", target.python).replace("@MODEL@", place)


def readme(contents: Contents) -> str:
    """README.md: what this is, how it is installed, and what is in it."""
    from_folder = f"`FOLDER/{contents.model.folder}`" if contents.model.folder else f"`{contents.model.name}`"
    rows = "\n".join(
        f"| {each.name} | {each.version} | {each.licence or 'not told'} | {(each.bytes or 0) / 1e6:.1f} |"
        for each in contents.packages
    )
    return f"""# latebolt {contents.latebolt} for {contents.platform} and Python {contents.python}

Installs without a network:

```sh
sh install.sh --into FOLDER
FOLDER/bin/latebolt demo
```

`sh install.sh --help` has the rest. The model is {from_folder} ({contents.model.precision},
licence: {contents.model.licence or "not told"}). By hand, into an environment of your own:

```sh
pip install --no-deps --no-index --find-links wheels --require-hashes -r requirements.txt
```

`manifest.json` has the SHA-256 of every file; install.sh looks at them first.

| package | version | licence | MB |
| --- | --- | --- | --- |
{rows}

{len(contents.packages)} wheels of {contents.wheel_bytes / 1e6:.1f} MB, model files of \
{contents.model.bytes / 1e6:.1f} MB.
"""
