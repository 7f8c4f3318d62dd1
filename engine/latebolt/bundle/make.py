"""Makes a bundle: chooses wheels and model files, fetches them into a draft, writes the tar beside its name.

Until the tar is whole there is nothing at its name; whatever ends this before, only what was there stays.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from latebolt import drafts
from latebolt.bundle import archive, model_files, own_wheel, pip, requirements, words
from latebolt.bundle.model_files import ModelFiles
from latebolt.bundle.own_wheel import OwnWheel
from latebolt.bundle.requirements import Wheel
from latebolt.bundle.target import Target
from latebolt.bundle.wheel_file import metadata_of
from latebolt.bundle.words import Contents, Model, Package
from latebolt.errors import InvalidInput, LateboltError
from latebolt.progress import progress_bar

_BUNDLE: Final = "latebolt-bundle-"


class Wanted(NamedTuple):
    """What a bundle is to hold.

    Args:
        extras: beside "cpu".
        precision: None is the model's fastest on a CPU.
        wheel: a file, None for the one of this installation.
    """

    target: Target
    model: str
    precision: str | None
    extras: tuple[str, ...]
    wheel: str | None
    constraints: tuple[str, ...]
    find_links: tuple[str, ...]
    no_index: bool


def plan(wanted: Wanted, say: Callable[[str], None]) -> Contents:
    """What would be in it, with the sizes that are told; nothing is kept.

    Raises:
        See `make`.
    """
    with drafts.signals_raise(), tempfile.TemporaryDirectory(prefix=_BUNDLE) as temporary:
        chosen = _choose(wanted, Path(temporary), say)
        return chosen.contents([pip.size_of(wheel) for wheel in chosen.wheels])


def make(out: Path, wanted: Wanted, say: Callable[[str], None], show: bool) -> Contents:
    """Write a bundle.

    Args:
        out: the tar; one that is there is replaced.
        say: told each step.
        show: draw progress bars.
    Raises:
        InvalidInput: there is no wheel for the target, or it is asked for what no bundle can hold.
        ModelError: there is no such model or precision.
        RuntimeUnavailable: there is no pip.
        StorageFull: no space is left.
        LateboltError: the index cannot be asked, or the tar not be written.
    """
    if out.is_dir():
        raise InvalidInput(f"{out}: is a folder. Name the tar to write.")
    if not out.parent.is_dir():
        raise InvalidInput(f"{out}: there is no folder {out.parent} to write it to. Make it first.")
    with drafts.signals_raise(), tempfile.TemporaryDirectory(prefix=_BUNDLE) as temporary:
        chosen = _choose(wanted, Path(temporary, "own"), say)
        folder = Path(temporary, "bundle")
        try:
            contents = _filled(chosen, folder, say, show)
        except OSError as error:
            raise drafts.refused(error, out) from error
        members = archive.members_of(folder)
        (folder / words.MANIFEST).write_bytes(words.manifest(contents, members))
        members = archive.members_of(folder)
        total = sum(each.bytes for each in members)
        with drafts.file_for(out) as file, progress_bar(total, "write", "B", show) as bar:
            archive.write(file, root_of(contents), folder, members, bar.step)
    return contents


def root_of(contents: Contents) -> str:
    """The folder that a bundle's tar unpacks to."""
    return f"latebolt-{contents.latebolt}-{contents.platform}-python{contents.python}"


class _Chosen(NamedTuple):
    wanted: Wanted
    sources: pip.Sources
    own: OwnWheel
    wheels: list[Wheel]
    model: ModelFiles

    def contents(self, sizes: Sequence[int | None]) -> Contents:
        """In words; sizes are those of the wheels, in their order."""
        target, model = self.wanted.target, self.model
        packages = [
            Package(wheel.name, wheel.version, wheel.licence, pip.file_name(wheel), size, wheel.sha256)
            for wheel, size in zip(self.wheels, sizes, strict=True)
        ]
        named = f"latebolt[{','.join(sorted({'cpu', *self.wanted.extras}))}]"
        place = f"models/{model.name}" if model.folder else ""
        about = Model(model.name, model.licence, model.precision, place, model.bytes)
        version, here = self.own.version, target.machine
        return Contents(version, target.platform, here, target.python, [named], packages, about)


def _choose(wanted: Wanted, folder: Path, say: Callable[[str], None]) -> _Chosen:
    sources = pip.Sources(wanted.constraints, wanted.find_links, wanted.no_index)
    model = model_files.choose(wanted.model, wanted.precision, wanted.target.machine)
    folder.mkdir(exist_ok=True)
    own = own_wheel.find(wanted.wheel, wanted.target, folder)
    own.check_extras(wanted.extras)
    target = wanted.target
    say(f"asking which wheels {target.platform} and Python {target.python} need")
    wheels = sources.choose(target, [own.requirement(wanted.extras)])
    if unwanted := requirements.unwanted(wheel.name for wheel in wheels):
        raise LateboltError(
            f"{', '.join(unwanted)} would be in it, which no device needs: leave out --extras."
        )
    return _Chosen(wanted, sources, own, wheels, model)


def _filled(chosen: _Chosen, folder: Path, say: Callable[[str], None], show: bool) -> Contents:
    """Put everything but the manifest into a new folder."""
    target = chosen.wanted.target
    place = folder / "wheels"
    place.mkdir(parents=True)
    others = [wheel for wheel in chosen.wheels if wheel.name != "latebolt" or chosen.own.file is None]
    if chosen.own.file is not None:
        shutil.copyfile(chosen.own.file, place / chosen.own.file.name)
    say(f"fetching {len(others)} wheels")
    with progress_bar(len(others), "fetch", "wheel", show) as bar:
        chosen.sources.fetch(target, others, place, lambda: bar.step(1))
    sizes, wheels = [], []
    for wheel in chosen.wheels:
        file = place / pip.file_name(wheel)
        if not file.is_file() or archive.digest_of(file) != wheel.sha256:
            raise LateboltError(
                f"{file.name}: is missing, or has other bytes than its index told. Run it again."
            )
        sizes.append(file.stat().st_size)
        wheels.append(wheel._replace(licence=requirements.licence_of(metadata_of(file))))  # pip tells less
    contents = chosen._replace(wheels=wheels).contents(sizes)
    if chosen.model.folder is not None:
        model_files.copy(chosen.model, folder / contents.model.folder)
        copied = archive.members_of(folder / contents.model.folder)
        contents = _with_model_bytes(contents, sum(each.bytes for each in copied))
    for name, text in (
        ("requirements.txt", words.requirements(contents)),
        ("install.sh", words.install_script(target, contents.model)),
        ("README.md", words.readme(contents)),
    ):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return contents


def _with_model_bytes(contents: Contents, n_bytes: int) -> Contents:
    return msgspec.structs.replace(contents, model=msgspec.structs.replace(contents.model, bytes=n_bytes))
