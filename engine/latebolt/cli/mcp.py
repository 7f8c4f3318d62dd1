"""`latebolt mcp`: indexes as tools of AI agents, over stdio or HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click

from latebolt.cli.common import threads_option
from latebolt.cli.terminal import note
from latebolt.errors import InvalidInput, RuntimeUnavailable


@click.command("mcp")
@click.argument("indexes", nargs=-1, required=True, metavar="[NAME=]INDEX...")
@click.option("--write", is_flag=True, help="Let agents add documents, too.")
@click.option("--http", metavar="HOST:PORT", help="Listen there, at /mcp, instead of answering on stdio.")
@click.option(
    "--keys-file",
    envvar="LATEBOLT_SERVE_KEYS_FILE",
    show_envvar=True,
    help="File of keys for --http, as of latebolt serve.",
)
@click.option(
    "--keys",
    envvar="LATEBOLT_SERVE_KEYS",
    show_envvar=True,
    help="Keys in place of a file. Use the variable.",
)
@click.option(
    "--characters",
    type=click.IntRange(100, 50_000),
    default=2_000,
    show_default=True,
    help="Of a document's text in an answer, at most.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, cuda:0,cuda:1 or auto.")
@threads_option
def mcp_command(
    indexes: tuple[str, ...],
    write: bool,
    http: str | None,
    keys_file: str | None,
    keys: str | None,
    characters: int,
    device: str,
    threads: int | None,
) -> None:
    """Let AI agents search INDEX over the Model Context Protocol.

    The program that starts this one is answered on stdin and stdout.

    \b
    latebolt mcp notes.index
    latebolt mcp notes.index papers=./papers-2026.index --write
    latebolt mcp notes.index --http 127.0.0.1:8090 --keys-file keys.txt
    """
    try:
        import mcp.server  # noqa: F401 - what the extra brings
    except ImportError as error:
        raise RuntimeUnavailable(
            "the library of the protocol is not installed. Run \"pip install 'latebolt[cpu,mcp]'\"."
        ) from error
    from latebolt.agents.collections import Collections, named
    from latebolt.agents.server import PATH, http_server, make_app, serve_stdio
    from latebolt.agents.tools import Toolbox
    from latebolt.serve import hangup
    from latebolt.serve.keys import Keys
    from latebolt.serve.listening import listening, url_of
    from latebolt.serve.settings import is_loopback

    folders = named(indexes)

    def toolbox(collections: Collections) -> Toolbox:
        return Toolbox(collections, write, characters)

    async def answer_stdio() -> None:
        collections = Collections(folders, device, threads)
        try:
            await serve_stdio(toolbox(collections))
        finally:
            await collections.close()

    if http is None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _leave)
        asyncio.run(answer_stdio())
        return
    host, port = _place(http)
    known = Keys(keys or "", Path(keys_file).expanduser() if keys_file else None)
    if not known.required and not is_loopback(host):
        raise InvalidInput(
            f"--http {http} reaches beyond this machine, and there is no key. Give --keys-file, or listen at "
            "127.0.0.1."
        )

    hung_up = hangup.HangUp()

    async def answer_http() -> None:
        collections = Collections(folders, device, threads)
        try:
            with listening(host, port, "Choose another place with --http.") as listener:
                note(f"latebolt: agents are answered at {url_of(listener)}{PATH}")
                server = http_server(make_app(toolbox(collections), known, is_loopback(host)))

                def hear() -> None:
                    if hung_up.is_end():
                        server.should_exit = True
                    else:
                        known.reload()

                if hangup.SIGNAL is not None:
                    asyncio.get_running_loop().add_signal_handler(hangup.SIGNAL, hear)
                await server.serve(sockets=[listener])
        finally:
            await collections.close()

    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends by it, and raises it once more when it has
    asyncio.run(answer_http())


def _leave(number: int, _: object) -> None:
    """End at once: what reads stdin waits in a thread that nothing interrupts. An addition that is not on
    disk by now is as if it had never been."""
    os._exit(128 + number)


def _place(http: str) -> tuple[str, int]:
    host, colon, port = http.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise InvalidInput(f'--http should be HOST:PORT, such as 127.0.0.1:8090, got "{http}".')
    return host.strip("[]"), int(port)
