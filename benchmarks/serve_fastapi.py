"""`latebolt serve` where FastAPI answers by itself, without our router, for `serve.py --only roads`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from latebolt.cli import main
from latebolt.serve.http import app
from latebolt.serve.http.description import described_by_fastapi
from latebolt.serve.http.routes import Route


def fastapi_alone(routes: Iterable[Route], _reader: object, start_and_stop: ASGIApp) -> ASGIApp:
    """FastAPI with the same routes; what is no request goes where it goes without."""
    described = described_by_fastapi(routes)

    async def either(scope: Scope, receive: Receive, send: Send) -> Any:
        return await (described if scope["type"] == "http" else start_and_stop)(scope, receive, send)

    return either


if __name__ == "__main__":
    app.Router = fastapi_alone  # type: ignore[assignment,misc]
    sys.exit(main())
