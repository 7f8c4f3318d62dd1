"""`latebolt encode`: token vectors of a file's documents as .npz, or of many files' on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latebolt.cli.common import is_terminal, json_option, model_options
from latebolt.cli.indexing import pooling_options
from latebolt.cli.suggestions import did_you_mean
from latebolt.cli.terminal import note, print_json, stdout_kept
from latebolt.errors import InvalidInput


@click.command("encode")
@click.argument("files", nargs=-1, required=True)
@click.argument("out", type=click.Path())
@click.option("--query", "as_query", is_flag=True, help="Encode as queries instead of documents.")
@pooling_options("Of documents: ")
@click.option("--on", type=click.Choice(["here", "ray"]), default="here", show_default=True, help="Where.")
@click.option("--index", type=click.Path(), help="On Ray: write parts of this index, encoded with its model.")
@click.option("--text-column", default="text", show_default=True, help="On Ray: Parquet column of texts.")
@click.option("--id-column", default="id", show_default=True, help="On Ray: Parquet column of ids.")
@click.option("--address", help="Of the Ray cluster.  [default: RAY_ADDRESS, else one on this machine]")
@click.option("--workers", type=click.IntRange(min=1), help="On Ray: at most so many.  [default: as fit]")
@click.option(
    "--cpus-per-worker",
    type=click.FloatRange(min=0, min_open=True),
    default=1,
    show_default=True,
    help="On Ray.",
)
@click.option("--gpus-per-worker", type=click.FloatRange(min=0), default=0, show_default=True, help="On Ray.")
@click.option("--rows-per-part", type=click.IntRange(min=1), default=4096, show_default=True, help="On Ray.")
@model_options
@json_option
@click.pass_context
def encode_command(
    context: click.Context, /, files: tuple[str, ...], out: str, on: str, as_json: bool, **options: Any
) -> None:
    """Write the token vectors of FILES' texts to OUT.

    Here, FILES is one file (a text a line, .jsonl, or - for standard input), and OUT.npz holds `values`
    float32 [n_tokens, dim], `offsets` int64 [n_texts + 1] and `ids`.

    On Ray, FILES are Parquet or .jsonl files, or folders or URLs of either, whose texts all have an id of
    their own. OUT is a folder that every worker reaches: it gets Parquet files with the columns `values` and
    `lengths` beside the others, or, with --index, parts of that index, in the index's own codes. `latebolt
    adopt` takes both in without encoding again. A worker that dies is started anew; when the whole job was
    stopped, run the same command again, and the parts that are there stay.

    \b
    latebolt encode passages.txt passages.npz
    latebolt encode questions.txt questions.npz --query --dim 64
    latebolt encode --on ray --workers 4 corpus.parquet vectors
    latebolt encode --on ray --address auto --index my.index /shared/corpus /shared/parts
    latebolt adopt my.index /shared/parts
    """
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
    }
    if on == "ray":
        from latebolt.cli.bulk import encode_on_ray

        with stdout_kept():
            record = encode_on_ray(files, out, given, **options)
            if as_json:
                print_json(record)
            else:
                note(
                    f"{record['out']}: {record['texts']} texts, {record['tokens']} tokens in "
                    f"{record['parts']} parts ({record['reused']} were there), {record['seconds']:.1f} s"
                )
        return
    only_ray = {
        "index",
        "text_column",
        "id_column",
        "address",
        "workers",
        "cpus_per_worker",
        "gpus_per_worker",
    }
    if unfit := sorted(given & (only_ray | {"rows_per_part"})):
        raise InvalidInput(f"--{unfit[0].replace('_', '-')} needs --on ray.")
    if len(files) != 1:
        raise InvalidInput(f"one file can be encoded here, got {len(files)}. Several need --on ray.")
    _encode_here(files[0], out, as_json, options)


def _encode_here(file: str, out: str, as_json: bool, options: dict[str, Any]) -> None:
    from latebolt import Encoder
    from latebolt.cli.outputs import write_npz
    from latebolt.corpus.documents import read_passages

    if file != "-" and not Path(file).exists() and Path(out).is_file() and not out.endswith(".npz"):
        raise InvalidInput(f"{file}: there is no such file, and OUT comes last. {did_you_mean(out, file)}")
    passages = read_passages(file)
    encoder = Encoder.load(*(options[name] for name in ("model", "precision", "dim", "device", "threads")))
    texts = [passage.text for passage in passages]
    if options["as_query"]:
        vectors = encoder.encode_queries(texts)
    else:
        vectors = encoder.encode_documents(
            texts,
            show_progress=is_terminal(),
            pool_factor=options["pool_factor"] or 1,
            max_vectors=options["max_vectors"],
        )
    written = write_npz(out, vectors, [passage.id or str(n) for n, passage in enumerate(passages)])
    if as_json:
        print_json(
            {"out": str(written), "texts": len(vectors), "tokens": vectors.n_tokens, "dim": vectors.dim}
        )
    else:
        note(f"{written}: {len(vectors)} texts, {vectors.n_tokens} tokens, dim {vectors.dim}")
