"""Fits confidence for a model folder that is there: `python -m latebolt_export.calibrate MODEL
COLLECTION...`.

The built-in models' confidence.json were made with this command; the files name the collections.
"""

from __future__ import annotations

from pathlib import Path

import click

from latebolt import confidence
from latebolt.caches import cache_folder
from latebolt.drafts import file_for
from latebolt.errors import LateboltError
from latebolt.evaluate import read_collection
from latebolt_export.judge.confidence import calibrate


@click.command()
@click.argument("model")
@click.argument("folders", nargs=-1, required=True, metavar="COLLECTION...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.  [default: confidence.json in MODEL]",
)
def main(model: str, folders: tuple[str, ...], out: Path | None) -> None:
    """Fit confidence for MODEL, a model folder, on questions with answers.

    A COLLECTION is a folder in BEIR layout: corpus.jsonl (_id, text), queries.jsonl (_id, text) and qrels.tsv
    (query, document, grade), plain or .gz. A document of grade 1 or more answers its question; none else
    should.
    """
    if out is None:
        if not Path(model).is_dir():
            raise click.UsageError(f'"{model}" is no folder here, so say by --out which file to write.')
        out = Path(model) / confidence.FILE_NAME
    try:
        collections = [read_collection(folder) for folder in folders]
        found = calibrate(model, collections, cache_folder("eval"), lambda step: click.echo(step, err=True))
        with file_for(out) as file:
            file.write(confidence.content(found))
    except LateboltError as error:
        raise click.ClickException(str(error)) from error
    click.echo(out)


if __name__ == "__main__":
    main()
