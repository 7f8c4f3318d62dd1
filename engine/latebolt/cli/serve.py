"""`latebolt serve`: options and environment variables from the table of settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import click

from latebolt.errors import InvalidInput, RuntimeUnavailable
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


_POSITIVE = click.FloatRange(min=0, min_open=True)
_RAY: tuple[tuple[str, Any, Any, str], ...] = (
    ("address", None, None, "Of the Ray cluster.  [default: RAY_ADDRESS, else one on this machine]"),
    ("name", None, "latebolt", "Of the application: another one of that name is replaced without a pause."),
    ("shards", click.IntRange(min=1), None, "How many are expected; another number is refused."),
    ("replicas", click.IntRange(min=1), 1, "Of each shard."),
    ("most_replicas", click.IntRange(min=1), None, "Of each shard: Ray adds up to so many under load."),
    ("replicas_per_node", click.IntRange(min=1), None, "Of a shard; 1 keeps them on different machines."),
    ("cpus_per_replica", _POSITIVE, 1.0, "Of each shard's replicas; --threads are those of a server."),
    ("shard_timeout", _POSITIVE, 10.0, "Seconds that a search waits for a shard."),
    ("detach", None, False, "Leave it running in a cluster that was there."),
)


def _with_ray(function: Any) -> Any:
    for name, kind, default, help in reversed(_RAY):
        function = click.option(
            option(name),
            name,
            type=kind,
            is_flag=default is False,
            default=default,
            show_default=default not in (None, False),
            help=f"On Ray: {help[0].lower()}{help[1:]}",
        )(function)
    return click.option(
        "--on", type=click.Choice(["here", "ray"]), default="here", show_default=True, help="Where."
    )(function)


@click.command("serve")
@_with_ray
@_with_settings
@click.pass_context
def serve_command(context: click.Context, /, on: str, **values: Any) -> int:
    """Serve Jina's HTTP contract and named indexes.

    On Ray, indexes are shard sets of `latebolt split`, in a folder that every machine reaches: each shard is
    searched by replicas of its own, --workers are the servers that answer HTTP and ask them. See docs/ray.md.

    \b
    latebolt serve
    latebolt serve --index docs=./my-index
    latebolt serve --model ./model --host 0.0.0.0 --keys-file keys.txt --workers 4
    latebolt serve --on ray --index docs=./my-index.shards --replicas 2
    """
    of_ray = {name: values.pop(name) for name, *_ in _RAY}
    default = click.core.ParameterSource.DEFAULT
    given = {name for name in context.params if context.get_parameter_source(name) is not default}
    if on == "ray":
        from latebolt.cli.serve_ray import serve_on_ray

        return serve_on_ray({name: value for name, value in values.items() if name in given}, of_ray)
    if unfit := sorted(given & of_ray.keys()):
        raise InvalidInput(f"{option(unfit[0])} needs --on ray.")
    settings = Settings(**values)
    try:
        import uvicorn  # noqa: F401 - the first of what the extra brings
    except ImportError as error:
        raise RuntimeUnavailable(
            "the server's libraries are not installed. Run \"pip install 'latebolt[cpu,serve]'\"."
        ) from error
    from latebolt.serve.process import run

    return run(settings)
