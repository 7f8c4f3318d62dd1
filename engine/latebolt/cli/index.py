"""`latebolt index`: create an index from files, or add to one."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebolt.cli.common import human_bytes, is_terminal, json_option, model_options, note, print_json

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.cli.inputs import Document


@click.command("index")
@click.argument("index", type=click.Path())
@click.argument("files", nargs=-1, required=True)
@click.option("--bits", type=click.Choice(["1", "2", "4", "8", "16"]), help="Bits a dimension.  [default: 2]")
@click.option(
    "--passage-tokens",
    type=click.IntRange(min=1),
    help="Of a new index: cut longer documents into passages of so many tokens.  [default: not at all]",
)
@click.option(
    "--passage-overlap",
    type=click.IntRange(min=0),
    help="Tokens a passage shares with the one before.  [default: a quarter, at most 64]",
)
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
    model: str,
    precision: str | None,
    dim: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Create INDEX from FILES, or add them to it.

    FILES are .txt and .md (cut into passages), .jsonl (one object a line with "text" and optionally
    "id", "title", "metadata"; other fields become metadata), folders of these, or - for standard input
    (one text or JSON object a line). With --passage-tokens, and later in an index made with it, a .txt or
    .md file is one document, found by its best passage. A document whose id exists is replaced. All is
    added in one step: when anything fails, the index stays as it was.

    \b
    latebolt index notes.index ~/notes
    latebolt index papers.index papers.jsonl --dim 64 --bits 1
    latebolt index books.index ~/books --passage-tokens 250 --passage-overlap 50
    cat lines.txt | latebolt index lines.index -
    """
    from latebolt import Encoder, Index
    from latebolt.cli.inputs import read_documents
    from latebolt.errors import InvalidInput

    started = time.perf_counter()
    exists = (Path(index) / "manifest.json").exists()
    whole = passage_tokens is not None
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
        whole = _check_passages(opened, passage_tokens, passage_overlap)
    documents = read_documents(files, whole)
    first = next(documents, None)  # a file that cannot be read is told before an index is made
    if not exists:
        loaded = Encoder.load(model, precision, dim, device, threads)
        opened = Index.create(index, loaded, int(bits or 2), None, passage_tokens, passage_overlap)
    named = first is not None and first.id is not None
    checked = _alike(itertools.chain([first] if first else [], documents), named)
    # Readers of one stream, in lockstep: no more of it is held than `add` holds.
    texts, metadata, *ids = itertools.tee(checked, 3 if named else 2)
    try:
        added = opened.add(
            (document.text for document in texts),
            (document.id or "" for document in ids[0]) if ids else None,
            (document.metadata for document in metadata),
            show_progress=is_terminal(),
        )
    except BaseException:
        if not exists and len(opened) == 0:
            shutil.rmtree(index)  # made by this command, and nothing came into it
        raise
    info = opened.info()
    if as_json:
        print_json({**info, "added": len(added), "seconds": time.perf_counter() - started})
    else:
        seconds = time.perf_counter() - started
        note(
            f"{index}: {len(added)} added in {seconds:.1f} s; {info['documents']} documents, "
            f"{info['tokens']} tokens, {human_bytes(info['bytes'])} on disk"
        )


def _check_passages(index: Index, tokens: int | None, overlap: int | None) -> bool:
    """Whether an existing index cuts documents; InvalidInput if not as asked."""
    from latebolt.errors import InvalidInput

    info = index.info()
    for option, given in (("passage_tokens", tokens), ("passage_overlap", overlap)):
        if given is not None and given != info[option]:
            name = option.replace("_", "-")
            raise InvalidInput(
                f"{index.path}: has {option} {info[option]}; --{name} {given} fits only a new index."
            )
    return info["passage_tokens"] is not None


def _alike(documents: Iterable[Document], named: bool) -> Iterator[Document]:
    """The documents, as long as all have an id or none has."""
    from latebolt.errors import InvalidInput

    for document in documents:
        if (document.id is not None) != named:
            raise InvalidInput("some documents have an id and some have none. Give all of them one, or none.")
        yield document
