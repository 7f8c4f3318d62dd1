"""`latebolt serve`: options and environment variables from the table of settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import click

from latebolt.errors import RuntimeUnavailable
from latebolt.serve.settings import Settings, indexes_of, option, variable


class _Several(click.ParamType):  # type: ignore[type-arg]  # generic for mypy, not when it runs
    """One NAME=FOLDER of an option; of a variable as many as it holds."""

    name = "text"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """See click."""
        return indexes_of(rv)


def _with_settings(function: Any) -> Any:
    for field in reversed(dataclasses.fields(Settings)):
        flag, several = (isinstance(field.default, kind) for kind in (bool, tuple))
        function = click.option(
            option(field.name),
            field.name,
            type=None if flag else _Several() if several else type(field.default),
            is_flag=flag,
            multiple=several,
            default=field.default,
            envvar=variable(field.name),
            show_envvar=True,
            show_default=field.default not in ("", (), False) and len(str(field.default)) < 40,
            help=field.metadata["help"],
        )(function)
    return function


@click.command("serve")
@_with_settings
def serve_command(**given: Any) -> int:
    """Serve Jina's HTTP contract and named indexes.

    \b
    latebolt serve
    latebolt serve --index docs=./my-index
    latebolt serve --model ./model --host 0.0.0.0 --keys-file keys.txt --workers 4
    """
    settings = Settings(**given)
    try:
        import uvicorn  # noqa: F401 - the first of what the extra brings
    except ImportError as error:
        raise RuntimeUnavailable(
            "the server's libraries are not installed. Run \"pip install 'latebolt[cpu,serve]'\"."
        ) from error
    from latebolt.serve.process import run

    return run(settings)
