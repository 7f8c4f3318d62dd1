"""`latebolt encode`: token vectors of a file's documents as .npz."""

from __future__ import annotations

import click

from latebolt.cli.common import is_terminal, json_option, model_options, note, print_json


@click.command("encode")
@click.argument("file")
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--query", "as_query", is_flag=True, help="Encode as queries instead of documents.")
@click.option("--pool-factor", type=click.IntRange(min=1), default=1, show_default=True, help="Pool tokens.")
@model_options
@json_option
def encode_command(
    file: str,
    out: str,
    as_query: bool,
    pool_factor: int,
    model: str,
    precision: str | None,
    dim: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write the token vectors of FILE's texts (one a line, .jsonl, or -) to OUT.npz.

    OUT holds `values` float32 [n_tokens, dim], `offsets` int64 [n_texts + 1] and `ids`.

    \b
    latebolt encode passages.txt passages.npz
    latebolt encode questions.txt questions.npz --query --dim 64
    """
    from latebolt import Encoder
    from latebolt.cli.inputs import read_passages
    from latebolt.cli.outputs import write_npz

    passages = read_passages(file)
    encoder = Encoder.load(model, precision, dim, device, threads)
    texts = [passage.text for passage in passages]
    if as_query:
        vectors = encoder.encode_queries(texts)
    else:
        vectors = encoder.encode_documents(texts, show_progress=is_terminal(), pool_factor=pool_factor)
    written = write_npz(out, vectors, [passage.id or str(n) for n, passage in enumerate(passages)])
    if as_json:
        print_json(
            {"out": str(written), "texts": len(vectors), "tokens": vectors.n_tokens, "dim": vectors.dim}
        )
    else:
        note(f"{written}: {len(vectors)} texts, {vectors.n_tokens} tokens, dim {vectors.dim}")
