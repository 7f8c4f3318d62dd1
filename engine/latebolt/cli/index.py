"""`latebolt index`: create an index from files, or add to one."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from latebolt.checks import clean_text
from latebolt.cli.common import human_bytes, is_index, is_terminal, json_option, model_options
from latebolt.cli.terminal import note, print_json

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.corpus.documents import Document
    from latebolt.corpus.files import Skipped

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
    strict: bool,
    model: str,
    precision: str | None,
    dim: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Create INDEX from FILES, or add them to it.

    FILES are .txt and .md, .jsonl (one object a line with "text" and optionally "id", "title", "metadata";
    other fields become metadata), folders of these, or - for standard input (one text or JSON object a line).
    A file or a row is one document. What is longer than a passage is cut into passages, each encoded by
    itself, and found by the best of them. Rows without ids get some that are made of their content.

    A document whose id exists is replaced. All is added in one step: when anything fails, the index stays as
    it was. Files of a folder that are empty, or cannot be read as text, are passed over and told at the end.

    \b
    latebolt index notes.index ~/notes
    latebolt index papers.index papers.jsonl --dim 64 --bits 1
    latebolt index books.index ~/books --passage-tokens 250 --passage-overlap 50
    cat lines.txt | latebolt index lines.index -
    """
    from latebolt import Encoder, Index
    from latebolt.corpus.documents import read_documents
    from latebolt.corpus.files import skipped_message
    from latebolt.errors import InvalidInput

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
    documents = read_documents(files, not in_lines, skipped)
    first = next(documents, None)  # a file that cannot be read is told before an index is made
    if first is None:
        raise InvalidInput(f"there is nothing to index: {skipped_message(skipped)}")
    if not exists:
        loaded = Encoder.load(model, precision, dim, device, threads)
        size = None if whole else passage_tokens or min(PASSAGE_TOKENS, loaded.document_room)
        opened = Index.create(index, loaded, int(bits or 2), None, size, passage_overlap, with_first_add=True)
    # Lines of plain text have numbers for ids, everything else a name of its own.
    named = files != ("-",) or not first.bare
    checked = _with_ids(itertools.chain([first], documents)) if named else itertools.chain([first], documents)
    # Readers of one stream, in lockstep: no more of it is held than `add` holds.
    texts, metadata, *ids = itertools.tee(checked, 3 if named else 2)
    added = opened.add(
        (document.text for document in texts),
        (document.id or "" for document in ids[0]) if ids else None,
        (document.metadata for document in metadata),
        show_progress=is_terminal(),
    )
    info, seconds = opened.info(), time.perf_counter() - started
    if as_json:
        record = {**info, "added": len(added), "seconds": seconds}
        print_json({**record, "skipped": [each.record() for each in skipped]})
    else:
        note(
            f"{index}: {len(added)} added in {seconds:.1f} s; {info['documents']} documents, "
            f"{info['tokens']} tokens, {human_bytes(info['bytes'])} on disk"
        )
    if skipped:
        note(skipped_message(skipped))
    return 1 if skipped and strict else 0


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


def _with_ids(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, those without an id with one made of what they hold.

    Raises:
        InvalidInput: some rows of one file have an id and some have none; names the line.
    """
    from latebolt.errors import InvalidInput

    seen: collections.Counter[str] = collections.Counter()
    firsts: dict[str, Document] = {}  # of each file
    for document in documents:
        first = firsts.setdefault(document.origin.rpartition(":")[0], document)
        if (first.id is None) != (document.id is None):
            lacking, having = (document, first) if document.id is None else (first, document)
            raise InvalidInput(
                f"{lacking.origin}: has no id, and {having.origin} has one; of one file some have an id and "
                "some have none. Give all of them one, or none."
            )
        if document.id is None:
            content = json.dumps([document.text, document.metadata], ensure_ascii=False, sort_keys=True)
            name = hashlib.blake2b(clean_text(content).encode(), digest_size=8).hexdigest()
            seen[name] += 1  # the same row again is another document
            name = name if seen[name] == 1 else f"{name}-{seen[name]}"
            document = dataclasses.replace(document, id=name)
        yield document
