"""`latebolt list` and `latebolt drop`: which indexes there are, and away with one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from latebolt.cli.common import human_bytes, json_option, n_documents, open_index, table
from latebolt.cli.terminal import confirmed, note, plain, print_json, say


@click.command("list")
@click.argument("folder", type=click.Path(), default=".")
@json_option
def list_command(folder: str, as_json: bool) -> None:
    """List the indexes under FOLDER, or here: documents, size, model, state.

    Hidden folders are left out. The state is ready, or what is wrong: `latebolt check` says it in full.

    \b
    latebolt list
    latebolt list ~/indexes --json
    """
    from latebolt.errors import InputNotFound

    if not Path(folder).is_dir():
        raise InputNotFound(f"{folder}: there is no such folder.")
    found = [_record(path) for path in _indexes(folder)]
    if as_json:
        print_json(found)
        return
    if not found:
        note(f"{folder}: there is no index under it. Make one with latebolt index.")
        return
    say(table([("index", "documents", "size", "model", "state"), *map(_cells, found)]))
    for each in found:
        if each["problem"] is not None:
            note(each["problem"])


def _indexes(root: str) -> Iterator[Path]:
    from latebolt.errors import LateboltError
    from latebolt.index.format import layout
    from latebolt.index.format.manifest_file import read_content

    for folder, inside, names in os.walk(root):
        is_index = layout.SHARD_SET in names
        if layout.MANIFEST in names:  # which other programs have, too
            with contextlib.suppress(LateboltError, OSError):
                is_index = layout.is_manifest(read_content(Path(folder)))
        inside[:] = [] if is_index else sorted(name for name in inside if not name.startswith("."))
        if is_index:
            yield Path(folder)


def _record(path: Path) -> dict[str, Any]:
    from latebolt.errors import IndexCorrupt, IndexNewer, LateboltError

    states = {IndexNewer: "newer_format", IndexCorrupt: "damaged"}  # as the server has them
    names = ("documents", "tokens", "bytes", "model", "precision", "dim", "bits")
    try:
        with open_index(path) as index:
            info, state, problem = index.info(), "ready", None
    except LateboltError as error:
        state = next((word for kind, word in states.items() if isinstance(error, kind)), "unreadable")
        info, problem = dict.fromkeys(names), str(error)
    return {"path": str(path), **{name: info[name] for name in names}, "state": state, "problem": problem}


def _cells(record: dict[str, Any]) -> tuple[str, ...]:
    if record["problem"] is not None:
        return plain(record["path"]), "", "", "", record["state"]
    model = "none" if record["model"] is None else f"{record['model']} {record['precision']}"
    return (
        plain(record["path"]),
        str(record["documents"]),
        human_bytes(record["bytes"]),
        f"{plain(model)}, dim {record['dim']}",
        record["state"],
    )


@click.command("drop")
@click.argument("index", type=click.Path())
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would be.")
@json_option
def drop_command(index: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Delete INDEX with all it holds. There is no way back.

    Asks first; without a terminal it wants --yes. A folder that is no index is refused, an index that is
    being written to as well, and files that are not latebolt's stay where they are. `latebolt delete` deletes
    documents instead.

    \b
    latebolt drop old.index --dry-run
    latebolt drop old.index --yes
    """
    from latebolt.errors import InvalidInput
    from latebolt.index.store.removal import check_removable, remove_index
    from latebolt.sync.file_records import NAME

    path = Path(index)
    check_removable(path)
    record = _record(path)
    holds = f"{n_documents(record['documents'] or 0)}, {human_bytes(record['bytes'] or 0)}"
    what = f"{index}: {record['state'] if record['problem'] else holds}"
    told = {**record, "dropped": not dry_run}
    if dry_run:
        if as_json:
            print_json({**told, "stays": None})
        else:
            note(f"{what}; would be deleted")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput(f"{what}. Say --yes to delete it; there is nobody here to ask.")
        if not confirmed(f"{what}. Delete it for good?"):
            note(f"{index}: nothing was deleted")
            return
    stays = remove_index(path, also=(NAME,))
    if as_json:
        print_json({**told, "stays": stays})
        return
    note(f"{what}; deleted")
    if stays:
        note(f"{index}: the folder stays, for it holds what is not the index's: {', '.join(stays)}")
