"""`latebolt delete`, `update` and `export-docs`: documents of an index by their ids or by a filter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from latebolt.cli.common import is_terminal, json_option, n_documents, open_index
from latebolt.cli.suggestions import check_index_first
from latebolt.cli.terminal import note, plain, print_json, say

if TYPE_CHECKING:
    from latebolt.index.ingest.read_back import Entry

F = TypeVar("F", bound=Callable[..., Any])

_MOST_NAMED: Final = 5  # of the documents without a text

where_option = click.option("--where", help="A filter, such as 'year < 2020 and not exists(keep)'.")


def _chosen_options(function: F) -> F:
    """--where, --ids, --ids-from."""
    for option in (
        click.option(
            "--ids-from", type=click.Path(), help="A file of ids, one a line; - for standard input."
        ),
        click.option("--ids", help="Ids with commas between."),
        where_option,
    ):
        function = option(function)
    return function


@click.command("delete")
@click.argument("index", type=click.Path())
@_chosen_options
@click.option("--dry-run", is_flag=True, help="Write nothing; list what would be deleted.")
@json_option
def delete_command(
    index: str, where: str | None, ids: str | None, ids_from: str | None, dry_run: bool, as_json: bool
) -> None:
    """Delete documents of INDEX, in one commit.

    With ids and a filter those that both name. Ids that are not there are ignored. To delete all documents,
    say --where 'exists(id)'. `latebolt compact` then frees their space at once.

    \b
    latebolt delete papers.index --where 'year < 2000' --dry-run
    latebolt delete papers.index --where 'year < 2000'
    latebolt delete notes.index --ids notes/a.md,notes/b.md
    cut -f1 gone.tsv | latebolt delete papers.index --ids-from -
    """
    from latebolt import Index

    names = _ids(ids, ids_from, where)
    opened = Index.open(index) if dry_run else open_index(index)
    if isinstance(opened, Index) and dry_run:
        found = opened.documents(where, names)
        if as_json:
            changes = [{"action": "deleted", "id": each.id} for each in found]
            print_json({"deleted": len(changes), "documents": len(opened), "changes": changes})
            return
        n = 0
        for each in found:
            say(f"deleted  {plain(each.id)}")
            n += 1
        note(f"{index}: {n_documents(n)} would be deleted")
        return
    n = opened.delete(names, where=where)
    if as_json:
        print_json({"deleted": n, "documents": len(opened)})
    else:
        note(f"{index}: {n_documents(n)} deleted, {len(opened)} left")


@click.command("update")
@click.argument("index", type=click.Path())
@_chosen_options
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Give a field a value, of JSON (2020, true, null, [1]) or else a string; may be repeated.",
)
@click.option("--unset", multiple=True, metavar="KEY", help="Remove a field; may be repeated.")
@click.option("--replace", metavar="JSON", help="An object that takes the place of all metadata.")
@json_option
def update_command(
    index: str,
    where: str | None,
    ids: str | None,
    ids_from: str | None,
    assignments: tuple[str, ...],
    unset: tuple[str, ...],
    replace: str | None,
    as_json: bool,
) -> None:
    """Change metadata of documents of INDEX, in one commit. Nothing is encoded, and no vector changes.

    With ids and a filter those documents that both name. author.name is a field inside another. Searches see
    the change at once. A document that `latebolt index` reads again gets the metadata of its file.

    \b
    latebolt update papers.index --where 'year < 2000' --set archived=true
    latebolt update papers.index --ids p1,p2 --set 'tags=["new", "read"]' --set author.name=Ada --unset draft
    latebolt update papers.index --ids-from ids.txt --replace '{"lang": "en"}'
    """
    names = _ids(ids, ids_from, where)
    given = dict(_assignment(each) for each in assignments)
    whole = None if replace is None else _object(replace)
    opened = open_index(index)
    n = opened.update_metadata(names, where, given or None, list(unset) or None, whole)
    if as_json:
        print_json({"updated": n, "documents": len(opened)})
    else:
        note(f"{index}: metadata of {n_documents(n)} changed")


@click.command("export-docs")
@click.argument("index", type=click.Path())
@click.argument("out", type=click.Path(allow_dash=True))
@where_option
def export_docs_command(index: str, out: str, where: str | None) -> None:
    """Write the documents of INDEX to OUT: a line of JSON each, with "id", "text" and "metadata".

    OUT is a .jsonl file, or .jsonl.gz, which is there when it is complete and otherwise as it was, or - for
    standard output. Texts are whole, also those that were cut into passages. `latebolt index NEW OUT` makes
    an index of the same documents.

    \b
    latebolt export-docs papers.index papers.jsonl
    latebolt export-docs papers.index recent.jsonl.gz --where 'year >= 2020'
    latebolt export-docs papers.index - | wc -l
    """
    from latebolt import Index
    from latebolt.cli.outputs import json_lines_to
    from latebolt.corpus.json_lines import json_line
    from latebolt.progress import progress_bar

    check_index_first(index, out)
    opened = Index.open(index)
    textless: list[str] = []
    n = 0

    def lines(found: Iterable[Entry], bar: progress_bar) -> Iterator[bytes]:
        nonlocal n
        for each in found:
            if each.text is None:
                textless.append(each.id)
            yield json_line(*each)
            n += 1
            bar.step(1)

    total = len(opened) if where is None else None
    with progress_bar(total, "export", "document", is_terminal()) as bar:
        json_lines_to(out, lines(opened.documents(where), bar))
    note(f"{index}: {n_documents(n)} written to {'standard output' if out == '-' else out}")
    if textless:
        named = ", ".join(plain(id) for id in textless[:_MOST_NAMED])
        more = f" and {len(textless) - _MOST_NAMED} more" if len(textless) > _MOST_NAMED else ""
        note(f"{n_documents(len(textless))} without a text, which an index cannot be made of: {named}{more}")


def _ids(ids: str | None, ids_from: str | None, where: str | None) -> list[str] | None:
    """The ids that were given; None for all documents that pass the filter.

    Raises:
        InvalidInput: no document was named in any way, or the file cannot be read.
    """
    from latebolt.errors import InvalidInput

    if ids is None and ids_from is None:
        if where is None:
            raise InvalidInput("give --where, --ids or --ids-from: which documents.")
        return None
    names = [name for each in (ids or "").split(",") if (name := each.strip())]
    return names if ids_from is None else [*names, *_lines(ids_from)]


def _lines(name: str) -> list[str]:
    from latebolt.corpus.documents import STANDARD_INPUT, standard_input
    from latebolt.corpus.open import lines_of, reading

    if name == "-":
        found = [line for _, line in lines_of(standard_input(), STANDARD_INPUT)]
    else:
        with reading(Path(name)) as file:
            found = [line for _, line in lines_of(file, name)]
    return [id for line in found if (id := line.rstrip("\r\n"))]


def _assignment(text: str) -> tuple[str, Any]:
    from latebolt.errors import InvalidInput

    name, sign, value = text.partition("=")
    if not name or not sign:
        raise InvalidInput(f"--set should be KEY=VALUE, got {text!r}.")
    try:
        return name, _json(value)
    except ValueError:
        return name, value


def _object(text: str) -> dict[str, Any]:
    from latebolt.errors import InvalidInput

    try:
        value = _json(text)
    except ValueError as error:
        raise InvalidInput(f"--replace is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise InvalidInput(f'--replace should be an object such as {{"lang": "en"}}, got {text!r:.60}.')
    return value


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
