"""`latebolt backup` and `restore`: an index as of its last commit, elsewhere and back."""

from __future__ import annotations

from pathlib import Path

import click

from latebolt.cli.common import human_bytes, json_option, opened_uri
from latebolt.cli.suggestions import check_index_first
from latebolt.cli.terminal import note, print_json
from latebolt.index.places import is_uri, masked


@click.command("backup")
@click.argument("index", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--copy", is_flag=True, help="Copy, and check, every byte, also where files could be shared.")
@json_option
def backup_command(index: str, out: str, copy: bool, as_json: bool) -> None:
    """Write INDEX, as of its last commit, to the new folder OUT. Searches and additions go on meanwhile.

    OUT is an index itself: it can be searched, checked and copied. On the disk of INDEX the two share files,
    which never change, so that it takes a moment and hardly any room; that is a way back from a mistake, and
    no help when the disk fails. Elsewhere, and with --copy, every byte is copied and checked. OUT is there
    when all of it is on disk, or not at all.

    \b
    latebolt backup notes.index backups/notes-2026-11-29
    latebolt backup notes.index /mnt/other-disk/notes
    latebolt backup s3://bucket/notes notes-here.index
    latebolt restore backups/notes-2026-11-29 notes-again.index
    """
    check_index_first(index, out)
    _copy(index, out, link=not copy, as_json=as_json)


@click.command("restore")
@click.argument("backup", type=click.Path())
@click.argument("out", type=click.Path())
@json_option
def restore_command(backup: str, out: str, as_json: bool) -> None:
    """Make the index OUT of BACKUP, which stays as it is; every byte is copied and checked.

    OUT must not exist yet: move an index that it is to replace out of the way. Use the account that the
    index is used with, such as the server's.

    \b
    mv notes.index notes-before.index
    latebolt restore backups/notes-2026-11-29 notes.index
    """
    _copy(backup, out, link=False, as_json=as_json)


def _copy(source: str, out: str, link: bool, as_json: bool) -> None:
    from latebolt.index.store.backup import back_up

    if is_uri(source):
        with opened_uri(source) as opened:
            made, source = opened.backup(out, link), masked(source)
    else:
        made = back_up(Path(source), Path(out), link)
    if as_json:
        print_json({"path": out, **made._asdict()})
        return
    shared = f", {made.linked} of them shared with {source}" if made.linked else ""
    size = f"{human_bytes(made.bytes)} in {made.files} files"
    note(f"{out}: commit {made.generation} of {source}, {size}{shared}")
