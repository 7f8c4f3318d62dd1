"""The command line: parses arguments, makes one library call, prints.

Heavy imports happen inside the commands, so `--help` stays instant. Anything worth a unit test belongs
below this package.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from latebolt import __version__, memory
from latebolt.cli.terminal import note, prepare, show_misuse
from latebolt.errors import InvalidInput, LateboltError

# command -> module that defines it; listed in the order --help shows them
_COMMANDS = {
    "demo": "demo",
    "export": "export",
    "bundle": "bundle",
    "index": "index",
    "watch": "watch",
    "search": "search",
    "rerank": "search",
    "encode": "encode",
    "delete": "documents",
    "update": "documents",
    "export-docs": "documents",
    "copy": "copy",
    "adopt": "adopt",
    "push": "push",
    "publish": "publish",
    "serve": "serve",
    "mcp": "mcp",
    "list": "indexes",
    "info": "maintain",
    "check": "maintain",
    "compact": "maintain",
    "backup": "backup",
    "restore": "backup",
    "split": "shards",
    "join": "shards",
    "drop": "indexes",
    "eval": "evaluate",
    "cost": "cost",
    "plan": "plan",
    "doctor": "doctor",
    "trim": "trim",
}


_EPILOG = """\b
Start with
latebolt demo
latebolt index notes.index ~/notes
latebolt search notes.index "how do I renew my passport"

`latebolt COMMAND --help` explains each command with examples.

Exit codes: 0 done; 1 it could not be done: something is not there (an index, a model, a file), is damaged, is
held by another process, or the disk is full; 2 misuse: the command line, or what it was given to read, is not
as it should be; 130 Ctrl-C.
"""

# Commands whose start and end take longer than what they do, and that leave nothing behind.
_SHORT = ("search", "rerank")


class _Commands(click.Group):
    """Commands whose modules are imported only when they are called or described."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"latebolt.cli.{_COMMANDS[name]}")
        command: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click, which knows nothing of commands that are not loaded."""
        if args[0] not in _COMMANDS and not args[0].startswith("-") and not context.resilient_parsing:
            from latebolt.cli.suggestions import of_command

            raise click.UsageError(of_command(args, _COMMANDS), context)
        return super().resolve_command(context, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="latebolt")
def cli() -> None:
    """Late-interaction (ColBERT-style) retrieval without PyTorch.

    Index texts, search them, rerank passages and export checkpoints, from a laptop folder to a service.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; `latebolt --help` says which exit codes there are."""
    prepare()
    named = sys.argv[1:] if arguments is None else arguments
    is_short = bool(named) and named[0] in _SHORT
    if is_short:
        gc.disable()  # it would look through what is imported and loaded again and again, to find nothing
        # The threads of NumPy's OpenBLAS wait for work by spinning 26 ms at first, on the cores that load the
        # model meanwhile. 2^4 clock ticks are enough.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if memory.is_small():
        # OpenBLAS reserves some 30 MB for each of its threads; what it multiplies here is little.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = run(arguments)
    if is_short and not (sys.gettrace() or sys.getprofile()):  # a profiler has something to say yet
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process as `sys.exit` does, but leave sessions, compiled kernels and modules to the system,
    which takes them in one piece."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, gone, or None
            stream.flush()
    os._exit(code)


def run(arguments: list[str] | None = None) -> int:
    """As `main`, but returns the exit code."""
    output = sys.stdout
    try:
        result: Any = cli.main(arguments, prog_name="latebolt", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # a disk that is full, or a reader that went away, is met here and not at exit
        return int(result or 0)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.NoSuchOption as error:
        from latebolt.cli.suggestions import of_option

        show_misuse(of_option(error, sys.argv[1:] if arguments is None else arguments, _COMMANDS))
        return int(error.exit_code)
    except click.ClickException as error:
        show_misuse(error)
        return int(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        # A long run of `latebolt index` may have committed before; nothing else is visible before its end.
        note(
            "latebolt: interrupted. Nothing is half done: indexes hold their last commit, models and files "
            "are as they were."
        )
        return 130
    except InvalidInput as error:
        note(f"latebolt: {error}")
        # What is not there has one code, be it a file, an index or a model.
        return 1 if isinstance(error, FileNotFoundError) else 2
    except LateboltError as error:
        note(f"latebolt: {error}")
        return 1
    except (MemoryError, RuntimeError) as error:
        from latebolt.encoder.session import WAYS_TO_NEED_LESS
        from latebolt.onnx_runtime import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        note(f"latebolt: there is not enough memory; the last commit of an index stands. {WAYS_TO_NEED_LESS}")
        return 1
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of ours. Python would complain
        # once more while it flushes stdout at exit, so stdout is replaced first.
        sys.stdout = None
        return 0
    except SystemExit as stop:
        # Click takes a reader that went away while it printed by wrapping stdout and exiting with 1.
        return 0 if sys.stdout is not output else int(stop.code or 0)
    except OSError as error:
        # Of a file that no part of the library speaks for; a message of ours says more.
        place = f"{error.filename}: " if error.filename is not None else ""
        hint = " Look at who may read and write it." if isinstance(error, PermissionError) else ""
        note(f"latebolt: {place}{error.strerror or error}.{hint}")
        return 1
