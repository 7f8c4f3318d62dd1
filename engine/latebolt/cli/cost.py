"""`latebolt cost`: what storing token vectors takes and costs a month."""

from __future__ import annotations

import click

from latebolt.cli.common import json_option, numbers, table
from latebolt.cli.terminal import print_json, say


@click.command("cost")
@click.option("--documents", required=True, metavar="N", help="Documents, e.g. 250000, 2.5k or 100M.")
@click.option(
    "--tokens-per-document",
    type=float,
    default=120,
    show_default=True,
    help="Vectors a document, on average.",
)
@click.option("--dim", "dims", default="64", show_default=True, help="Widths of the vectors, e.g. 96,64")
@click.option(
    "--reference-dim",
    type=int,
    default=128,
    show_default=True,
    help="The width that others are compared with.",
)
@click.option("--bits", default="2", show_default=True, help="Of our store, e.g. 1,2,4 (also 8, 16).")
@click.option("--price-gb-month", type=float, help="US dollars for a GB (1e9 bytes) and a month.")
@click.option(
    "--quoted-bill",
    type=float,
    help="Instead of a price: the month's bill you were quoted for float32 at --reference-dim.",
)
@click.option(
    "--qdrant-factor",
    type=float,
    default=1.0,
    show_default=True,
    help="Multiplies Qdrant's bytes; its guide says 1.5 where vectors are indexed in memory.",
)
@json_option
def cost_command(
    documents: str,
    tokens_per_document: float,
    dims: str,
    reference_dim: int,
    bits: str,
    price_gb_month: float | None,
    quoted_bill: float | None,
    qdrant_factor: float,
    as_json: bool,
) -> None:
    """The storage bill of a corpus: Qdrant multivectors, PLAID, and a latebolt index.

    Counts vectors and the lists that find them, not texts; of lists, an entry a token, which is the most
    there can be. "times less" is against float32 at --reference-dim.

    \b
    latebolt cost --documents 100M --tokens-per-document 120 --dim 64 --bits 2 --price-gb-month 0.10
    latebolt cost --documents 100M --dim 96,64 --bits 1,2,4 --quoted-bill 1319.24
    """
    from latebolt.cost import Corpus, bills, parse_count
    from latebolt.errors import InvalidInput

    try:
        count = parse_count(documents)
    except InvalidInput as error:
        raise InvalidInput(f"--documents {error}") from error
    corpus = Corpus(count, tokens_per_document)
    widths = (reference_dim, *numbers(dims, "--dim"))
    found = bills(corpus, widths, numbers(bits, "--bits"), price_gb_month, quoted_bill, qdrant_factor)
    if as_json:
        print_json([bill.record() for bill in found])
        return
    priced = found[0].usd_month is not None
    head = ("store", "dim", "bytes a token", "with lists", "GB", *(["USD a month"] if priced else []))
    rows = [
        (
            bill.store,
            str(bill.dim),
            f"{bill.vector_bytes / bill.tokens:g}",
            f"{bill.bytes / bill.tokens:.1f}",
            f"{bill.bytes / 1e9:,.1f}",
            *([f"{bill.usd_month:,.2f}"] if bill.usd_month is not None else []),
            f"{bill.saving:.1f}",
        )
        for bill in found
    ]
    say(table([(*head, "times less"), *rows]))
