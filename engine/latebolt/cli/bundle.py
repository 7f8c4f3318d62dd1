"""`latebolt bundle`: wheels and a model in one tar, for a machine without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebolt.cli.common import human_bytes, is_terminal, json_option, table
from latebolt.cli.terminal import note, print_json, say
from latebolt.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from latebolt.bundle.words import Contents


@click.command("bundle")
@click.argument("out", type=click.Path())
@click.option(
    "--model", default="starter", show_default=True, help="starter, multilingual, a folder, or a hub id."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="The graph of the model that goes in.  [default: int8 where there is one]",
)
@click.option(
    "--platform",
    help="Of the device: manylinux_X_Y_MACHINE by its glibc and `uname -m`, musllinux_X_Y_MACHINE on Alpine. "
    "Wheels for older ones are taken, too.  [default: this machine]",
)
@click.option("--python", help="Of the device, such as 3.11.  [default: the one that runs]")
@click.option(
    "--extras", default="", help="Beside cpu, with commas between: serve, client, files, watch, mcp."
)
@click.option("--wheel", type=click.Path(), help="latebolt's own wheel.  [default: of this installation]")
@click.option("--constraint", "constraints", multiple=True, help="Such as 'onnxruntime==1.20.1'; repeatable.")
@click.option("--find-links", multiple=True, help="A folder of wheels to look in as well; repeatable.")
@click.option("--no-index", is_flag=True, help="Look in the folders of --find-links only.")
@click.option("--dry-run", is_flag=True, help="Tell what would be collected, with sizes, and write nothing.")
@json_option
def bundle_command(
    out: str,
    model: str,
    precision: str | None,
    platform: str | None,
    python: str | None,
    extras: str,
    wheel: str | None,
    constraints: tuple[str, ...],
    find_links: tuple[str, ...],
    no_index: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Collect latebolt, what it needs and a model in the tar OUT, for a device without a network.

    There, `tar -xf OUT`, and `sh install.sh --into FOLDER` in the folder that it unpacks to. Wheels come from
    where pip is configured to find them, and only wheels are taken. The same wheels and model give the same
    bytes. OUT appears when it is whole.

    \b
    latebolt bundle edge.tar --platform manylinux_2_28_aarch64 --python 3.11 --dry-run
    latebolt bundle edge.tar --platform manylinux_2_28_aarch64 --python 3.11 --model multilingual
    latebolt bundle here.tar --extras serve --constraint 'onnxruntime==1.20.1'
    """
    try:
        import packaging  # noqa: F401 - what the extra brings
    except ImportError as error:
        raise RuntimeUnavailable(
            "the library that reads requirements is not installed. Run \"pip install 'latebolt[bundle]'\"."
        ) from error
    from latebolt.bundle.make import Wanted, make, plan, root_of
    from latebolt.bundle.target import Target

    wanted = Wanted(
        Target.of(platform, python),
        model,
        precision,
        tuple(part.strip() for part in extras.split(",") if part.strip()),
        wheel,
        constraints,
        find_links,
        no_index,
    )

    def tell(message: str) -> None:
        note(f"latebolt: {message}")

    contents = plan(wanted, tell) if dry_run else make(Path(out), wanted, tell, is_terminal())
    if as_json:
        print_json(record(contents, None if dry_run else out))
        return
    say(summary(contents))
    if not dry_run:
        note(
            f"{out}: {human_bytes(Path(out).stat().st_size)}. On the device: tar -xf {Path(out).name} && "
            f"sh {root_of(contents)}/install.sh --into FOLDER"
        )


def record(contents: Contents, out: str | None) -> dict[str, object]:
    """For programs; `path` is None where nothing was written."""
    import msgspec

    size = Path(out).stat().st_size if out is not None else None
    totals = {"wheels": contents.wheel_bytes, "model": contents.model.bytes, "tar": size}
    return {"path": out, **msgspec.to_builtins(contents), "bytes": totals}


def summary(contents: Contents) -> str:
    """A table of packages, and the model."""
    rows = [("package", "version", "licence", "size")]
    rows += [
        (each.name, each.version, each.licence[:40], "?" if each.bytes is None else human_bytes(each.bytes))
        for each in contents.packages
    ]
    model = contents.model
    where = human_bytes(model.bytes) if model.folder else "in latebolt's wheel"
    least = "" if contents.is_known else "at least "
    total = human_bytes(contents.wheel_bytes + model.bytes)
    return (
        f"{table(rows)}\nmodel {model.name}, {model.precision}: {where}\n"
        f"{len(contents.packages)} wheels and the model for {contents.platform}, Python {contents.python}: "
        f"{least}{total}"
    )
