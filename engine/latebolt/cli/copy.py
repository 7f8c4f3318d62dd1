"""`latebolt copy`: an index again, with another model or other codes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from latebolt.cli.common import human_bytes, is_terminal, json_option, model_options
from latebolt.cli.indexing import pooling_options
from latebolt.cli.suggestions import check_index_first
from latebolt.cli.terminal import note, print_json

if TYPE_CHECKING:
    from latebolt import Index


@click.command("copy")
@click.argument("index", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--where", help="Only documents that pass the filter.")
@click.option(
    "--bits", type=click.Choice(["1", "2", "4", "8", "16"]), help="Bits a dimension.  [default: INDEX's]"
)
@click.option(
    "--passage-tokens",
    type=click.IntRange(min=1),
    help="Cut longer documents into passages of so many tokens.  [default: INDEX's]",
)
@click.option(
    "--passage-overlap",
    type=click.IntRange(min=0),
    help="Tokens a passage shares with the one before.  [default: INDEX's]",
)
@click.option(
    "--late-chunking/--no-late-chunking",
    default=None,
    help="Encode passages within the text around them.  [default: as INDEX]",
)
@click.option("--whole", is_flag=True, help="Cut nothing.")
@pooling_options("", "INDEX's")
@click.option("--unpooled", is_flag=True, help="Keep every vector.")
@click.option("--skip-textless", is_flag=True, help="Leave out documents that have vectors and no text.")
@model_options
@json_option
@click.pass_context
def copy_command(
    context: click.Context,
    index: str,
    new: str,
    where: str | None,
    bits: str | None,
    passage_tokens: int | None,
    passage_overlap: int | None,
    late_chunking: bool | None,
    whole: bool,
    pool_factor: int | None,
    max_vectors: int | None,
    unpooled: bool,
    skip_textless: bool,
    model: str,
    precision: str | None,
    dim: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Make NEW of the documents of INDEX, whose texts are encoded again. INDEX stays as it is.

    What is not said is as in INDEX: its model, its width, its bits, its passages, its pooling. Ids, texts and
    metadata are kept; where a passage stands in its file (page, lines) is not, as it is cut anew. NEW is
    there when all of it is done. A copy that fails or is interrupted leaves nothing behind, and is begun
    again.

    \b
    latebolt copy notes.index notes-multilingual.index --model multilingual
    latebolt copy papers.index small.index --bits 1 --dim 64
    latebolt copy papers.index recent.index --where 'year >= 2020' --passage-tokens 120
    """
    from latebolt import Encoder, Index
    from latebolt.drafts import signals_raise
    from latebolt.errors import InvalidInput
    from latebolt.index.reencode import reencode

    if whole and (passage_tokens or passage_overlap is not None or late_chunking):
        raise InvalidInput(
            "give --whole or --passage-tokens, --passage-overlap and --late-chunking, not both."
        )
    if unpooled and (pool_factor is not None or max_vectors is not None):
        raise InvalidInput("give --unpooled or --pool-factor and --max-vectors, not both.")
    check_index_first(index, new)
    started = time.perf_counter()
    source = Index.open(index)
    is_given = context.get_parameter_source("model").name == "COMMANDLINE"  # type: ignore[union-attr]
    record = source.model
    if is_given:
        encoder = Encoder.load(model, precision, dim, device, threads)
    elif record is not None:
        encoder = Encoder.load(
            record.source, precision or record.precision, dim or record.dim, device, threads
        )
    else:
        raise InvalidInput(f"{index}: was made without a model. Say which one encodes its texts: --model.")
    cutting = (
        (None, None) if whole else _cutting(source, encoder.document_room, passage_tokens, passage_overlap)
    )
    if late_chunking is None:
        late_chunking = cutting[0] is not None and source.info()["late_chunking"]
    if not unpooled:
        info = source.info()
        pool_factor = info["pool_factor"] if pool_factor is None else pool_factor
        max_vectors = info["max_vectors"] if max_vectors is None else max_vectors
    with signals_raise():
        made = reencode(
            source,
            new,
            encoder,
            int(bits or source.info()["bits"]),
            *cutting,
            where,
            skip_textless,
            show_progress=is_terminal(),
            late_chunking=late_chunking,
            pool_factor=pool_factor or 1,
            max_vectors=max_vectors,
        )
    info, seconds = made.index.info(), time.perf_counter() - started
    if as_json:
        counts = {"added": made.documents, "textless": made.textless, "seconds": seconds}
        print_json({**info, **counts})
    else:
        left_out = f", {made.textless} without a text left out" if made.textless else ""
        note(
            f"{new}: {made.documents} documents encoded in {seconds:.1f} s{left_out}; "
            f"{info['tokens']} tokens, {human_bytes(info['bytes'])} on disk"
        )


def _cutting(
    source: Index, room: int, tokens: int | None, overlap: int | None
) -> tuple[int | None, int | None]:
    """The passages that were asked for, or those of the index, as far as the model has room for them."""
    if tokens is not None:
        return tokens, overlap
    info = source.info()
    kept = info["passage_tokens"]
    if kept is None or kept > room:
        return (None if kept is None else room), overlap
    return kept, info["passage_overlap"] if overlap is None else overlap
