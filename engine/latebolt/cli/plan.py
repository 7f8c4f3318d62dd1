"""`latebolt plan`: how many machines a corpus wants, at each of several sizes."""

from __future__ import annotations

import click

from latebolt.cli.common import json_option, table
from latebolt.cli.terminal import print_json, say


@click.command("plan")
@click.option("--documents", required=True, metavar="N", help="Documents, one size or several: 1M,100M,1B.")
@click.option(
    "--tokens-per-document", type=float, default=60, show_default=True, help="Vectors a document, on average."
)
@click.option("--dim", type=int, default=128, show_default=True, help="Width of the vectors.")
@click.option(
    "--bits",
    type=click.Choice(["1", "2", "4", "8", "16"]),
    default="2",
    show_default=True,
    help="A dimension.",
)
@click.option(
    "--text-bytes", type=float, default=400, show_default=True, help="A document's text and its words."
)
@click.option(
    "--model",
    type=click.Choice(["starter", "multilingual"]),
    default="starter",
    show_default=True,
    help="Whose speed of encoding counts.",
)
@click.option("--memory-gb", type=float, default=128, show_default=True, help="A machine's memory.")
@click.option("--cores", type=int, default=16, show_default=True, help="A machine's cores.")
@click.option("--usd-month", type=float, help="What a machine costs a month.")
@click.option(
    "--queries-per-second", type=float, default=10, show_default=True, help="At the busiest time of the day."
)
@click.option(
    "--p95-ms", type=float, default=500, show_default=True, help="What 19 of 20 searches stay below."
)
@click.option("--replicas", type=int, default=1, show_default=True, help="Copies; 2 outlive a machine.")
@click.option(
    "--overhead-ms", type=float, help="What asking several shards adds.  [default: as measured with Ray, 20]"
)
@json_option
def plan_command(
    documents: str,
    tokens_per_document: float,
    dim: int,
    bits: str,
    text_bytes: float,
    model: str,
    memory_gb: float,
    cores: int,
    usd_month: float | None,
    queries_per_second: float,
    p95_ms: float,
    replicas: int,
    overhead_ms: float | None,
    as_json: bool,
) -> None:
    """How many machines a corpus wants: shards, memory, latency, queries a second, and the bill.

    Bytes are those of `latebolt cost`, times those that benchmarks/scale.py measured up to ten million
    passages in one index; beyond that there are more shards. Everything is in memory. The second table says
    how many of these machines other stores would need for their vectors alone.

    \b
    latebolt plan --documents 1M,10M,100M,1B
    latebolt plan --documents 100M --memory-gb 64 --cores 8 --usd-month 250 --replicas 2 --p95-ms 200
    """
    from latebolt.capacity import ENCODED, RAY_MS, Machine, Wish, plan, stores
    from latebolt.cost import Corpus, parse_count
    from latebolt.errors import InvalidInput

    try:
        counts = [parse_count(each) for each in documents.split(",")]
    except InvalidInput as error:
        raise InvalidInput(f"--documents {error}") from error
    machine = Machine(memory_gb, cores, usd_month)
    wish = Wish(queries_per_second, p95_ms, replicas, RAY_MS if overhead_ms is None else overhead_ms)
    corpora = [Corpus(count, tokens_per_document) for count in counts]
    plans = [
        plan(corpus, machine, wish, dim, int(bits), text_bytes, tokens_per_core_second=ENCODED[model])
        for corpus in corpora
    ]
    others = [stores(corpus, machine, wish, dim, int(bits)) for corpus in corpora]
    if as_json:
        print_json(
            [
                {**each.record(), "stores": [store._asdict() for store in beside]}
                for each, beside in zip(plans, others, strict=True)
            ]
        )
        return
    priced = usd_month is not None
    head = ("documents", "GB", "shards", "machines", "p50 ms", "p95 ms", "queries/s", "core-hours to encode")
    rows = [
        (
            f"{each.documents:,}",
            f"{each.index_gb:,.1f}",
            str(each.shards),
            f"{each.machines} ({each.limit})",
            f"{each.p50_ms:.0f}",
            f"{each.p95_ms:.0f}",
            f"{each.queries_per_second:,.0f}",
            f"{each.encode_core_hours:,.1f}",
            *([f"{each.usd_month:,.0f}"] if each.usd_month is not None else []),
        )
        for each in plans
    ]
    say(table([(*head, *(["USD a month"] if priced else [])), *rows]))
    say("\nMachines for the vectors of other stores, in memory, without texts:")
    names = [store.store for store in others[0]]
    lines = [(name, *(f"{beside[i].machines:,}" for beside in others)) for i, name in enumerate(names)]
    say(table([("store", *(f"{each.documents:,}" for each in plans)), *lines]))
