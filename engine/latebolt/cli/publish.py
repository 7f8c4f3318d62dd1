"""`latebolt publish`: an index, or a shard set, into an object store, from where other machines open it."""

from __future__ import annotations

from pathlib import Path

import click

from latebolt.cli.common import human_bytes, is_terminal, json_option, quiet_stores
from latebolt.cli.terminal import note, print_json


@click.command("publish")
@click.argument("index", type=click.Path())
@click.argument("uri")
@click.option("--keep", type=click.IntRange(min=1), help="Remove all but so many commits.  [default: none]")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="With --keep: hours that files stay which no commit names, since they may be of one that is being "
    "published.",
)
@click.option("--again", is_flag=True, help="Send every file, also those that are there.")
@click.option("--replace", is_flag=True, help="Take the place of another index that is published there.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be.")
@json_option
def publish_command(
    index: str,
    uri: str,
    keep: int | None,
    grace: float,
    again: bool,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put the last commit of INDEX, or of a shard set, at URI: s3://, gs://, file:// or what fsspec knows.

    What is there already is not sent again; a run that was interrupted goes on. Machines that have opened URI
    (search, info, check, backup, serve --index NAME=URI, Index.open) see the new commit whole, or the one
    before. Of two that publish at once, one is refused. Keys are taken as the cloud's own tools take them.

    \b
    latebolt publish notes.index file:///tmp/latebolt-published/notes
    latebolt search file:///tmp/latebolt-published/notes "how do I renew my passport"
    latebolt publish papers.index s3://bucket/papers --keep 3
    latebolt backup s3://bucket/papers papers-again.index
    """
    from latebolt.errors import InvalidInput
    from latebolt.index.places import is_uri
    from latebolt.objects.object_store import ObjectStore
    from latebolt.objects.prune import prune
    from latebolt.objects.publish import publish
    from latebolt.objects.shard_sets import publish_set, stores_of
    from latebolt.sharding.set_file import is_shard_set

    if not is_uri(uri):
        hint = " The index comes first." if is_uri(index) else ""
        raise InvalidInput(
            f'"{uri}" should be a URI, such as s3://bucket/notes or file:///folder/notes.{hint}'
        )
    quiet_stores()
    folder, told = Path(index), not as_json and is_terminal()
    if is_shard_set(folder):
        stores = stores_of(folder, uri)
        done = publish_set(folder, uri, again=again, replace=replace, dry_run=dry_run, show_progress=told)
    else:
        stores = [ObjectStore(uri)]
        done = [publish(folder, stores[0], again=again, replace=replace, dry_run=dry_run, show_progress=told)]
    there = [store for store in stores if not dry_run or store.newest_number() is not None]
    removed = [] if keep is None else [prune(each, keep, 3600 * grace, dry_run=dry_run) for each in there]
    if as_json:
        published, gone_there = [each._asdict() for each in done], [each._asdict() for each in removed]
        print_json({"published": published, "removed": gone_there, "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    for each in done:
        what = f"{each.uploaded} of {each.files} files {would}sent, {human_bytes(each.uploaded_bytes)}"
        state = f"commit {each.number}" if each.new else f"nothing new, commit {each.number} stays"
        note(f"{each.uri}: {state}; {what}")
    for gone in removed:
        what = f"{gone.commits} commits and {gone.objects} files {would}removed, {human_bytes(gone.bytes)}"
        note(f"{gone.uri}: {what}")
