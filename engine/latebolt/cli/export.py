"""`latebolt export`: a checkpoint becomes a model folder (needs the `export` extra)."""

from __future__ import annotations

from pathlib import Path

import click

from latebolt.cli.common import json_option
from latebolt.cli.suggestions import did_you_mean
from latebolt.cli.terminal import note, print_json, say


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command("export")
@click.argument("source")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--precisions", default="fp32,fp16,int8", show_default=True, help="Graphs to make.")
@click.option("--dims", default="", help="Heads to make, e.g. 128,96,64.  [default: all of the checkpoint]")
@click.option(
    "--head",
    "heads",
    type=click.Path(dir_okay=False),
    multiple=True,
    help="A .safetensors file with linear.weight [dim, hidden] (linear.bias, residual.weight), instead of "
    "the checkpoint's own; repeatable.",
)
@click.option(
    "--sibling",
    "siblings",
    multiple=True,
    help="A checkpoint (folder or hub id) whose head belongs to the same encoder; repeatable.",
)
@click.option(
    "--isa",
    type=click.Choice(["auto", "avx2", "avx512_vnni", "arm64"]),
    default="auto",
    show_default=True,
    help="What the int8 graph is for; auto gives the same vectors on every CPU.",
)
@click.option(
    "--embeddings",
    type=click.Choice(["int8", "int4"]),
    default="int8",
    show_default=True,
    help="The word table of the int8 graph; int4 takes 0.56 of int8, for large vocabularies.",
)
@click.option(
    "--document-window",
    type=int,
    metavar="TOKENS",
    help="Longer documents are read in windows of so many, and have the vectors of all.  [default: at once]",
)
@click.option("--half-outputs", is_flag=True, help="The fp16 graph gives float16 vectors, not float32.")
@click.option("--revision", help="Commit, tag or branch of a hub id.  [default: main, pinned in OUT]")
@click.option("--name", help="What the model calls itself.  [default: SOURCE's name]")
@click.option(
    "--collection",
    type=click.Path(file_okay=False),
    help="Folder in BEIR layout: nDCG@10 of every graph is measured on it and held to the budget.",
)
@click.option(
    "--calibrate",
    type=click.Path(file_okay=False),
    multiple=True,
    help="Folder in BEIR layout: confidence of hits is fitted on its questions; repeatable.",
)
@click.option(
    "--compare",
    type=click.Choice(["sentence-transformers", "pylate", "colbert-ai"]),
    help="The library that SOURCE was made for: REPORT.md puts its tokens and vectors beside ours.",
)
@click.option(
    "--compare-python",
    type=click.Path(dir_okay=False),
    help="The Python that has that library.  [default: this one]",
)
@click.option("--fp32-max-abs", type=float, help="Budget: largest difference to PyTorch.  [default: 1e-4]")
@click.option("--fp16-min-cosine", type=float, help="Budget: cosine of the worst token.  [default: 0.999]")
@click.option("--int8-mean-cosine", type=float, help="Budget: mean token cosine.  [default: 0.99]")
@click.option("--int8-ndcg-loss", type=float, help="Budget: nDCG@10 below fp32.  [default: 0.005]")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it is a model folder already.")
@json_option
def export_command(
    source: str,
    out: str,
    precisions: str,
    dims: str,
    heads: tuple[str, ...],
    siblings: tuple[str, ...],
    isa: str,
    embeddings: str,
    document_window: int | None,
    half_outputs: bool,
    revision: str | None,
    name: str | None,
    collection: str | None,
    calibrate: tuple[str, ...],
    compare: str | None,
    compare_python: str | None,
    overwrite: bool,
    as_json: bool,
    **budgets: float | None,
) -> None:
    """Turn SOURCE into the model folder OUT.

    SOURCE is a checkpoint folder in the Stanford or PyLate layout, a hub id, or an ONNX file or folder that
    somebody else exported (which needs no torch). No code of a checkpoint is ever run.

    Every graph is compared with the PyTorch model before OUT appears; the comparison is kept as
    OUT/REPORT.md and report.json. A graph past its budget fails the export, which says what was worst.
    Needs: pip install 'latebolt[export]'

    \b
    latebolt export jinaai/jina-colbert-v2 ./jina --precisions int8
    latebolt export ./colbertv2.0 ./colbertv2-onnx
    latebolt export ./my-model ./out --dims 128,64 --collection ./beir/scifact
    latebolt export ./their-onnx-folder ./out --precisions fp16,int8
    """
    from latebolt.errors import InvalidInput, RuntimeUnavailable

    try:
        from latebolt_export import Budgets, export_model
    except ImportError as error:
        raise RuntimeUnavailable(
            "the exporter is not installed. Run \"pip install 'latebolt[export]'\"."
        ) from error
    try:
        widths = tuple(int(part) for part in _names(dims)) or None
    except ValueError as error:
        raise InvalidInput(f'--dims should be numbers such as 128,96,64, got "{dims}".') from error
    # What no model folder of ours has, and every checkpoint.
    if not Path(source).exists() and (Path(out) / "config.json").is_file():
        raise InvalidInput(f"{source}: there is no such checkpoint. {did_you_mean(out, source)}")
    contract = export_model(
        source,
        out,
        precisions=_names(precisions),
        dims=widths,
        head=heads or None,
        siblings=siblings,
        isa=isa,
        embeddings=embeddings,
        document_window=document_window,
        half_outputs=half_outputs,
        revision=revision,
        name=name,
        collection=collection,
        calibrate=calibrate,
        compare=compare,
        compare_python=compare_python,
        budgets=Budgets(**{budget: value for budget, value in budgets.items() if value is not None}),
        overwrite=overwrite,
        progress=note,
    )
    if as_json:
        print_json(contract)
    else:
        say((Path(out) / "REPORT.md").read_text(encoding="utf-8"))
