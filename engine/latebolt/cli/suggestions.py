"""What was probably meant by words of the command line that fit nothing: other commands, another order.

Options that are mistyped are click's own to suggest; here are commands, and words in another's place.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import click

from latebolt.cli.common import is_index
from latebolt.errors import InvalidInput

_NEAR: Final = 0.7  # share of letters that two words have in common, for one to be meant by the other
# How other tools call what a command does.
_ELSEWHERE: Final = {
    "add": "index",
    "build": "index",
    "create": "index",
    "ingest": "index",
    "follow": "watch",
    "ask": "search",
    "find": "search",
    "query": "search",
    "rank": "rerank",
    "embed": "encode",
    "rm": "delete",
    "remove": "delete",
    "set": "update",
    "dump": "export-docs",
    "convert": "export",
    "pack": "bundle",
    "package": "bundle",
    "server": "serve",
    "start": "serve",
    "agents": "mcp",
    "ls": "list",
    "describe": "info",
    "show": "info",
    "stats": "info",
    "status": "info",
    "fsck": "check",
    "verify": "check",
    "optimize": "compact",
    "vacuum": "compact",
    "shard": "split",
    "rebalance": "split",
    "merge": "join",
    "destroy": "drop",
    "evaluate": "eval",
    "price": "cost",
    "diagnose": "doctor",
    "version": "--version",
}

_OPTIONS_ELSEWHERE: Final = {
    "--top-k": "-k",
    "--topk": "-k",
    "--top-n": "-k",
    "--limit": "-k",
    "-n": "-k",
    "--filter": "--where",
    "--force": "--yes",
    "-f": "--yes",
}


def of_command(words: Sequence[str], commands: Collection[str]) -> str:
    """What is said of a command that there is not.

    Args:
        words: of the command line; the first is none of the commands.
        commands: that there are.
    """
    import difflib

    name, *behind = words
    said = f"No such command {name!r}."
    lower = name.lower()
    near = difflib.get_close_matches(lower, [*commands], 3, _NEAR)
    if lower in _ELSEWHERE:
        near = [_ELSEWHERE[lower], *(each for each in near if each != _ELSEWHERE[lower])]
    if Path(name).exists() or not near:
        place = next((place for place, word in enumerate(behind) if word in commands), None)
        if place is not None:
            meant = [behind[place], name, *behind[:place], *behind[place + 1 :]]
            return f"{said} The command comes first. Did you mean {_line(meant)}?"
        if is_index(name):
            meant = ["search" if behind else "info", name, *behind]
            return f"{said} The command comes first. Did you mean {_line(meant)}?"
    if not near:
        return f"{said} latebolt --help lists them."
    return f"{said} Did you mean {' or '.join(near)}?"


def of_option(error: click.NoSuchOption, words: Sequence[str], commands: Collection[str]) -> click.UsageError:
    """What is said of an option that there is not.

    Args:
        error: what click says, near names included.
        words: of the command line.
        commands: that there are.
    """
    context, option = error.ctx, error.option_name
    if context is None:
        return error
    group = context.command
    if isinstance(group, click.Group):
        command = next((word for word in words if word in commands), None)
        if command is None or option not in _options(group.get_command(context, command)):
            return error
        said = f"No such option {option!r} of latebolt itself. Options of {command} stand behind it."
        return click.UsageError(said, context)
    there = _options(context.command)
    ours = _OPTIONS_ELSEWHERE.get(option)
    # The beginning of an option's name means it, however near the letters of another are.
    begun = sorted(name for name in there if len(option) > len("--x") and name.startswith(option))
    meant = [ours] if ours in there else begun
    if not meant:
        return error
    named = " or ".join(repr(name) for name in meant)
    return click.UsageError(f"No such option {option!r}. Did you mean {named}?", context)


def _options(command: click.Command | None) -> set[str]:
    return set() if command is None else {name for each in command.params for name in each.opts}


def check_index_first(index: str, *others: str) -> None:
    """Raise InvalidInput where what stands behind the index is one, and what stands in its place is none."""
    if not is_index(index) and len(others) == 1 and is_index(others[0]):
        raise InvalidInput(
            f"{others[0]}: is an index, and the index comes first. {did_you_mean(others[0], index)}"
        )


def did_you_mean(*arguments: str) -> str:
    """The command that runs, with its arguments in another order, as a question."""
    return f"Did you mean {_line([click.get_current_context().info_name or '', *arguments])}?"


def _line(words: Sequence[str]) -> str:
    return shlex.join(["latebolt", *words])
