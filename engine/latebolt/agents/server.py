"""The tools as a server of the Model Context Protocol, over stdio or streamable HTTP, by the official SDK.

Whatever goes wrong in a tool is an answer that the model can read and act on; what nobody expected goes to
the log, and the model learns only that there was an error.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
import uvicorn
from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from latebolt import __version__
from latebolt.agents.access import RIGHT, Access
from latebolt.agents.tools import Tool, Toolbox
from latebolt.errors import LateboltError
from latebolt.serve.keys import Keys, Right
from latebolt.serve.log import error_fields
from latebolt.serve.problems import problem_of

PATH: Final = "/mcp"
_MOST_BODY: Final = 16_000_000
_MOST_CONNECTIONS: Final = 256
_SHUTDOWN_SECONDS: Final = 10
# Names of this machine: what a page of the web reaches us by, through a name of its own, is none of them.
_HERE: Final = ("127.0.0.1", "localhost", "[::1]")

logger = logging.getLogger("latebolt")


def make_server(toolbox: Toolbox) -> Server[Any]:
    """The protocol's server."""

    async def list_tools(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(toolbox, tool) for tool in toolbox.tools.values()])

    async def call_tool(
        context: ServerRequestContext[Any], asked: types.CallToolRequestParams
    ) -> types.CallToolResult:
        try:
            answer = await toolbox.call(asked.name, asked.arguments or {}, _right_of(context))
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is told and nobody else fails
            return types.CallToolResult(content=[_text(_told(error))], is_error=True)
        content = msgspec.json.encode(answer).decode()
        return types.CallToolResult(content=[_text(content)], structured_content=answer)

    return Server(
        "latebolt",
        version=__version__,
        title="latebolt",
        instructions=toolbox.instructions(),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _right_of(context: ServerRequestContext[Any]) -> Right:
    """What the caller may: over HTTP what `Access` has found; over stdio whoever started us may all."""
    if context.request is None:
        return "write"
    right: Right = context.request.scope.get(RIGHT, "read")
    return right


def _told(error: Exception) -> str:
    problem = problem_of(error) if isinstance(error, LateboltError) else None
    if problem is not None and problem.code != "internal_error":
        return problem.detail  # names no folder of this machine
    logger.error("a tool failed: %s (%s, %s)", error, *error_fields(error).values())
    return "an error of the server, which its log names. Another request may go well."


def _described(toolbox: Toolbox, tool: Tool) -> types.Tool:
    reads = tool.needs == "read"
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=toolbox.description(tool.name),
        input_schema=toolbox.schema(tool.name),
        annotations=types.ToolAnnotations(
            read_only_hint=reads, destructive_hint=not reads, idempotent_hint=reads, open_world_hint=False
        ),
    )


async def serve_stdio(toolbox: Toolbox) -> None:
    """Answer the program that started this one, until it closes its end."""
    server = make_server(toolbox)
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


def make_app(toolbox: Toolbox, keys: Keys, is_loopback: bool) -> Access:
    """The server over streamable HTTP, without sessions: any process can answer any request."""
    hosts = [name for here in _HERE for name in (here, f"{here}:*")]
    security = TransportSecuritySettings(
        # Beyond this machine no list of names is known; there keys are needed, and `Access` sees to origins.
        enable_dns_rebinding_protection=is_loopback,
        allowed_hosts=hosts,
        allowed_origins=[f"http://{host}" for host in hosts],
    )
    app: Starlette = make_server(toolbox).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=_MOST_BODY,
        transport_security=security,
    )
    return Access(app, keys)


def http_server(app: Access) -> uvicorn.Server:
    """A server to be run at a socket that listens."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )
