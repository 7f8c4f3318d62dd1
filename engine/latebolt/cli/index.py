"""`latebolt index`: create an index from files, or bring one up to date with them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from latebolt.cli.common import is_terminal, json_option
from latebolt.cli.indexing import Target, index_options, made_by, missing_line, run_line, run_record
from latebolt.cli.terminal import note, plain, print_json, say

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.corpus.files import Skipped
    from latebolt.index.ingest.sync import SyncCounts
    from latebolt.sync.folder_sync import FolderSync


@click.command("index")
@click.argument("index", type=click.Path())
@click.argument("files", nargs=-1, required=True)
@index_options
@click.option("--prune", is_flag=True, help="Forget documents of FILES that are no longer there.")
@click.option("--dry-run", is_flag=True, help="Write nothing; list what would be done.")
@click.option("--again", is_flag=True, help="Read every file, also those that look as they were.")
@click.option("--strict", is_flag=True, help="Exit with 1 when files of a folder were passed over.")
@json_option
@click.pass_context
def index_command(
    context: click.Context,
    /,
    index: str,
    files: tuple[str, ...],
    no_ignore: bool,
    prune: bool,
    dry_run: bool,
    again: bool,
    strict: bool,
    as_json: bool,
    **_: object,
) -> int:
    """Create INDEX from FILES, or bring it up to date with them.

    FILES are .txt, .md, .rst, .html, .pdf, .docx, .ipynb, source code, .csv and .jsonl (one object a line
    with "text" and optionally "id", "title", "metadata"; other fields become metadata), folders of these, or
    - for standard input (one text or JSON object a line). A file or a row is one document. What is longer
    than a passage is cut into passages, each encoded by itself, and found by the best of them. Rows without
    ids get some that are made of their content.

    Again, later: files that are as they were are not read, texts that are as they were not encoded, a
    document that has changed is replaced, and one that was renamed keeps its vectors. What is no longer there
    is told, and forgotten with --prune. All of it becomes visible in one step, of a long run every five
    minutes; after an interruption the next run goes on. Files of a folder that are empty, or cannot be read
    as text, are passed over and told at the end.

    With --device cuda the model runs on the GPU, and codes are made there, too.

    \b
    latebolt index notes.index ~/notes
    latebolt index notes.index ~/notes --prune
    latebolt index papers.index papers.jsonl --dim 64 --bits 1
    latebolt index books.index ~/books --passage-tokens 250 --passage-overlap 50
    cat lines.txt | latebolt index lines.index -
    """
    from latebolt.corpus.files import skipped_message, sources_of
    from latebolt.errors import InvalidInput
    from latebolt.sync.folder_sync import FolderSync

    target = Target.of(context)
    target.check_order(files)
    started = time.perf_counter()
    opened, in_lines = target.open() if target.exists else (None, False)
    skipped: list[Skipped] = []
    listed: list[tuple[str, str]] = []
    # A folder without any file is refused, with --prune too: more often a disk is missing than all that was.
    sources = sources_of(list(files), skipped, ignored=no_ignore)
    with FolderSync(sources, files, skipped, not in_lines, made_by(in_lines), again) as run:
        # A file that cannot be read is told before an index is made.
        first = run.peek() if opened is None or "-" in files else None
        if opened is None:
            if first is None:
                raise InvalidInput(f"there is nothing to index: {skipped_message(skipped)}")
            opened = target.create()
        if first is not None and first.bare and files == ("-",):
            counts = _add_lines(opened, run)
        else:
            tell = (lambda action, id: listed.append((action, id))) if dry_run else None
            counts = run.run(opened, prune, dry_run, show_progress=is_terminal(), on_change=tell)
    seconds = time.perf_counter() - started
    if as_json:
        told = {"changes": [{"action": action, "id": id} for action, id in listed]} if dry_run else {}
        print_json({**run_record(opened, counts, run.missing, skipped, seconds), **told})
    else:
        for action, id in listed:
            say(f"{action:<8} {plain(id)}")
        note(run_line(opened, counts, run.missing, seconds, dry_run))
        if run.missing:
            note(missing_line(run.missing))
    if skipped:
        note(skipped_message(skipped))
    return 1 if skipped and strict else 0


def _add_lines(index: Index, run: FolderSync) -> SyncCounts:
    """Lines of plain text, which have numbers for ids: each is a new document."""
    from latebolt.index.ingest.sync import SyncCounts

    lines = (document.text for document in run.lines())
    return SyncCounts(added=len(index.add(lines, show_progress=is_terminal())))
