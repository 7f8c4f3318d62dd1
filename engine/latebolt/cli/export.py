"""`latebolt export`: a checkpoint becomes a model folder (needs the `export` extra)."""

from __future__ import annotations

import click

from latebolt.cli.common import json_option, note, print_json


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command("export")
@click.argument("source")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--precisions", default="fp32,fp16,int8", show_default=True, help="Graphs to make.")
@click.option("--dims", default="", help="Heads to make, e.g. 128,96,64.  [default: all of the checkpoint]")
@click.option("--head", type=click.Path(dir_okay=False), help="A .safetensors file with linear.weight.")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@json_option
def export_command(
    source: str, out: str, precisions: str, dims: str, head: str | None, overwrite: bool, as_json: bool
) -> None:
    """Turn the checkpoint SOURCE (a folder) into the model folder OUT.

    Every graph is compared with the PyTorch model before OUT appears; the comparison is kept as
    OUT/REPORT.md and report.json. Needs: pip install 'latebolt[export]'

    \b
    latebolt export ./colbertv2.0 ./colbertv2-onnx
    latebolt export ./my-model ./out --precisions int8 --dims 128,64
    """
    from latebolt.errors import InvalidInput, RuntimeUnavailable

    try:
        from latebolt_export import export_model
    except ImportError as error:
        raise RuntimeUnavailable(
            "the exporter is not installed. Run \"pip install 'latebolt[export]'\"."
        ) from error
    try:
        widths = tuple(int(part) for part in _names(dims)) or None
    except ValueError as error:
        raise InvalidInput(f'--dims should be numbers such as 128,96,64, got "{dims}".') from error
    report = export_model(
        source,
        out,
        precisions=_names(precisions),
        dims=widths,
        head=head,
        overwrite=overwrite,
        progress=note,
    )
    if as_json:
        print_json(report)
