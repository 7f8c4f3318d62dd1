"""`latebolt index`: create an index from files, or bring one up to date with them."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from latebolt.cli.common import human_bytes, is_index, is_terminal, json_option, model_options
from latebolt.cli.terminal import note, plain, print_json, say

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.corpus.files import Skipped
    from latebolt.index.ingest.sync import SyncCounts
    from latebolt.sync.folder_sync import FolderSync

_MOST_NAMED: Final = 5  # of the documents that are no longer there, so many are named
PASSAGE_TOKENS: Final = 250  # of a passage where nothing else is said: what the starter was trained on


@click.command("index")
@click.argument("index", type=click.Path())
@click.argument("files", nargs=-1, required=True)
@click.option("--bits", type=click.Choice(["1", "2", "4", "8", "16"]), help="Bits a dimension.  [default: 2]")
@click.option(
    "--passage-tokens",
    type=click.IntRange(min=1),
    help="Of a new index: cut longer documents into passages of so many tokens.  [default: 250]",
)
@click.option(
    "--passage-overlap",
    type=click.IntRange(min=0),
    help="Tokens a passage shares with the one before.  [default: a quarter, at most 64]",
)
@click.option(
    "--whole",
    is_flag=True,
    help="Cut nothing: of each document the model reads the beginning, as much as it takes.",
)
@click.option("--prune", is_flag=True, help="Forget documents of FILES that are no longer there.")
@click.option("--dry-run", is_flag=True, help="Write nothing; list what would be done.")
@click.option("--again", is_flag=True, help="Read every file, also those that look as they were.")
@click.option("--no-ignore", is_flag=True, help="Read also what .gitignore files of folders leave out.")
@click.option("--strict", is_flag=True, help="Exit with 1 when files of a folder were passed over.")
@model_options
@json_option
@click.pass_context
def index_command(
    context: click.Context,
    index: str,
    files: tuple[str, ...],
    bits: str | None,
    passage_tokens: int | None,
    passage_overlap: int | None,
    whole: bool,
    prune: bool,
    dry_run: bool,
    again: bool,
    no_ignore: bool,
    strict: bool,
    model: str,
    precision: str | None,
    dim: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Create INDEX from FILES, or bring it up to date with them.

    FILES are .txt and .md, .jsonl (one object a line with "text" and optionally "id", "title", "metadata";
    other fields become metadata), folders of these, or - for standard input (one text or JSON object a line).
    A file or a row is one document. What is longer than a passage is cut into passages, each encoded by
    itself, and found by the best of them. Rows without ids get some that are made of their content.

    Again, later: files that are as they were are not read, texts that are as they were not encoded, a
    document that has changed is replaced, and one that was renamed keeps its vectors. What is no longer there
    is told, and forgotten with --prune. All of it becomes visible in one step, of a long run every five
    minutes; after an interruption the next run goes on. Files of a folder that are empty, or cannot be read
    as text, are passed over and told at the end.

    \b
    latebolt index notes.index ~/notes
    latebolt index notes.index ~/notes --prune
    latebolt index papers.index papers.jsonl --dim 64 --bits 1
    latebolt index books.index ~/books --passage-tokens 250 --passage-overlap 50
    cat lines.txt | latebolt index lines.index -
    """
    from latebolt import Encoder, Index, __version__
    from latebolt.corpus.files import skipped_message, sources_of
    from latebolt.errors import InvalidInput
    from latebolt.sync.folder_sync import FolderSync

    if whole and (passage_tokens or passage_overlap is not None):
        raise InvalidInput("give --whole or --passage-tokens and --passage-overlap, not both.")
    started = time.perf_counter()
    exists = is_index(index)
    if not exists and Path(index).is_file() and len(files) == 1 and is_index(files[0]):
        swapped = f"{shlex.quote(files[0])} {shlex.quote(index)}"
        raise InvalidInput(
            f"{files[0]}: is an index, and it comes first. Did you mean latebolt index {swapped}?"
        )
    in_lines = False  # of an older index, .txt and .md files are documents of some paragraphs each
    if exists:
        given = {"model", "precision", "dim"} & {
            name
            for name in context.params
            if context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
        }
        encoder = Encoder.load(model, precision, dim, device, threads) if given else None
        opened = Index.open(index, encoder, device, threads)
        if bits is not None and int(bits) != opened.info()["bits"]:
            raise InvalidInput(
                f"{index}: has {opened.info()['bits']} bits; --bits {bits} fits only a new index."
            )
        in_lines = not _cuts(opened, passage_tokens, passage_overlap, whole) and not whole
    skipped: list[Skipped] = []
    listed: list[tuple[str, str]] = []
    # A folder without any file is refused, with --prune too: more often a disk is missing than all that was.
    sources = sources_of(list(files), skipped, ignored=no_ignore)
    made = f"{__version__}, {'paragraphs' if in_lines else 'whole'}"
    with FolderSync(sources, files, skipped, not in_lines, made, again) as run:
        # A file that cannot be read is told before an index is made.
        first = run.peek() if not exists or "-" in files else None
        if first is None and not exists:
            raise InvalidInput(f"there is nothing to index: {skipped_message(skipped)}")
        if not exists:
            loaded = Encoder.load(model, precision, dim, device, threads)
            size = None if whole else passage_tokens or min(PASSAGE_TOKENS, loaded.document_room)
            opened = Index.create(
                index, loaded, int(bits or 2), None, size, passage_overlap, with_first_add=True
            )
        if first is not None and first.bare and files == ("-",):
            counts = _add_lines(opened, run)
        else:
            tell = (lambda action, id: listed.append((action, id))) if dry_run else None
            counts = run.run(opened, prune, dry_run, show_progress=is_terminal(), on_change=tell)
    info, seconds = opened.info(), time.perf_counter() - started
    if as_json:
        told = {"changes": [{"action": action, "id": id} for action, id in listed]} if dry_run else {}
        print_json(
            {
                **info,
                **dataclasses.asdict(counts),
                "missing": len(run.missing),
                "seconds": seconds,
                **told,
                "skipped": [each.record() for each in skipped],
            }
        )
    else:
        for action, id in listed:
            say(f"{action:<8} {plain(id)}")
        note(f"{index}: {_told(counts, len(run.missing), dry_run)} in {seconds:.1f} s; {_size(info)}")
        if run.missing:
            note(
                f"{_some(run.missing)} no longer there; a search still finds {_them(run.missing)}. Forget "
                f"{_them(run.missing)} with --prune."
            )
    if skipped:
        note(skipped_message(skipped))
    return 1 if skipped and strict else 0


def _add_lines(index: Index, run: FolderSync) -> SyncCounts:
    """Lines of plain text, which have numbers for ids: each is a new document."""
    from latebolt.index.ingest.sync import SyncCounts

    lines = (document.text for document in run.lines())
    return SyncCounts(added=len(index.add(lines, show_progress=is_terminal())))


def _told(counts: SyncCounts, missing: int, dry_run: bool) -> str:
    parts = [(counts.added, "added"), (counts.changed, "changed"), (counts.kept, "unchanged")]
    parts += [(counts.removed, "removed"), (missing, "no longer there")]
    said = ", ".join(f"{n} {what}" for n, what in parts if n) or "nothing to do"
    return f"would be {said}" if dry_run else said


def _size(info: dict[str, Any]) -> str:
    return f"{info['documents']} documents, {info['tokens']} tokens, {human_bytes(info['bytes'])} on disk"


def _some(ids: Sequence[str]) -> str:
    named = ", ".join(plain(id) for id in ids[:_MOST_NAMED])
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return f"{named}{more} {'is' if len(ids) == 1 else 'are'}"


def _them(ids: Sequence[str]) -> str:
    return "it" if len(ids) == 1 else "them"


def _cuts(index: Index, tokens: int | None, overlap: int | None, whole: bool) -> bool:
    """Whether an existing index cuts documents; InvalidInput if not as asked."""
    from latebolt.errors import InvalidInput

    info = index.info()
    for option, given in (("passage_tokens", tokens), ("passage_overlap", overlap)):
        if given is not None and given != info[option]:
            name = option.replace("_", "-")
            raise InvalidInput(
                f"{index.path}: has {option} {info[option]}; --{name} {given} fits only a new index."
            )
    cuts = info["passage_tokens"] is not None
    if whole and cuts:
        raise InvalidInput(
            f"{index.path}: cuts documents into passages of {info['passage_tokens']} tokens; --whole fits "
            "only a new index."
        )
    return cuts
