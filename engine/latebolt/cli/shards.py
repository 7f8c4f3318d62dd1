"""`latebolt split` and `latebolt join`: an index in shards, and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from latebolt.cli.common import human_bytes, is_terminal, json_option, n_documents
from latebolt.cli.suggestions import check_index_first
from latebolt.cli.terminal import note, print_json

if TYPE_CHECKING:
    from latebolt.sharding.spreading import Spread


@click.command("split")
@click.argument("index", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--shards", type=click.IntRange(1, 4096), required=True, help="How many.")
@json_option
def split_command(index: str, out: str, shards: int, as_json: bool) -> None:
    """Make the shard set OUT of INDEX: documents by a hash of their ids, each shard an index of its own.

    Nothing is encoded: codes, texts and metadata are copied, deleted documents left behind. INDEX stays as it
    is; it may be a shard set itself, which gets another number of shards. OUT is there when all of it is on
    disk. search, info, check, list, delete and update take it as they take an index.

    \b
    latebolt split papers.index papers.shards --shards 4
    latebolt search papers.shards "sparse attention"
    latebolt split papers.shards papers.eight --shards 8
    """
    from latebolt.sharding import split

    check_index_first(index, out)
    _told(lambda: split(index, out, shards, show_progress=is_terminal()), index, out, shards, as_json)


@click.command("join")
@click.argument("shards", type=click.Path())
@click.argument("out", type=click.Path())
@json_option
def join_command(shards: str, out: str, as_json: bool) -> None:
    """Make the index OUT of the shard set SHARDS, which stays as it is. Nothing is encoded.

    On the disk of SHARDS the two share files, which never change.

    \b
    latebolt join papers.shards papers-again.index
    """
    from latebolt.sharding import join

    check_index_first(shards, out)
    _told(lambda: join(shards, out, show_progress=is_terminal()), shards, out, None, as_json)


def _told(work: Callable[[], Spread], source: str, out: str, shards: int | None, as_json: bool) -> None:
    """Do it and say what was done."""
    from latebolt.drafts import signals_raise

    started = time.perf_counter()
    with signals_raise():
        made = work()
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"path": out, "shards": shards, **made._asdict(), "seconds": seconds})
        return
    shared = f", {made.linked} files shared with {source}" if made.linked else ""
    what = n_documents(made.documents) + ("" if shards is None else f" in {shards} shards")
    note(f"{out}: {what}, {human_bytes(made.bytes)}{shared}; {seconds:.1f} s")
